"""Training with faulty programs beside right ones."""

from pathlib import Path
from typing import Any

import pytest
from tests.support.worlds import examples, metrics, open_run, student, weights

from codestill.losses import Contrastive, CrossEntropy, Objective
from codestill.train import TrainConfig, fit
from codestill.types import Example, Fault


def with_faults(count: int = 6) -> list[Example]:
    """Every second example has two faulty programs, of different lengths."""
    plain = examples(count)
    made = []
    for number, example in enumerate(plain):
        wrong = [plain[(number + step) % count].completion for step in (1, 2)]
        faults = tuple(Fault(completion=one, source="student", error="AssertionError") for one in wrong)
        made.append(example.model_copy(update={"faults": faults if number % 2 == 0 else ()}))
    return made


def trained(directory: Path, objective: Objective, **changes: Any) -> list[dict[str, Any]]:
    settings = {"max_steps": 3, "batch_tokens": 300, "accumulation": 2, "learning_rate": 1e-3, **changes}
    with open_run(directory) as run:
        fit(student(), with_faults(), objective, TrainConfig(**settings), run, validation=with_faults(2))
    return [dict(event.metrics) for event in metrics(directory)]


def test_at_weight_zero_it_is_cross_entropy_bit_for_bit(tmp_path: Path) -> None:
    plain = trained(tmp_path / "ce", CrossEntropy())
    zero = trained(tmp_path / "zero", Contrastive(weight=0.0))
    assert weights(tmp_path / "zero") == weights(tmp_path / "ce")
    assert [one["loss"] for one in zero] == [one["loss"] for one in plain]
    assert "contrast" not in zero[0]


@pytest.mark.parametrize("contrast", ["hinge", "infonce", "dpo"])
def test_the_same_right_programs_and_a_contrast_that_falls(contrast: Any, tmp_path: Path) -> None:
    settings = {"max_steps": 12, "batch_tokens": 2000, "accumulation": 1}
    plain = trained(tmp_path / "ce", CrossEntropy(), **settings)
    found = trained(tmp_path / "run", Contrastive(contrast=contrast, weight=1.0), **settings)
    assert found[0]["cross_entropy"] == pytest.approx(plain[0]["cross_entropy"], rel=1e-4)
    assert found[-1]["contrast"] < found[0]["contrast"] and found[-1]["gap"] > found[0]["gap"]
    assert 0 <= found[0]["ranked"] <= found[-1]["ranked"] <= 1
    assert found[0]["loss"] == pytest.approx(found[0]["cross_entropy"] + found[0]["contrast"], rel=1e-4)
    if contrast == "dpo":  # nothing gained yet
        assert found[0]["contrast"] == pytest.approx(0.6931, abs=1e-3)


@pytest.mark.parametrize("contrast", ["infonce", "dpo"])
def test_the_split_into_micro_batches_changes_nothing(contrast: Any, tmp_path: Path) -> None:
    objective = Contrastive(contrast=contrast, weight=1.0)
    # 6 examples in one batch, or in several that make one step.
    whole = trained(tmp_path / "whole", objective, batch_tokens=4000, accumulation=1, max_steps=1)
    parts = trained(tmp_path / "parts", objective, batch_tokens=150, accumulation=6, max_steps=1)
    for name in ("loss", "cross_entropy", "contrast", "gap", "gradient_norm"):
        assert parts[0][name] == pytest.approx(whole[0][name], rel=1e-3), name
