"""The bar of the known answers: on a terminal, on standard error, and nowhere else."""

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from codestill.progress import ProgressBars
from codestill.tasks import TasksConfig, check_tasks
from codestill.types import Event, ExecutionResult

ROW = {
    "task_id": "same",
    "prompt": "def same(x):\n",
    "entry_point": "same",
    "reference": "    return x\n",
    "tests": ["assert same(1) == 1"],
}
SCORE = ("evaluate", "--samples", "samples.jsonl", "--tasks", "tasks.jsonl", "--run-dir", "run")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "tasks.jsonl").write_text(json.dumps(ROW) + "\n")
    (tmp_path / "samples.jsonl").write_text('{"task_id": "same", "completion": "    return x\\n"}\n')
    return tmp_path


def codestill(arguments: tuple[str, ...], directory: Path, errors: int) -> str:
    """Standard output of the command, whose standard error is the given descriptor."""
    command = [sys.executable, "-c", "from codestill.cli import main; main()", *arguments]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    done = subprocess.run(
        command, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
    )
    assert done.returncode == 0
    return done.stdout


def on_a_terminal(arguments: tuple[str, ...], directory: Path) -> str:
    """What the command writes to a terminal that is its standard error."""
    ours, theirs = pty.openpty()
    try:
        assert "0/3" not in codestill(arguments, directory, theirs)
        os.set_blocking(ours, False)
        return os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize("arguments", [("tasks", "check", "tasks.jsonl"), SCORE], ids=["check", "evaluate"])
def test_a_bar_on_a_terminal(arguments: tuple[str, ...], directory: Path) -> None:
    written = on_a_terminal(arguments, directory)
    assert "gates" in written
    assert "0/3" in written
    assert "gates: 3 done" not in written


@pytest.mark.parametrize("arguments", [("tasks", "check", "tasks.jsonl"), SCORE], ids=["check", "evaluate"])
def test_nothing_where_there_is_no_terminal(arguments: tuple[str, ...], directory: Path) -> None:
    with (directory / "errors").open("w+") as errors:
        out = codestill(arguments, directory, errors.fileno())
        errors.seek(0)
        written = errors.read()
    assert "0/3" not in out
    assert written == ("" if arguments[0] == "tasks" else "evaluate-student: 1 done\n")


def test_progress_is_told_after_every_program(directory: Path) -> None:
    told: list[tuple[int, int]] = []
    tasks = TasksConfig.model_validate(str(directory / "tasks.jsonl")).load()
    results = [ExecutionResult(verdict="pass"), *[ExecutionResult(verdict="wrong")] * 2]
    assert check_tasks(tasks, lambda pairs: results[: len(pairs)], lambda *both: told.append(both)).holds
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("stage", ["gates", "round-1/gates"])
def test_a_finished_bar_of_the_gates_leaves_no_line(stage: str) -> None:
    out = io.StringIO()
    bars = ProgressBars(Console(file=out))
    bars(Event(stage=stage, kind="progress", done=3, total=3))
    bars.close()
    assert out.getvalue() == ""
