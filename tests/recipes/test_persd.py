"""Personalised distillation: what is kept of a round, and the switches that change it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from codestill.errors import TaskError
from codestill.recipes.persd import Config, distill
from codestill.run import Run
from codestill.serialize import read_jsonl
from codestill.tasks import TasksConfig, write_tasks
from codestill.types import Attempt, Refinement

TASKS: dict[str, Any] = {"source": "pocket", "split": "train", "count": 6, "depths": [2]}
SETTINGS: dict[str, Any] = {
    "student": "pocket-base",
    "warm_up": None,
    "teacher": {"model": "pocket", "dtype": "float32"},
    "tasks": TASKS,
    "attempts": {"max_new_tokens": 48, "temperature": 0.3},
    "refine": {"sampling": {"max_new_tokens": 64}},
    "train": {"max_steps": 2, "batch_tokens": 400, "accumulation": 1},
    "evaluate": {
        "tasks": {"source": "pocket", "split": "test", "count": 2, "depths": [2]},
        "samples_per_task": 1,
        "greedy": False,
        "max_new_tokens": 24,
        "profile": False,
    },
    "execution": {"device": "cpu"},
}


def distilled(directory: Path, **changes: Any) -> dict[str, Any]:
    """What the run accounts for."""
    torch.set_num_threads(1)
    config = Config.model_validate(SETTINGS | changes)
    with Run.open(directory, config) as run:
        distill(config, run)
    return json.loads((directory / "accounting.json").read_text())


def test_a_round_keeps_every_step_and_how_personal_it_was(tmp_path: Path) -> None:
    account = distilled(tmp_path / "run", arm="persd")
    stages = tmp_path / "run" / "stages" / "round-1"
    attempts = list(read_jsonl(stages / "attempts.jsonl", Attempt))
    refinements = list(read_jsonl(stages / "refinements.jsonl", Refinement))
    failed = {one.key for one in attempts if not one.result.passed}
    assert {one.key for one in refinements} == failed
    good = [one for one in refinements if one.result.passed]
    assert account["round-1/refined"] == account["round-1/rows"] == len(good) >= 2
    assert account["round-1/attempts"] == len(attempts) == account["round-1/solved"]
    assert account["round-1/attempts_passed"] == len(attempts) - len(failed)
    calls = (tmp_path / "run" / "ledger.jsonl").read_text().splitlines()
    assert account["round-1/teacher_calls"] == len(calls) == 6 + len(refinements)
    for one in refinements:
        assert one.feedback
        assert one.attempt.completion.text != one.completion.text or not one.result.passed
    nearness = json.loads((tmp_path / "run" / "round-1" / "nearness.json").read_text())
    assert nearness["count"] + nearness["empty"] == len(good)


def test_tasks_that_the_evaluation_repeats_are_left_out(tmp_path: Path) -> None:
    tasks = TasksConfig.model_validate(TASKS).load().tasks
    again = [
        task.model_copy(update={"task_id": f"again/{n}", "split": "test"}) for n, task in enumerate(tasks[:2])
    ]
    write_tasks(tmp_path / "test.jsonl", again)
    evaluate = SETTINGS["evaluate"] | {"tasks": {"source": "jsonl", "path": str(tmp_path / "test.jsonl")}}
    settings = {"evaluate": evaluate, "decontaminate": {"neighbours": 0}, "arm": "stand"}
    account = distilled(tmp_path / "run", **settings)
    assert account["round-1/tasks"] <= 4
    report = (tmp_path / "run" / "round-1" / "decontamination.txt").read_text()
    for task in tasks[:2]:
        assert task.task_id in report


def test_the_teacher_makes_the_tasks_from_seeds(tmp_path: Path) -> None:
    made = {"proposals": 9, "novelty": 1.0}
    account = distilled(tmp_path / "run", synthesis=made, arm="stand")
    assert account["round-1/proposals"] == 9
    assert 2 <= account["round-1/tasks"] == account["round-1/tasks_made"] <= 9
    assert account["round-1/rows"] == account["round-1/solved"] >= 2


def test_a_round_without_rows_says_so(tmp_path: Path) -> None:
    hopeless = {"arm": "persd", "refine": {"sampling": {"max_new_tokens": 1}}}
    with pytest.raises(TaskError, match="first round gave no row"):
        distilled(tmp_path / "run", **hopeless)
