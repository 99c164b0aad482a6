"""From files to plain records: what the report shows, before any of it is plotted or worded."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from codestill.browse import RunFiles, is_comparison, read_comparison, read_run
from codestill.errors import RunError
from codestill.evaluation.pairs import alike, difference
from codestill.report.numbers import counted
from codestill.report.parts import part_name
from codestill.types import Arm, Comparison, Difference, Evaluation, Interval, ModelProfile

PASS_AT_1 = 1


@dataclass(frozen=True)
class EvaluatedRun:
    """One evaluation of an arm, and the run that it comes from."""

    run: RunFiles
    name: str
    evaluation: Evaluation


@dataclass(frozen=True)
class ArmView:
    """One line of the results: a model, or the same recipe over several seeds."""

    name: str
    detail: str
    is_teacher: bool
    pass_at: dict[int, Interval]
    greedy: Interval | None
    bleu: float | None
    nats_per_byte: Interval | None
    profile: ModelProfile | None
    accounting: dict[str, int | float | str]
    sources: tuple[EvaluatedRun, ...]
    seeds: int = 1

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        return tuple(source.evaluation for source in self.sources)

    @property
    def verdicts(self) -> dict[str, int]:
        """Samples per verdict, summed over seeds."""
        total: dict[str, int] = {}
        for evaluation in self.evaluations:
            for verdict, count in evaluation.verdicts.items():
                total[verdict] = total.get(verdict, 0) + count
        return total

    @property
    def by_difficulty(self) -> dict[str, Interval]:
        """pass@1 per level; over several seeds, the mean of their estimates and of their bounds."""
        by_level: dict[str, list[Interval]] = {}
        for evaluation in self.evaluations:
            for level, interval in evaluation.by_difficulty.items():
                by_level.setdefault(level, []).append(interval)
        return {
            level: Interval(
                mean=sum(i.mean for i in intervals) / len(intervals),
                low=sum(i.low for i in intervals) / len(intervals),
                high=sum(i.high for i in intervals) / len(intervals),
            )
            for level, intervals in by_level.items()
        }


@dataclass(frozen=True)
class Section:
    """Arms evaluated on one task set."""

    title: str
    tasks: str
    task_count: int
    arms: tuple[ArmView, ...]
    differences: tuple[Difference, ...] = ()
    is_comparison: bool = False

    @property
    def teacher(self) -> ArmView | None:
        return next((arm for arm in self.arms if arm.is_teacher), None)

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        return tuple(evaluation for arm in self.arms for evaluation in arm.evaluations)

    @property
    def owners(self) -> list[ArmView]:
        """The arms, each set of runs once: a further evaluation of the same runs, by another name or after an
        earlier round, trained and spent nothing of its own."""
        first: dict[frozenset[Path], ArmView] = {}
        for arm in sorted(
            self.arms, key=lambda arm: (arm.is_teacher, any("/" in s.name for s in arm.sources))
        ):
            first.setdefault(frozenset(source.run.path for source in arm.sources), arm)
        return [arm for arm in self.arms if not arm.sources or arm in first.values()]

    @property
    def levels(self) -> list[str]:
        """Difficulties that are numbers, e.g. ``depth=3``."""
        names = {name for arm in self.arms for name in arm.by_difficulty}
        return sorted(name for name in names if name.rpartition("=")[2].isdigit())

    @property
    def large_k(self) -> int:
        """The k shown beside pass@1: 10 where every arm has it, else the largest that all share."""
        shared = set.intersection(*(set(arm.pass_at) for arm in self.arms)) if self.arms else set()
        return 10 if 10 in shared else max(shared, default=PASS_AT_1)


@dataclass(frozen=True)
class Curve:
    """What one run reported at each step of one phase of training."""

    arm: str
    phase: str
    """Empty, or the sub-run that the stage belongs to, e.g. ``round-1``."""
    is_validation: bool
    metrics: dict[str, dict[int, float]]
    """Metric -> step -> value."""


@dataclass(frozen=True)
class Report:
    """All that the pages show."""

    title: str
    sections: tuple[Section, ...]
    runs: dict[str, RunFiles]
    """By the label that tables use."""
    curves: tuple[Curve, ...]
    missing: tuple[str, ...]

    @property
    def arms(self) -> tuple[ArmView, ...]:
        return tuple(arm for section in self.sections for arm in section.arms)


@dataclass
class _Collector:
    """Reads each run once, however many arms name it."""

    runs: dict[str, RunFiles] = field(default_factory=dict)
    curves: list[Curve] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    _labels: dict[Path, str] = field(default_factory=dict)

    def add(self, directory: Path, label: str, arm: str | None) -> RunFiles:
        """The run of a directory; its training curves are those of ``arm``, if given."""
        path = directory.resolve()
        if path not in self._labels:
            self._labels[path] = label
            self.runs[label] = run = read_run(directory)
            self.missing += [f"{label}: {what}" for what in run.missing]
            if arm is None:
                return run
            self.curves += training_curves(run, arm)
        return self.runs[self._labels[path]]


def read_report(directories: Sequence[Path]) -> Report:
    """Read run and comparison directories. Raises RunError for a directory that is neither."""
    if not directories:
        raise RunError(
            "a report needs at least one directory", next_step="Give a run or comparison directory."
        )
    collector = _Collector()
    sections: list[Section] = []
    titles: list[str] = []
    runs: list[Path] = []
    for directory in directories:
        if is_comparison(directory):
            comparison = read_comparison(directory)
            titles.append(comparison.title)
            sections.append(_comparison_section(directory, comparison, collector))
        else:
            runs.append(directory)
    if runs:
        labels = _labels(runs)
        titles.append(", ".join(labels) if len(labels) < 4 else f"{len(labels)} runs")
        sections += _run_sections(dict(zip(labels, runs, strict=True)), collector)
    return Report(
        title=" · ".join(titles),
        sections=tuple(sections),
        runs=collector.runs,
        curves=tuple(collector.curves),
        missing=tuple(collector.missing),
    )


def _labels(directories: Sequence[Path]) -> list[str]:
    """Each directory's name, with its arm, and with as much of the path as tells it from the others."""
    paths = [directory.resolve() for directory in directories]
    return [_label(path, [other for other in paths if other != path]) for path in paths]


