"""The programs in ``examples/`` run as their page says."""

import subprocess
import sys
from pathlib import Path

import pytest

from codestill.cli import main
from codestill.evaluation import read_evaluation

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code


def test_the_page_lists_every_example():
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    files = [path.name for path in EXAMPLES.iterdir() if path.is_file() and path.name != "README.md"]
    assert files and all(f"({name})" in page for name in files)


def test_the_sandbox_alone_tells_the_solutions_apart():
    done = subprocess.run(
        [sys.executable, EXAMPLES / "sandbox_alone.py"], capture_output=True, text=True, check=True
    )
    verdicts = dict(
        line.split(": ") for line in done.stdout.splitlines() if line[0] != " " and ": " in line[:12]
    )
    assert verdicts == {
        "correct": "pass",
        "faulty": "exception",
        "endless": "cpu_timeout",
        "cheating": "undecidable",
    }
    assert "ZeroDivisionError" in done.stdout


def test_the_task_file_holds(capsys: pytest.CaptureFixture[str]):
    run("tasks", "check", str(EXAMPLES / "tasks.jsonl"))
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    (printed,) = [line for line in capsys.readouterr().out.splitlines() if "holds" in line]
    assert printed.partition(": ")[2] in page


def test_the_recipe_trains_and_evaluates(tmp_path: Path):
    run(
        "run",
        str(EXAMPLES / "rejection_sampling.py"),
        "--run-dir",
        str(tmp_path / "run"),
        *("--examples.tasks.source", "pocket", "--examples.tasks.split", "train"),
        *("--examples.tasks.count", "6", "--train.max-steps", "2"),
        *("--evaluate.tasks.source", "pocket", "--evaluate.tasks.split", "test"),
        *("--evaluate.tasks.count", "4", "--evaluate.profile=false", "--evaluate.greedy=false"),
    )
    evaluation = read_evaluation(tmp_path / "run" / "results" / "student.json")
    assert set(evaluation.pass_at) == {1, 2}
    assert (tmp_path / "run" / "student" / "config.json").exists()
