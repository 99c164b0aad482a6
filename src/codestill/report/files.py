"""Read the files of a run or comparison directory; nothing is written here."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codestill.errors import RunError
from codestill.files.run_files import (
    NO_LOG,
    About,
    read_about,
    read_accounting,
    read_config,
    read_funnels,
    read_ledger,
    read_stage,
)
from codestill.files.serialize import R, read_jsonl, read_object, read_record
from codestill.recipes.iterkd.records import RoundRecord
from codestill.run import slug
from codestill.types import Attempt, Call, Comparison, Evaluation, Event, Task

REPEAT = "Delete the file, repeat the command that wrote it, then write the report again."


@dataclass(frozen=True)
class RunFiles:
    """What a run directory holds; its attempts and tasks are read only when needed."""

    path: Path
    config_text: str
    config: dict[str, Any]
    about: About | None
    """What its config class says of it; None for runs of earlier versions."""
    environment: dict[str, str]
    accounting: dict[str, int | float | str]
    funnels: dict[str, dict[str, int]]
    """Part of the run -> step -> how many things it left."""
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
            stage = Path(evaluation).with_name(f"evaluate-{Path(evaluation).name}{suffix}")
            yield from ((attempt, greedy) for attempt in read_stage(self.path, stage.as_posix(), Attempt))

    def tasks(self, name: str) -> dict[str, Task]:
        """The tasks of a set, by id; empty when the run did not save them."""
        path = self.path / "tasks" / f"{slug(name)}.jsonl"
        if not path.exists():
            return {}
        return {task.task_id: task for task in read_jsonl(path, Task, whole=True, next_step=REPEAT)}


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
    metrics_path = directory / "metrics.jsonl"
    ledger_path = directory / "ledger.jsonl"
    environment_path = directory / "environment.json"
    config, config_text = read_config(directory)
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
        about=read_about(directory),
        accounting=read_accounting(directory),
        funnels=read_funnels(directory),
        environment=_read_environment(environment_path) if environment_path.exists() else {},
        events=tuple(read_jsonl(metrics_path, Event, next_step=NO_LOG)) if metrics_path.exists() else (),
        evaluations={
            name: _read_record(results[name], Evaluation) for name in sorted(results, key=_round_order)
        },
        calls=tuple(read_ledger(ledger_path)) if ledger_path.exists() else (),
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
    return read_record(path, record, REPEAT)


def _read_environment(path: Path) -> dict[str, str]:
    step = "Delete the file: no result depends on it. The report lacks what it held."
    return {key: str(value) for key, value in read_object(path, step).items()}
