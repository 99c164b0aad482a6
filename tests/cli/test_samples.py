"""``codestill evaluate --samples``: scores of completions made elsewhere, and what may be wrong with them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import TASKS, Codestill, assert_refused, write_rows, write_samples

from codestill.evaluation import read_evaluation
from codestill.types import Evaluation

RIGHT = {str(row["task_id"]): str(row["reference"]) for row in TASKS}
SCORE = ("evaluate", "--samples", "samples.jsonl", "--tasks", "tasks.jsonl", "--run-dir", "run")


def result() -> Evaluation:
    return read_evaluation(Path("run/results/student.json"))


def test_samples_are_scored(codestill: Codestill) -> None:
    write_samples(
        Path("samples.jsonl"),
        ("same", RIGHT["same"]),
        ("next", RIGHT["next"]),
        ("same", "    return 1\n"),
        ("next", "    return x + 1.0\n"),
        ("next", ""),
        ("same", "    raise SystemExit\n"),
    )
    outcome = codestill(*SCORE)
    assert outcome.code == 0, outcome.err
    found = result()
    assert found.per_task == {"same": (3, 1), "next": (3, 2)}
    assert found.pass_at[1].mean == pytest.approx(1 / 2)
    assert found.pass_at[2].mean == pytest.approx((2 / 3 + 1) / 2)
    assert found.pass_at[3].mean == 1
    assert found.verdicts["pass"] == 3 and sum(found.verdicts.values()) == 6
    assert found.stop_rule == "none" and not found.subset
    assert "50.0%" in outcome.out and "reference 2/2, empty 0/2, pass body 0/2" in outcome.out


def test_the_same_command_again_reads_the_result(codestill: Codestill) -> None:
    write_samples(Path("samples.jsonl"), *RIGHT.items())
    first = codestill(*SCORE)
    before = Path("run/results/student.json").stat()
    again = codestill(*SCORE, "--execution.workers", "1")
    assert (again.code, again.out) == (0, first.out)
    assert Path("run/results/student.json").stat() == before


def test_other_samples_under_the_old_name_do_not_get_the_old_score(codestill: Codestill) -> None:
    write_samples(Path("samples.jsonl"), *RIGHT.items())
    codestill(*SCORE)
    write_samples(Path("samples.jsonl"), ("same", ""), ("next", ""))
    assert_refused(codestill(*SCORE), "evaluate-student.jsonl was made from other items", "Delete")
    for ending in ("jsonl", "json"):  # what the message advises
        Path(f"run/stages/evaluate-student.{ending}").unlink()
    assert codestill(*SCORE).code == 0
    assert result().per_task == {"same": (1, 0), "next": (1, 0)}


def test_changed_tests_do_not_get_the_old_score(codestill: Codestill) -> None:
    write_samples(Path("samples.jsonl"), *RIGHT.items())
    codestill(*SCORE)
    write_rows(Path("tasks.jsonl"), [TASKS[0], {**TASKS[1], "tests": ["assert next(5) == 6"]}])
    assert_refused(codestill(*SCORE), "tasks:all is not what it was", "another run directory")


def test_a_task_set_without_a_working_reference_gives_no_number(codestill: Codestill) -> None:
    write_rows(Path("tasks.jsonl"), [TASKS[0], {**TASKS[1], "tests": ["assert next(1) == 3"]}])
    write_samples(Path("samples.jsonl"), *RIGHT.items())
    outcome = codestill(*SCORE)
    assert outcome.code == 1
    assert "the reference solutions pass 1/2" in outcome.err and "next: reference: wrong" in outcome.err
    assert not Path("run/results").exists() and "%" not in outcome.out
    write_rows(Path("tasks.jsonl"), TASKS)  # mended: the same command goes on
    assert codestill(*SCORE).code == 0


def test_a_task_that_nothing_fails_gives_no_number(codestill: Codestill) -> None:
    write_rows(Path("tasks.jsonl"), [TASKS[0], {**TASKS[1], "tests": ["assert True"]}])
    write_samples(Path("samples.jsonl"), *RIGHT.items())
    outcome = codestill(*SCORE)
    assert outcome.code == 1 and "a bare `pass` body passes 1/2" in outcome.err
    assert not Path("run/results").exists()


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ([("same", "")], ("lacks task 'next' of tasks:all", "0 unknown, 1 missing")),
        ([("same", ""), ("next", ""), ("third", "")], ("has task 'third'", "1 unknown, 0 missing")),
        ([("same", ""), ("next", ""), ("next", "")], ("between 1 and 2 samples per task", "same number")),
    ],
)
def test_a_samples_file_for_other_tasks(
    codestill: Codestill, rows: list[tuple[str, str]], parts: tuple[str, ...]
) -> None:
    write_samples(Path("samples.jsonl"), *rows)
    assert_refused(codestill(*SCORE), "samples.jsonl", *parts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ("has no rows",)),
        ('{"task_id": "same"}\n', ("samples.jsonl:1", "neither `completion` nor `solution`")),
        ('{"task_id": 1, "completion": ""}\n', ("samples.jsonl:1", "task_id")),
        ('{"task_id": "same", "completion": ""}\n{"task', ("samples.jsonl:2", "not JSON")),
    ],
)
def test_a_damaged_samples_file(codestill: Codestill, text: str, parts: tuple[str, ...]) -> None:
    Path("samples.jsonl").write_text(text)
    assert_refused(codestill(*SCORE), *parts)


def test_missing_files(codestill: Codestill) -> None:
    assert_refused(codestill(*SCORE), "Cannot read samples.jsonl: there is no such file")
    Path("tasks.jsonl").unlink()
    assert_refused(codestill(*SCORE), "Cannot read tasks.jsonl: there is no such file")


def test_scoring_needs_no_torch(tmp_path: Path) -> None:
    for name in ("torch", "transformers", "datasets"):
        package = tmp_path / "blocked" / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(f"raise ImportError('{name} is blocked')\n")
    write_rows(tmp_path / "tasks.jsonl", TASKS)
    write_samples(tmp_path / "samples.jsonl", *RIGHT.items())
    done = subprocess.run(
        [sys.executable, "-c", "from codestill.cli import main; main()", *SCORE],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path / "blocked")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "run/results/student.json").read_text())
    assert found["pass_at"]["1"]["mean"] == 1


def fenced(text: str) -> str:
    return f"Of course.\n\n```python\n{text}```\nDone."


@pytest.mark.parametrize(
    ("form", "made"),
    [
        ("answer", lambda row: fenced(row["prompt"] + row["reference"])),
        ("stripped", lambda row: row["reference"].strip()),
    ],
)
def test_another_form_of_samples_is_recognised_and_said_first(codestill: Codestill, form: str, made) -> None:
    write_samples(Path("samples.jsonl"), *((str(row["task_id"]), made(row)) for row in TASKS))
    outcome = codestill(*SCORE)
    assert outcome.code == 0 and result().pass_at[1].mean == 1
    assert outcome.out.startswith("WARNING: samples.jsonl") and f"read as `{form}`" in outcome.out
    as_they_stand = codestill(*SCORE[:-1], "plain", "--form", "completion")
    assert read_evaluation(Path("plain/results/student.json")).pass_at[1].mean == 0
    assert as_they_stand.out.startswith("WARNING: 2 of 2 samples are no Python program"), as_they_stand.out


def test_a_whole_program_is_a_completion(codestill: Codestill) -> None:
    programs = {
        str(row["task_id"]): f"from __future__ import annotations\n{row['prompt']}{row['reference']}"
        for row in TASKS
    }
    write_samples(Path("samples.jsonl"), *programs.items())
    outcome = codestill(*SCORE)
    assert result().pass_at[1].mean == 1 and "WARNING" not in outcome.out
