"""Iterative distillation: what is kept of a round, its switches, and what the report says."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tests.support.worlds import javascript_task

from codestill.errors import ConfigError, TaskError
from codestill.files.serialize import read_jsonl, read_record
from codestill.recipes.iterkd.recipe import Config, distill
from codestill.recipes.iterkd.records import RoundRecord
from codestill.report import write_report
from codestill.run import Run
from codestill.types import Attempt, Event, Example

SETTINGS: dict[str, Any] = {
    "student": "pocket-base",
    "warm_up": None,
    "teacher": {"model": "pocket", "dtype": "float32"},
    "tasks": {"source": "pocket", "split": "train", "count": 6, "depths": [2]},
    "rounds": 2,
    "solution": {"max_new_tokens": 64},
    "attempts": {"max_new_tokens": 48, "temperature": 0.3},
    "feedback": {"judge": {"sampling": {"max_new_tokens": 96}}},
    "update": {"synthesis": {"proposals": 9, "novelty": 1.0}},
    "train": {"max_steps": 2, "batch_tokens": 400, "accumulation": 1},
    "validation": {"source": "pocket", "split": "validation", "count": 3, "depths": [2]},
    "retention_tasks": 2,
    "evaluate": {
        "tasks": {"source": "pocket", "split": "test", "count": 2, "depths": [2]},
        "samples_per_task": 1,
        "greedy": False,
        "max_new_tokens": 24,
        "profile": False,
    },
    "execution": {"device": "cpu"},
}


def distilled(directory: Path, **changes: Any) -> list[RoundRecord]:
    torch.set_num_threads(1)
    config = Config.model_validate(SETTINGS | changes)
    with Run.open(directory, config) as run:
        distill(config, run)
    paths = sorted(directory.glob("round-*/round.json"))
    return [read_record(path, RoundRecord) for path in paths]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[RoundRecord]]:
    directory = tmp_path_factory.mktemp("iterkd") / "run"
    return directory, distilled(directory)


def test_a_round_is_told_whole(made: tuple[Path, list[RoundRecord]]) -> None:
    directory, cycles = made
    assert [one.round for one in cycles] == [1, 2]
    first, second = cycles
    attempts = list(read_jsonl(directory / "stages" / "round-1" / "attempts.jsonl", Attempt))
    assert first.attempts == len(attempts) == 12 and first.tasks == 6
    assert first.passed == sum(one.result.passed for one in attempts)
    assert sum(first.bins.values()) == 6
    assert [one.view for one in first.calibrations] == ["model", "tool", "both"]
    assert all(one.scored + one.unreadable >= 12 for one in first.calibrations)
    assert sum(first.errors_before.values()) == sum(first.errors_after.values()) == 6
    assert second.errors_before == first.errors_after
    assert set(first.pass_at) == {1, 2} and first.gain is not None and first.kept is not None
    written = sum(
        json.loads(line)["completion_tokens"]
        for line in (directory / "ledger.jsonl").read_text().splitlines()
        if json.loads(line)["stage"].startswith("round-1/")
    )
    # Two attempts alike are one question to the judge; a round is charged for both.
    assert 0 < written <= first.teacher_tokens


def test_faults_are_the_students_and_failed(made: tuple[Path, list[RoundRecord]]) -> None:
    directory, cycles = made
    rows = list(read_jsonl(directory / "round-1" / "examples.jsonl", Example))
    attempts = read_jsonl(directory / "stages" / "round-1" / "attempts.jsonl", Attempt)
    failed = {one.completion.text for one in attempts if not one.result.passed}
    faults = [fault for row in rows for fault in row.faults]
    assert len(rows) == cycles[0].solved and faults
    assert all(fault.source == "student" and fault.completion in failed for fault in faults)
    assert cycles[0].faults == {"student": len(faults)}
    assert sum(cycles[0].fault_errors.values()) == len(faults)
    events = read_jsonl(directory / "metrics.jsonl", Event)
    step = next(one.metrics for one in events if one.stage == "round-1/train" and one.step == 1)
    assert {"contrast", "gap", "ranked"} <= step.keys()


def test_new_questions_are_new(made: tuple[Path, list[RoundRecord]]) -> None:
    directory, cycles = made
    first, second = (
        {row.prompt for row in read_jsonl(directory / name, Example)}
        for name in ("round-1/examples.jsonl", "examples.jsonl")
    )
    assert second and not first & second
    assert cycles[1].tasks == cycles[1].solved  # each brings the answer that its tests were made of
    asked = sum(
        len((directory / "stages" / "round-1" / name / "proposals.jsonl").read_text().splitlines())
        for name in ("easy", "medium", "hard")
        if (directory / "stages" / "round-1" / name).exists()
    )
    assert asked == 9


def test_the_report_tells_of_rounds_views_and_errors(made: tuple[Path, list[RoundRecord]]) -> None:
    html, markdown = (path.read_text("utf-8") for path in write_report([made[0]]))
    for title in ("Rounds", "Views against the tests", "Errors on validation"):
        assert title in html and title in markdown
    bad = [one for cycle in made[1] for one in cycle.calibrations if one.warning]
    assert bad  # twelve attempts are too few
    assert bad[0].warning.partition(":")[0] in html


def test_static_questions_with_cross_entropy_alone_and_examples_replayed(
    made: tuple[Path, list[RoundRecord]], tmp_path: Path
) -> None:
    changes = {
        "teacher_usage": {"answers": str(made[0] / "answers")},  # what it was asked there
        "replay_examples": 2,
        "update": {"questions": "static"},
        "feedback": {"views": "tool"},
        "objective": {"type": "cross_entropy"},
    }
    cycles = distilled(tmp_path / "run", **changes)
    rows = [
        {row.prompt for row in read_jsonl(tmp_path / "run" / name, Example)}
        for name in ("round-1/examples.jsonl", "examples.jsonl")
    ]
    assert rows[0] == rows[1]
    account = json.loads((tmp_path / "run" / "accounting.json").read_text())
    assert account["examples"] == cycles[1].solved + 2  # of the last training
    assert [one.view for one in cycles[0].calibrations] == ["tool"]
    stages = {path.stem for path in (tmp_path / "run" / "stages" / "round-1").iterdir()}
    assert "judgements" not in stages and "proposals" not in stages


def test_it_stops_when_validation_stalls(made: tuple[Path, list[RoundRecord]], tmp_path: Path) -> None:
    known = {"teacher_usage": {"answers": str(made[0] / "answers")}}
    static = {"update": {"questions": "static"}}
    cycles = distilled(tmp_path / "run", rounds=5, stop={"rounds": 1}, **static, **known)
    assert len(cycles) == 1
    assert (tmp_path / "run" / "student" / "model.safetensors").exists()
    assert (tmp_path / "run" / "results" / "student.json").exists()
    messages = [one.message for one in read_jsonl(tmp_path / "run" / "metrics.jsonl", Event)]
    assert "after round 1 of 5: validation stalls" in messages


def test_nothing_to_learn_from_says_so(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="round 1 has no training example"):
        distilled(tmp_path / "run", solution={"max_new_tokens": 1})


def test_a_view_no_better_than_chance_is_the_first_line(
    made: tuple[Path, list[RoundRecord]], capsys: pytest.CaptureFixture[str]
) -> None:
    from codestill.cli.tables import print_run

    bad = next((c.round, one) for c in made[1] for one in c.calibrations if one.warning)
    print_run(made[0])
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(f"round {bad[0]}: the {bad[1].view} view")


def test_a_set_without_the_question_and_tasks_in_another_language_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"judge.form: continued-2 has no question to answer yes or no"):
        Config.model_validate({"feedback": {"judge": {"form": "yes-no"}}, "prompts": "continued"})
    with pytest.raises(ConfigError, match=r"judge.form: continued-2 has no question to answer yes or no"):
        distilled(tmp_path / "asked", feedback={"judge": {"form": "yes-no"}})
    assert not (tmp_path / "asked" / "warm-up").exists()
    path = tmp_path / "tasks.jsonl"
    path.write_text(json.dumps(javascript_task()) + "\n")
    tasks = {"source": "jsonl", "path": str(path), "split": "train", "stop": "javascript"}
    with pytest.raises(ConfigError, match="js/0 is in JavaScript, and new tasks are made in Python alone"):
        distilled(tmp_path / "run", tasks=tasks)
    assert not (tmp_path / "run" / "round-1").exists()
