"""Where a round's time goes."""

from pathlib import Path

import pytest
import torch
from tests.support.worlds import metrics, open_run

from codestill.files.serialize import read_jsonl
from codestill.recipes.opd.times import Times
from codestill.teachers import LocalTeacherConfig
from codestill.types import Event


def test_what_is_nested_counts_once_and_shares_are_said(tmp_path: Path) -> None:
    clock = iter([0.0, 3.0, 10.0, 11.0, 14.0, 19.0])
    times = Times(now=lambda: next(clock))
    with times.of("attempts"):
        pass
    with times.of("student"), times.of("teacher"):
        pass
    assert times.seconds == {"attempts": 3, "answers": 0, "gap": 0, "teacher": 3, "student": 6}
    with open_run(tmp_path / "run") as run:
        times.tell(run.part("round-1"))
    (logged,) = metrics(tmp_path / "run", "round-1/time")
    assert logged.metrics["teacher_seconds"] == 3
    (said,) = (e.message for e in read_jsonl(tmp_path / "run" / "metrics.jsonl", Event) if e.message)
    assert said.startswith("of 12 s in this process: 50% the student's training, 25% the student's attempts")
    assert "gap" not in said


def test_a_timed_teacher_says_what_it_says_and_counts_every_pass() -> None:
    clock = iter(range(100))
    times = Times(now=lambda: float(next(clock)))
    teacher = LocalTeacherConfig(model="pocket", dtype="float32").build()
    timed = times.timed(teacher)
    tokens, mask = torch.tensor([[5, 6, 7]]), torch.ones(1, 3, dtype=torch.long)
    assert torch.equal(timed.logits(tokens, mask), teacher.logits(tokens, mask))
    linear = timed.linear(tokens, mask)
    assert linear is not None and linear.hidden_BTD.shape[:2] == (1, 3)
    assert times.seconds["teacher"] == pytest.approx(2)
    assert timed.vocabulary_size == teacher.vocabulary_size
    assert getattr(timed, "positions", None) == teacher.positions
