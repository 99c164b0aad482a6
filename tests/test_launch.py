"""Runs from Python: the same as from the command line, and read back."""

import shutil
from pathlib import Path
from typing import Any

import pytest

import codestill
from codestill.cli import main
from codestill.errors import ConfigError, RunError
from codestill.files.run_files import Marker
from codestill.files.serialize import read_record, write_object
from codestill.launch import say_what_is_there
from codestill.types import Event

EVALUATE: dict[str, Any] = {
    "tasks": {"source": "pocket", "split": "test", "count": 3},
    "samples_per_task": 2,
    "max_new_tokens": 24,
    "profile": False,
}
SETTINGS: dict[str, Any] = {
    "student": "pocket-base",
    "examples": {"tasks": {"source": "pocket", "split": "train", "count": 6}},
    "train": {"max_steps": 2},
    "evaluate": EVALUATE,
}
OPTIONS = (
    *("--student", "pocket-base", "--train.max-steps", "2"),
    *("--examples.tasks.source", "pocket", "--examples.tasks.split", "train", "--examples.tasks.count", "6"),
    *("--evaluate.tasks.source", "pocket", "--evaluate.tasks.split", "test", "--evaluate.tasks.count", "3"),
    *("--evaluate.samples-per-task", "2", "--evaluate.max-new-tokens", "24", "--evaluate.profile=false"),
)


def command(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> codestill.RunFiles:
    return codestill.distill("sft", str(tmp_path_factory.mktemp("launch") / "mine"), **SETTINGS)


def test_a_run_is_the_one_that_the_command_line_makes(
    made: codestill.RunFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command("run", "sft", "--run-dir", str(tmp_path / "mine"), *OPTIONS)
    for name in ("config.yaml", "examples.jsonl", "results/student.json", "stages/evaluate-student.jsonl"):
        assert (tmp_path / "mine" / name).read_bytes() == (made.path / name).read_bytes()
    printed = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert set(map(str.strip, repr(made.scores).splitlines())) <= set(printed)


def test_what_is_read_back_is_what_was_made(made: codestill.RunFiles) -> None:
    assert next(stage.name for stage in made.stages) == "examples"
    assert len(made.rows("evaluate-student")) == 6
    failing = made.rows("evaluate-student", verdict="failing")
    passed = made.rows("evaluate-student", verdict="pass")
    assert {row.verdict for row in failing}.isdisjoint({"pass", ""}) and len(failing) + len(passed) == 6
    assert list(made.metrics["train"]["loss"]) == [1, 2]
    assert made.accounting["examples"] == 6
    path, count = made.export("sft")
    assert count == 6 and len(path.read_text(encoding="utf-8").splitlines()) == 6
    assert repr(made).startswith(f"{made.path}: sft\n\nmodel")
    assert codestill.read_run(made.path) == made
    assert [run.path for run in codestill.list_runs(made.path.parent)] == [made.path]


def test_the_same_call_continues(made: codestill.RunFiles) -> None:
    def written() -> dict[Path, int]:
        files = [path for path in made.path.rglob("*.jsonl") if path.name != "sessions.jsonl"]
        return {path: path.stat().st_mtime_ns for path in files}

    before = written()
    again = codestill.distill("sft", made.path, **SETTINGS)
    assert written() == before
    assert again == made


def test_a_model_is_scored_as_on_the_command_line(tmp_path: Path) -> None:
    found = codestill.score_model(
        "pocket-base",
        {"source": "pocket", "split": "test", "count": 3},
        tmp_path / "here",
        dtype="bfloat16",
        samples_per_task=1,
        max_new_tokens=8,
        profile=False,
    )
    command(
        *("evaluate", "pocket-base", "--run-dir", str(tmp_path / "there"), "--dtype", "bfloat16"),
        *("--tasks.source", "pocket", "--tasks.split", "test", "--tasks.count", "3"),
        *("--samples-per-task", "1", "--max-new-tokens", "8", "--profile=false"),
    )
    assert codestill.read_run(tmp_path / "there").evaluations == {"student": found}
    assert found.samples_per_task == 1


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        (lambda place: codestill.distill("sft", place, studnt="pocket-base"), "Did you mean student"),
        (
            lambda place: codestill.score_model("pocket", "pocket:test", place, greedi=True),
            "Did you mean greedy",
        ),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(call: Any, hint: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=hint):
        call(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_directory_that_holds_something_else_is_refused(made: codestill.RunFiles, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run"):
        codestill.read_run(tmp_path)
    with pytest.raises(RunError, match=r"no comparison\.json") as refused:
        codestill.read_comparison(made.path)
    assert "codestill.read_run" in refused.value.next_step


def test_a_step_that_was_logged_twice_has_its_last_value(made: codestill.RunFiles) -> None:
    from dataclasses import replace

    events = tuple(Event(stage="train", step=step, metrics={"loss": loss, "note": "text"}) for step, loss in
                   ((2, 0.5), (1, 1.0), (2, 0.25)))  # fmt: skip
    assert replace(made, events=events).metrics == {"train": {"loss": {1: 1.0, 2: 0.25}}}
    assert list(replace(made, events=events).metrics["train"]["loss"]) == [1, 2]


def test_a_run_that_is_continued_says_how_far_it_is(made: codestill.RunFiles, tmp_path: Path) -> None:
    told: list[Event] = []
    say_what_is_there(tmp_path, told.append)  # new: there is nothing to say
    say_what_is_there(made.path, told.append)
    stopped = tmp_path / "stopped"
    shutil.copytree(made.path, stopped)
    (stopped / "results/student.json").unlink()
    marker = stopped / "stages/evaluate-student.json"
    write_object(marker, read_record(marker, Marker).model_copy(update={"done": False}))
    records = stopped / "stages/evaluate-student.jsonl"
    records.write_text("".join(records.read_text().splitlines(keepends=True)[:4]))
    say_what_is_there(stopped, told.append)
    assert [event.message for event in told] == [
        "continues: what is finished is kept",
        "continues: evaluate-student, 4 of 6",
    ]
