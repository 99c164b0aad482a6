"""A run or comparison directory, read; only an export is written."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from codestill.browse.export import Form, export
from codestill.browse.rows import Filter, Rows, Stages, read_stages
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
from codestill.run import slug
from codestill.tables import Accounting, Table, Tabular
from codestill.tables.drafts import draft_table
from codestill.tables.scores import side_by_side
from codestill.types import Attempt, Call, Comparison, Evaluation, Event, Task

REPEAT = "Delete the file, repeat the command that wrote it, then write the report again."


@dataclass(frozen=True, repr=False)
class RunFiles(Tabular):
    """What a run directory holds; its rows and tasks are read only when needed."""

    path: Path
    config_text: str
    config: dict[str, Any]
    about: About | None
    """What its config class says of it; None for runs of earlier versions."""
    environment: dict[str, str]
    funnels: dict[str, dict[str, int]]
    """Part of the run -> step -> how many things it left."""
    events: tuple[Event, ...]
    evaluations: dict[str, Evaluation]
    """By file name, e.g. ``student-humaneval`` or ``round-1/student-humaneval``, last round last."""
    calls: tuple[Call, ...]
    """Calls to the teacher, from its ledger."""
    missing: tuple[str, ...]
    """What the run has not written yet, as noun phrases."""

    @property
    def name(self) -> str:
        return self.path.resolve().name

    def tables(self) -> Sequence[Table]:
        head = f"{self.path}: {self.config.get('recipe', 'comparison')}"
        missing = [f"not there yet: {', '.join(self.missing)}"] if self.missing else []
        return (
            Table((), (), above=(head,), below=tuple(missing)),
            *([self.scores] if self.evaluations else []),
            *self.drafts,
        )

    @property
    def scores(self) -> Table:
        """A row of scores for each evaluation, and how they were measured."""
        return side_by_side({f"{self.name}/{name}": one for name, one in self.evaluations.items()})

    @property
    def drafts(self) -> tuple[Table, ...]:
        """How the evaluated models draft for larger ones, where that was measured: one table, or none."""
        drafts = {f"{self.name}/{name}": one.draft for name, one in self.evaluations.items()}
        return draft_table({name: draft for name, draft in drafts.items() if draft is not None})

    @property
    def accounting(self) -> Accounting:
        """What the run has consumed."""
        return Accounting(read_accounting(self.path))

    @property
    def stages(self) -> Stages:
        """The stages with their rows, and the training examples."""
        return read_stages(self.path)

    def rows(
        self, stage: str = "", verdict: str = "", error: str = "", task: str = "", text: str = ""
    ) -> Rows:
        """The rows that the filter wants (:class:`Filter`): ``rows("attempts", verdict="failing")``.

        Raises RunError where the run has no such stage.
        """
        wanted = Filter(stage, verdict, error, task, text)
        return Rows(row for found in read_stages(self.path, wanted) for row in found.rows)

    @cached_property
    def metrics(self) -> dict[str, dict[str, dict[int, float]]]:
        """Stage, e.g. ``train`` or ``round-1/train``; name of a number; step -> value. Of a step that was
        logged twice, by a resume, the last values."""
        found: dict[str, dict[str, dict[int, float]]] = {}
        for event in self.events:
            if event.kind == "metrics" and event.step is not None:
                of_stage = found.setdefault(event.stage, {})
                for name, value in event.metrics.items():
                    if isinstance(value, int | float):
                        of_stage.setdefault(name, {})[event.step] = float(value)
        return {
            stage: {name: dict(sorted(points.items())) for name, points in of_stage.items()}
            for stage, of_stage in found.items()
        }

    def export(self, form: Form, output: Path | None = None, part: str = "") -> tuple[Path, int]:
        """Write the examples that the student was trained on; the place and their number
        (:func:`codestill.browse.export`)."""
        return export(self.path, form, output, part)

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


def read_comparison(directory: Path | str) -> Comparison:
    """The comparison of a directory. Raises RunError for a directory that holds none (yet)."""
    directory = Path(directory)
    if not is_comparison(directory):
        raise RunError(
            f"{directory} has no comparison.json (yet).",
            next_step="codestill.read_run reads a run; a comparison is written when its last run has ended.",
        )
    return _read_record(directory / "comparison.json", Comparison)


def read_run(directory: Path | str) -> RunFiles:
    """What a run has written so far. Raises RunError for a directory that is no run, naming a file that
    cannot be read."""
    directory = Path(directory)
    is_comparison(directory)
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
        funnels=read_funnels(directory),
        environment=_read_environment(environment_path) if environment_path.exists() else {},
        events=tuple(read_jsonl(metrics_path, Event, next_step=NO_LOG)) if metrics_path.exists() else (),
        evaluations={
            name: _read_record(results[name], Evaluation) for name in sorted(results, key=_round_order)
        },
        calls=tuple(read_ledger(ledger_path)) if ledger_path.exists() else (),
        missing=tuple(missing),
    )


def _round_order(name: str) -> tuple[float, str]:
    """By round; what belongs to no round belongs to the whole run and comes last."""
    number = Path(name).parent.name.removeprefix("round-")
    return (float(number) if number.isdecimal() else float("inf"), name)


def _read_record(path: Path, record: type[R]) -> R:
    return read_record(path, record, REPEAT)


def _read_environment(path: Path) -> dict[str, str]:
    step = "Delete the file: no result depends on it. The report lacks what it held."
    return {key: str(value) for key, value in read_object(path, step).items()}
