"""The configs: what they accept, refuse and say."""

import subprocess
import sys

import pytest
from pydantic import TypeAdapter, ValidationError

from codestill.losses import DIVERGENCES, Contrastive, CrossEntropy, Distillation, Objective

adapter: TypeAdapter = TypeAdapter(Objective)


def test_type_chooses_the_config():
    assert adapter.validate_python({"type": "cross_entropy"}) == CrossEntropy()
    assert adapter.validate_python({"type": "distillation"}) == Distillation()
    with pytest.raises(ValidationError, match="distillation"):
        adapter.validate_python({"type": "hinton"})


@pytest.mark.parametrize(
    "objective",
    [
        CrossEntropy(),
        Distillation(alpha=1.0, temperature=1.0),
        Distillation(divergence="generalized_jsd", beta=0.0),
        Distillation(divergence="skew_reverse_kl"),
    ],
)
def test_survives_json(objective: CrossEntropy | Distillation):
    again = adapter.validate_json(objective.model_dump_json())
    assert again.model_dump() == objective.model_dump() and type(again) is type(objective)


def test_defaults_are_filled_in_where_they_apply():
    assert Distillation(divergence="generalized_jsd").parameters == {"beta": 0.5}
    assert Distillation(divergence="skew_kl").parameters == {"skew": 0.1}
    assert Distillation().parameters == {}
    assert Distillation(divergence="skew_reverse_kl", skew=0.3).parameters == {"skew": 0.3}
    assert Contrastive().parameters == {"margin": 0.5} and Contrastive().parameter == 0.5
    assert Contrastive(contrast="dpo", dpo_beta=1.0).parameter == 1


def test_what_is_saved_holds_the_values_in_use():
    assert Distillation(divergence="generalized_jsd").model_dump()["beta"] == 0.5
    assert Distillation(divergence="skew_kl", skew=0.3).model_dump()["skew"] == 0.3
    assert Distillation(divergence="skew_kl").model_dump()["beta"] is None
    assert Distillation(divergence="skew_kl").model_dump(exclude_unset=True) == {"divergence": "skew_kl"}
    assert Contrastive(contrast="infonce").model_dump()["tau"] == 0.5


def test_another_choice_inherits_no_default():
    """As a recipe's defaults are merged with what a user gives."""
    for default, change in (
        (Distillation(divergence="generalized_jsd"), {"divergence": "skew_kl"}),
        (Distillation(divergence="skew_kl"), {"divergence": "forward_kl"}),
        (Contrastive(), {"contrast": "dpo"}),
    ):
        changed = default.model_copy(update=change)
        fresh = type(default).model_validate(change)
        assert changed == fresh and changed.parameters == fresh.parameters


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"beta": 0.3}, "beta has no effect on forward_kl.*generalized_jsd"),
        ({"divergence": "skew_kl", "beta": 0.3}, "beta has no effect on skew_kl"),
        ({"divergence": "generalized_jsd", "skew": 0.0}, "skew has no effect on generalized_jsd"),
        ({"divergence": "skew_kl", "skew": 1.0}, "skew\n.*less than 1"),
        ({"divergence": "generalized_jsd", "beta": 1.1}, "beta\n.*less than or equal to 1"),
        ({"divergence": "kl"}, "divergence\n.*'kl' is not a divergence. Choose one of forward_kl, .*skew_kl"),
        ({"divergence": "foward_kl"}, r"Did you mean forward_kl\?"),
        ({"divergence": ["forward_kl"]}, "is not a divergence"),
        ({"temperature": 0.0}, "temperature\n.*greater than 0"),
        ({"temperature": float("inf")}, "temperature\n.*finite"),
        ({"alpha": 1.5}, "alpha\n"),
        ({"gamma": 1.0}, "gamma\n"),
    ],
)
def test_refuses(settings: dict, complaint: str):
    with pytest.raises(ValidationError, match=complaint):
        Distillation.model_validate(settings)


def test_a_default_is_in_range_and_every_parameter_has_a_field():
    for name, entry in DIVERGENCES.items():
        if entry.parameter is None:
            assert not entry.ends
            continue
        entry.parameter.require(entry.default)
        assert set(entry.ends.values()) <= set(DIVERGENCES)
        field = {entry.parameter.name: entry.default}
        assert Distillation.model_validate({"divergence": name, **field}).parameters == field


def test_needs_teacher():
    assert not CrossEntropy().needs_teacher
    assert Distillation().needs_teacher
    assert not Distillation(alpha=0).needs_teacher


def test_configs_do_not_import_torch():
    program = "import sys, codestill.losses; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
