"""Read the files of a run or comparison directory; nothing is written here."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from codestill.errors import RunError
from codestill.recipes.iterkd.records import RoundRecord
from codestill.run import slug
from codestill.serialize import R, first_problem, read_jsonl
from codestill.teachers.ledger import Call
from codestill.types import Attempt, Comparison, Evaluation, Event, Task


@dataclass(frozen=True)
class RunFiles:
    """What a run directory holds; its attempts and tasks are read only when needed."""

    path: Path
    config_text: str
    config: dict[str, Any]
    environment: dict[str, str]
    events: tuple[Event, ...]
    evaluations: dict[str, Evaluation]
    """By file name, e.g. ``student-humaneval`` or ``round-1/student-humaneval``, last round last."""
    calls: tuple[Call, ...]
    """Calls to the teacher, from its ledger."""
    rounds: tuple[RoundRecord, ...]
    """Rounds of an iterative recipe, in order."""
    missing: tuple[str, ...]
    """What the run has not written yet, as noun phrases."""

    @property
    def name(self) -> str:
        return self.path.resolve().name

    def attempts(self, evaluation: str) -> Iterator[tuple[Attempt, bool]]:
        """Each attempt behind an evaluation, and whether it is the greedy one."""
        for suffix, greedy in (("", False), ("-greedy", True)):
            path = (
                self.path
                / "stages"
                / Path(evaluation).with_name(f"evaluate-{Path(evaluation).name}{suffix}.jsonl")
            )
            if path.exists():
                yield from ((attempt, greedy) for attempt in read_jsonl(path, Attempt))

    def tasks(self, name: str) -> dict[str, Task]:
        """The tasks of a set, by id; empty when the run did not save them."""
        path = self.path / "tasks" / f"{slug(name)}.jsonl"
        return {task.task_id: task for task in read_jsonl(path, Task)} if path.exists() else {}


def is_comparison(directory: Path) -> bool:
    """Whether the directory holds a comparison, else a run.

    Raises RunError when it holds neither.
    """
    if (directory / "comparison.json").exists():
        return True
    if (directory / "config.yaml").exists():
        return False
    what = "has neither config.yaml nor comparison.json" if directory.is_dir() else "is not a directory"
    raise RunError(
        f"{directory} is not a run or a comparison: it {what}",
        next_step="Give a directory that `codestill run` or `codestill compare` wrote.",
    )


def read_comparison(directory: Path) -> Comparison:
    """The comparison of a directory. Raises RunError naming a file that is not one."""
    return _read_record(directory / "comparison.json", Comparison)


def read_run(directory: Path) -> RunFiles:
    """What a run has written so far. Raises RunError naming a file that cannot be read."""
    config_path, metrics_path = directory / "config.yaml", directory / "metrics.jsonl"
    ledger_path = directory / "ledger.jsonl"
    environment_path = directory / "environment.json"
    config_text = config_path.read_text(encoding="utf-8")
    try:
        config = yaml.safe_load(config_text) or {}
    except yaml.YAMLError as error:
        raise _unreadable(config_path, "YAML", str(error).splitlines()[0]) from error
    if not isinstance(config, dict):
        raise _unreadable(config_path, "a configuration", "it is not a mapping")
    results = {
        path.relative_to(directory / "results").with_suffix("").as_posix(): path
        for path in (directory / "results").rglob("*.json")
    }
    missing = []
    if not environment_path.exists():
        missing.append("the environment (environment.json)")
    if not metrics_path.exists():
        missing.append("training metrics (metrics.jsonl)")
    if not results:
        missing.append("evaluations (results/*.json)")
    return RunFiles(
        path=directory,
        config_text=config_text,
        config=config,
        environment=_read_environment(environment_path) if environment_path.exists() else {},
        events=tuple(read_jsonl(metrics_path, Event)) if metrics_path.exists() else (),
        evaluations={
            name: _read_record(results[name], Evaluation) for name in sorted(results, key=_round_order)
        },
        calls=tuple(read_jsonl(ledger_path, Call)) if ledger_path.exists() else (),
        rounds=tuple(sorted(read_rounds(directory), key=lambda record: record.round)),
        missing=tuple(missing),
    )


def read_rounds(directory: Path) -> list[RoundRecord]:
    """The records of the rounds that have ended. Raises RunError naming a file that is not one."""
    return [_read_record(path, RoundRecord) for path in sorted(directory.glob("round-*/round.json"))]


def _round_order(name: str) -> tuple[float, str]:
    """By round; what belongs to no round belongs to the whole run and comes last."""
    number = Path(name).parent.name.removeprefix("round-")
    return (float(number) if number.isdecimal() else float("inf"), name)


def _read_record(path: Path, record: type[R]) -> R:
    try:
        return record.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise _unreadable(path, f"a {record.__name__}", first_problem(error)) from error


def _read_environment(path: Path) -> dict[str, str]:
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise _unreadable(path, "JSON", str(error)) from error
    if not isinstance(values, dict):
        raise _unreadable(path, "an environment", "it is not an object")
    return {str(key): str(value) for key, value in values.items()}


def _unreadable(path: Path, kind: str, reason: str) -> RunError:
    return RunError(
        f"{path} is not {kind}: {reason}",
        next_step="Delete the file, repeat the command that wrote it, then write the report again.",
    )
