"""Rounds: whose student each trains, and a round that has nothing to train on."""

from pathlib import Path
from typing import Any

import pytest
from tests.support.worlds import examples, student, weights

from codestill.errors import TaskError
from codestill.files.run_files import read_accounting
from codestill.files.serialize import read_jsonl
from codestill.rounds import Round, RoundsConfig, in_rounds
from codestill.run import Run
from codestill.types import Event, Example

NOTHING = TaskError("nothing to learn.", next_step="Give more.")


def ran(directory: Path, *collected: list[Example], **settings: Any) -> list[tuple[int, list[str]]]:
    """Rounds that train on nothing but what is collected, and move a weight by one: number and names."""
    trained: list[tuple[int, list[str]]] = []
    evaluated: list[str] = []
    config = RoundsConfig.model_validate({"rounds": len(collected), "evaluated": "last"} | settings)

    def train(this: Round, learner: Any, new: list[Example], given: list[Example]) -> Any:
        assert given[: len(new)] == new
        trained.append((this.number, [example.example_id for example in given]))
        next(iter(learner.model.parameters())).data.flatten()[0] += 1
        learner.save(this.keeper.student_directory)
        return learner

    with Run.open(directory, config) as run:
        in_rounds(
            config,
            run,
            student,
            collect=lambda this: this.named(collected[this.number]),
            train=train,
            evaluate=lambda _, keeper: evaluated.append(keeper.prefix),
            nothing=NOTHING,
        )
    assert evaluated == [""]
    return trained


def test_a_later_round_without_examples_keeps_the_student(tmp_path: Path) -> None:
    two = examples(2)
    assert ran(tmp_path / "run", two, []) == [(0, [f"round-1/{one.example_id}" for one in two])]
    assert weights(tmp_path / "run") == weights(tmp_path / "run" / "round-1")
    said = [event.message for event in read_jsonl(tmp_path / "run" / "metrics.jsonl", Event)]
    assert said == ["this round gave no training example: the student stays as it was"]
    account = read_accounting(tmp_path / "run")
    assert account["round-1/examples"] == 2 and account["round-1/example_tokens"] > 0  # pyright: ignore
    assert account["round-2/examples"] == account["round-2/example_tokens"] == 0


def test_a_first_round_without_examples_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="nothing to learn"):
        ran(tmp_path / "run", [], examples(1))


def test_a_round_replays_earlier_ones(tmp_path: Path) -> None:
    (one,) = examples(1)
    names = [f"round-{number}/{one.example_id}" for number in (1, 2, 3)]
    assert ran(tmp_path / "run", [one], [], [one], replay_examples=1) == [
        (0, names[:1]),
        (1, names[:1]),
        (2, [names[2], names[0]]),
    ]


@pytest.mark.parametrize(("start", "moved"), [("base", 1), ("last", 2)])
def test_a_round_trains_what_it_is_told_to(start: str, moved: int, tmp_path: Path) -> None:
    given = examples(1)
    ran(tmp_path / "run", given, given, start=start)
    before = next(iter(student().model.parameters())).flatten()[0]
    after = next(iter(student(tmp_path / "run" / "student").model.parameters())).flatten()[0]
    assert float((after - before).detach()) == pytest.approx(moved, abs=1e-5)
