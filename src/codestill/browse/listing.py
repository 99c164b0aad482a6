"""Runs and comparisons below a directory: what they are, how far they are, what they scored."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.text import Text

from codestill.errors import CodestillError, RunError
from codestill.files.run_files import Marker, read_config
from codestill.files.serialize import is_locked, read_object, read_record
from codestill.records import Interval
from codestill.tables import Table, Tabular

State = Literal["running", "finished", "stopped", "damaged"]
_STATES = {"running": "bold cyan", "finished": "green", "stopped": "yellow", "damaged": "bold red"}
_AGES = ((86400, "d"), (3600, "h"), (60, "min"))
_DEEPEST = 4
"""Levels of directories below the first in which runs are looked for."""


@dataclass(frozen=True)
class ListedRun:
    """A line of ``codestill runs``."""

    path: Path
    kind: str
    """The recipe, or ``compare``."""
    state: State
    doing: str
    """The stage that is not finished and how far it is, or what is wrong with the directory."""
    tasks: str
    """What the score is on."""
    score: Interval | None
    """pass@1 of the run's last model."""
    age_seconds: float
    """Since something was written."""


class RunList(Tabular, list[ListedRun]):
    """Runs and comparisons, the newest first."""

    def tables(self) -> Sequence[Table]:
        head = ("run", "kind", "state", "pass@1", "tasks", "age")
        return (Table(head, tuple(_cells(run) for run in self)),)


def _cells(run: ListedRun) -> tuple[str | Text, ...]:
    state = Text(run.state, style=_STATES[run.state])
    if run.doing:
        state.append(f", {run.doing}", style="default")
    score = run.score.percent() if run.score else ""
    return str(run.path), run.kind, state, score, run.tasks, _age(run.age_seconds)


def _age(seconds: float) -> str:
    return next(
        (f"{seconds / size:.0f} {unit}" for size, unit in _AGES if seconds >= size), f"{seconds:.0f} s"
    )


def list_runs(directory: Path | str = "runs", *, arms: bool = False) -> RunList:
    """Runs and comparisons below ``directory``, the newest first; a comparison's own runs only with ``arms``.

    Raises RunError where the directory is not there.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise RunError(f"{directory} is not a directory.", next_step="Give one that holds run directories.")
    now = time.time()
    found = (_listed(path, now) for path in _runs(directory, arms, _DEEPEST))
    return RunList(sorted(found, key=lambda run: run.age_seconds))


def is_run(directory: Path) -> bool:
    """Whether this is the directory of a run or comparison; a config alone is one that somebody wrote."""
    return all((directory / name).is_file() for name in ("config.yaml", "environment.json"))


def list_run(directory: Path) -> ListedRun:
    """The line of one run or comparison."""
    return _listed(directory, time.time())


def _runs(directory: Path, arms: bool, deeper: int) -> Iterator[Path]:
    if is_run(directory):
        yield directory
        if not arms:
            return
    for path in sorted(directory.iterdir()) if deeper else ():
        if path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
            with suppress(PermissionError):
                yield from _runs(path, arms, deeper - 1)


def _listed(path: Path, now: float) -> ListedRun:
    age = max(now - _last_written(path), 0.0)
    try:
        config, _ = read_config(path)
        kind = "compare" if "arms" in config else str(config.get("recipe", "?"))
        tasks, score = _score(path)
        doing = _unfinished(path)
        if kind == "compare":
            finished = (path / "comparison.json").exists()
            doing = "" if finished else _arms(path)
        else:
            finished = not doing and (score is not None or (path / "logits" / "manifest.json").exists())
        state: State = "running" if is_locked(path / ".lock") else "finished" if finished else "stopped"
        return ListedRun(path, kind, state, doing, tasks, score, age)
    except CodestillError as error:
        return ListedRun(path, "?", "damaged", error.message, "", None, age)


def _last_written(path: Path) -> float:
    """When a file of the run was written last; records grow without changing their directory."""
    newest = path.stat().st_mtime
    for place, directories, names in os.walk(path):
        directories[:] = [
            name for name in directories if name not in ("student", "adapter", "answers", "logits")
        ]
        # What a reader writes is no progress, nor is the lock that he looks at.
        for name in set(names) - {".lock", "report.html", "report.md", "rows.html"}:
            with suppress(OSError):
                newest = max(newest, Path(place, name).stat().st_mtime)
    return newest


def _score(path: Path) -> tuple[str, Interval | None]:
    """Of the student, else of the first model that was evaluated; of a comparison none."""
    results = sorted((path / "results").glob("*.json"), key=lambda file: (file.stem != "student", file.stem))
    if not results:
        return "", None
    found: dict[str, Any] = read_object(results[0])
    measured = found.get("pass_at", {}).get("1")
    return str(found.get("tasks", "")), Interval.model_validate(measured) if measured else None


def _unfinished(path: Path) -> str:
    """The stage that was begun and has not all of its records."""
    for file in sorted((path / "stages").rglob("*.json"), key=lambda file: file.stat().st_mtime):
        marker = read_record(file, Marker)
        if not marker.done:
            records = file.with_suffix(".jsonl")
            done = records.read_bytes().count(b"\n") if records.exists() else 0
            name = file.relative_to(path / "stages").with_suffix("").as_posix()
            return f"{name}, {done:,} of {marker.count:,}"
    begun = [file.parent.parent for file in path.glob("checkpoints/**/checkpoint-*/complete")]
    training = next((place for place in begun if not (place / "finished").exists()), None)
    return "" if training is None else f"training, {_part(training, path)}".removesuffix(", ")


def _part(checkpoints: Path, path: Path) -> str:
    """The round or part to which checkpoints belong; empty for the last training."""
    part = checkpoints.relative_to(path / "checkpoints").as_posix()
    return "" if part == "." else part


def _arms(path: Path) -> str:
    """How many of a comparison's runs have a result."""
    runs = [file.parent for file in path.glob("*/config.yaml")]
    done = sum(any((run / "results").glob("*.json")) for run in runs)
    return f"{done} runs of {len(runs)} begun are done"