def _label(path: Path, others: Sequence[Path]) -> str:
    length = 2 if path.name.startswith("seed-") else 1  # as a comparison names the runs of an arm
    while length < len(path.parts) and any(other.parts[-length:] == path.parts[-length:] for other in others):
        length += 1
    return "/".join(path.parts[-length:])


def _named(evaluation: Evaluation) -> str:
    """The model, and how it was quantised."""
    return ", ".join(filter(None, (evaluation.model, evaluation.quantization)))


def _role(evaluation: str) -> str:
    """``student`` for ``round-1/student-humaneval``."""
    return evaluation.rpartition("/")[2].partition("-")[0]


def _is_teacher(evaluation: str) -> bool:
    return _role(evaluation) == "teacher"


def _comparison_section(directory: Path, comparison: Comparison, collector: _Collector) -> Section:
    arms = []
    for arm in comparison.arms:
        is_teacher = arm.name == comparison.teacher
        sources: list[EvaluatedRun] = []
        for name in arm.runs:
            path = directory / name
            if not (path / "config.yaml").exists():
                collector.missing.append(f"{arm.name}: its run directory {name}")
                continue
            run = collector.add(path, name, None if is_teacher else arm.name)
            candidates = [
                EvaluatedRun(run, stem, evaluation)
                for stem, evaluation in run.evaluations.items()
                if evaluation.tasks == comparison.tasks and _is_teacher(stem) == is_teacher
            ]
            if not candidates:
                collector.missing.append(f"{name}: an evaluation on {comparison.tasks}")
            named = [source for source in candidates if source.name == arm.result]
            sources += named or candidates[-1:]  # the student after its last round
        arms.append(
            ArmView(
                name=arm.name,
                detail=_detail(arm),
                is_teacher=is_teacher,
                pass_at=arm.pass_at,
                greedy=arm.greedy,
                bleu=arm.bleu,
                nats_per_byte=arm.nats_per_byte,
                profile=arm.profile,
                accounting=arm.accounting,
                sources=tuple(sources),
                seeds=len(arm.runs),
            )
        )
    return Section(
        title=comparison.title,
        tasks=comparison.tasks,
        task_count=comparison.task_count,
        arms=tuple(arms),
        differences=comparison.differences,
        is_comparison=True,
    )


