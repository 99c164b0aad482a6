"""The configs: what they accept, refuse and say."""

import subprocess
import sys

import pytest
from pydantic import TypeAdapter, ValidationError

from codestill.losses import CrossEntropy, Distillation, Objective

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
    assert adapter.validate_json(objective.model_dump_json()) == objective


def test_defaults_are_filled_in_where_they_apply():
    assert Distillation(divergence="generalized_jsd").beta == 0.5
    assert Distillation(divergence="skew_kl").skew == 0.1
    assert Distillation().beta is None
    assert Distillation().parameters == {}
    assert Distillation(divergence="skew_reverse_kl", skew=0.3).parameters == {"skew": 0.3}


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"beta": 0.3}, "beta has no effect on forward_kl.*generalized_jsd"),
        ({"divergence": "skew_kl", "beta": 0.3}, "beta has no effect on skew_kl"),
        ({"divergence": "generalized_jsd", "skew": 0.0}, "skew has no effect on generalized_jsd"),
        ({"divergence": "skew_kl", "skew": 1.0}, "skew\n.*less than 1"),
        ({"divergence": "generalized_jsd", "beta": 1.1}, "beta\n.*less than or equal to 1"),
        ({"divergence": "kl"}, "divergence\n.*'forward_kl'"),
        ({"temperature": 0.0}, "temperature\n.*greater than 0"),
        ({"temperature": float("inf")}, "temperature\n.*finite"),
        ({"alpha": 1.5}, "alpha\n"),
        ({"gamma": 1.0}, "gamma\n"),
    ],
)
def test_refuses(settings: dict, complaint: str):
    with pytest.raises(ValidationError, match=complaint):
        Distillation.model_validate(settings)


def test_needs_teacher():
    assert not CrossEntropy().needs_teacher
    assert Distillation().needs_teacher
    assert not Distillation(alpha=0).needs_teacher


def test_configs_do_not_import_torch():
    program = "import sys, codestill.losses; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
