"""The real entry point, and small files for it."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from codestill.cli import main

TASKS = (
    {
        "task_id": "same",
        "prompt": "def same(x):\n",
        "entry_point": "same",
        "reference": "    return x\n",
        "tests": ["assert same(1) == 1", "assert same('b') == 'b'"],
    },
    {
        "task_id": "next",
        "prompt": "def next(x):\n",
        "entry_point": "next",
        "reference": "    return x + 1\n",
        "tests": ["assert next(1) == 2", "assert next(-1) == 0"],
    },
)


TRAINING = (
    {
        "task_id": "twice",
        "prompt": "def twice(x):\n",
        "entry_point": "twice",
        "reference": "    return 2 * x\n",
        "tests": ["assert twice(1) == 2", "assert twice('b') == 'bb'"],
    },
)


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Codestill = Callable[..., Outcome]


@pytest.fixture
def codestill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Codestill:
    """Run the command line in an empty directory that holds ``tasks.jsonl`` and ``train.jsonl``."""
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "tasks.jsonl", TASKS)
    write_rows(tmp_path / "train.jsonl", TRAINING)

    def run(*arguments: str | Path) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), out, err)

    return run


def write_rows(path: Path, rows: Iterable[object]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_samples(path: Path, *samples: tuple[str, str]) -> Path:
    write_rows(path, [{"task_id": task_id, "completion": text} for task_id, text in samples])
    return path


def assert_refused(outcome: Outcome, *parts: str) -> None:
    """The user's mistake: exit code 2, every part said, a next step, and no traceback."""
    assert outcome.code == 2, outcome
    # What it said while it worked stands before.
    _, found, told = f"\n{outcome.err}".partition("\ncodestill: ")
    assert found and told.rstrip("\n").count("\n") >= 1
    for part in parts:
        assert part in outcome.err, outcome.err
    assert "Traceback" not in outcome.err + outcome.out