def _detail(arm: Arm) -> str:
    seeds = counted(len(arm.runs), "seed") if len(arm.runs) > 1 else ""
    return "; ".join(filter(None, (arm.about, seeds)))


def _run_sections(directories: dict[str, Path], collector: _Collector) -> list[Section]:
    """One section per task set, over all runs that were evaluated on it."""
    alone = len(directories) == 1
    by_tasks: dict[str, list[ArmView]] = {}
    for label, directory in directories.items():
        run = collector.add(directory, label, "student" if alone else label)
        for stem, evaluation in run.evaluations.items():
            arms = by_tasks.setdefault(evaluation.tasks, [])
            if _is_teacher(stem) and any(a.is_teacher and a.detail == _named(evaluation) for a in arms):
                continue  # the same teacher, evaluated in each run: one row is enough
            role, phase = _role(stem), stem.rpartition("/")[0]
            # An artefact of an export is more than its form: gguf-q8-0.
            own = role if role in ("student", "teacher") else stem.rpartition("/")[2]
            name = own if alone or role == "teacher" else label if role == "student" else f"{label} {stem}"
            if phase:
                name = f"{name}, {part_name(phase)}"
            if name in {arm.name for arm in arms}:
                name = stem if alone else f"{label} {stem}"
            arms.append(
                ArmView(
                    name=name,
                    detail=_named(evaluation),
                    is_teacher=_is_teacher(stem),
                    pass_at=evaluation.pass_at,
                    greedy=evaluation.greedy,
                    bleu=evaluation.bleu,
                    nats_per_byte=evaluation.nats_per_byte,
                    profile=evaluation.profile,
                    accounting={} if _is_teacher(stem) else run.accounting,
                    sources=(EvaluatedRun(run, stem, evaluation),),
                )
            )
    return [
        Section(
            title=tasks,
            tasks=tasks,
            task_count=max(evaluation.task_count for arm in arms for evaluation in arm.evaluations),
            arms=tuple(sorted(arms, key=lambda arm: arm.is_teacher)),
            differences=_from_first([arm for arm in arms if arm.name in directories]),
        )
        for tasks, arms in by_tasks.items()
    ]


def _from_first(arms: Sequence[ArmView]) -> tuple[Difference, ...]:
    """What each run's final student has over that of the run that was given first."""
    found = (paired(arm, arms[0]) for arm in arms[1:])
    return tuple(one for one in found if one is not None)


def paired(a: ArmView, b: ArmView) -> Difference | None:
    """``a - b`` in pass@1; None where the two were not evaluated alike, or neither with as many seeds as the
    other nor as one model."""
    left, right = a.evaluations, b.evaluations
    if len(right) not in (1, len(left)) or PASS_AT_1 not in a.pass_at or PASS_AT_1 not in b.pass_at:
        return None
    if not all(alike(one, right[0]) for one in (*left, *right)):
        return None
    return difference(a.name, left, b.name, right)


def training_curves(run: RunFiles, arm: str) -> list[Curve]:
    """The run's training and validation metrics."""
    parted = {stage: stage.rpartition("/") for stage in run.metrics}
    return [
        Curve(arm, phase, name == "validation", run.metrics[stage])
        for stage, (phase, _, name) in parted.items()
        if name in ("train", "validation")
    ]
