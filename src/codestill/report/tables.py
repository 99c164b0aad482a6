"""The report's tables, built once for both pages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import get_args

from codestill.browse import RunFiles
from codestill.report.change import Change
from codestill.report.claims import evaluation_settings
from codestill.report.collect import PASS_AT_1, ArmView, Report, Section
from codestill.report.numbers import (
    amount,
    bounds,
    each_seed,
    percent,
    plain_bounds,
    point_bounds,
    points,
    significant,
)
from codestill.tables.differences import correction, holm
from codestill.tables.scores import greedy_alone
from codestill.types import Difference, Interval, Verdict

Value = Callable[[ArmView], float | None]


@dataclass(frozen=True)
class Cell:
    """A value, and what stands beneath it in small print."""

    value: str
    note: str = ""
    """E.g. its interval, or its share of a total."""
    ratio: str = ""
    """Its ratio to the teacher's value."""
    interval: Interval | None = None
    """Drawn beside the value on the page."""
    arm: str = ""
    """The arm whose colour marks the cell."""
    verdict: str = ""
    """The verdict whose colour marks the cell."""


@dataclass(frozen=True)
class Table:
    """A caption, column heads and rows; the first cell of a row is its head."""

    caption: str
    head: tuple[Cell, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: bool = True
    """False for tables of text, which are set flush left."""
    axis: tuple[float, float] = field(default=(0.0, 1.0))
    """Range of the intervals drawn in it."""


NOTHING = Cell("–")
SMALLEST_P = 0.001
"""Smaller p-values are given as smaller than that."""


def _parameters(value: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{significant(value / size)} {letter}"
    return f"{value:.0f}"


def _ratio(ours: float, theirs: float | None) -> str:
    return f"{ours / theirs:.2f}×" if theirs else ""


def token_milliseconds(arm: ArmView) -> float | None:
    """Time per token, whose ratios mean something where it is steady."""
    return arm.profile and arm.profile.token_milliseconds


PROFILE: tuple[tuple[str, Value, Callable[[float], str]], ...] = (
    ("parameters", lambda a: a.profile and a.profile.parameters, _parameters),
    ("file, MB", lambda a: a.profile and a.profile.file_megabytes, significant),
    ("ms/token", token_milliseconds, significant),
    ("prompt, ms", lambda a: a.profile and a.profile.prompt_milliseconds, significant),
    ("peak memory, MB", lambda a: a.profile and a.profile.peak_memory_megabytes, significant),
)


def results(section: Section) -> Table:
    """Quality and cost of every arm; costs also as ratios to the teacher."""
    teacher = section.teacher
    k = section.large_k
    scores: dict[str, Callable[[ArmView], Interval | None]] = {"pass@1": lambda a: a.pass_at.get(PASS_AT_1)}
    scores |= {
        f"at {level.replace('=', ' ')}": lambda a, level=level: a.by_difficulty.get(level)
        for level in section.levels
    }
    if k != PASS_AT_1:
        scores[f"pass@{k}"] = lambda a: a.pass_at.get(k)
    if any(arm.greedy for arm in section.arms) and not greedy_alone(section.arms):
        scores["greedy"] = lambda a: a.greedy
    columns: list[tuple[str, Callable[[ArmView], Cell]]] = [
        (name, lambda arm, value=value, draw=name == "pass@1": _score(arm, teacher, value, draw))
        for name, value in scores.items()
    ]
    if any(arm.bleu is not None for arm in section.arms):
        columns.append(("BLEU", lambda arm: _plain(arm, teacher, lambda a: a.bleu, lambda v: f"{v:.1f}")))
    if any(arm.nats_per_byte for arm in section.arms):
        columns.append(("nats/byte", lambda arm: _nats(arm, teacher)))
    if any(arm.profile for arm in section.arms):
        for name, value, text in PROFILE:
            of_arm = _latency if value is token_milliseconds else _plain
            columns.append((name, lambda arm, v=value, t=text, of=of_arm: of(arm, teacher, v, t)))
    drawn = [arm.pass_at[PASS_AT_1] for arm in section.arms if PASS_AT_1 in arm.pass_at]
    timed = any(arm.profile and arm.profile.token_quartiles for arm in section.arms)
    quartiles = ", beneath ms/token its quartiles" if timed else ""
    beneath = ", and each number's ratio to the teacher's" if teacher else ""
    return Table(
        caption=f"Beneath scores, their 95% intervals over tasks{quartiles}{beneath}.",
        head=(Cell("model"), *(Cell(name) for name, _ in columns)),
        rows=tuple(
            (Cell(arm.name, arm.detail, arm=arm.name), *(cell(arm) for _, cell in columns))
            for arm in section.arms
        ),
        axis=axis_of(drawn),
    )


def axis_of(intervals: Sequence[Interval], around: Sequence[float] = ()) -> tuple[float, float]:
    """A range that shows all of the intervals and the values ``around``."""
    values = [value for i in intervals for value in (i.low, i.high)] + list(around)
    if len(intervals) + len(around) < 2:
        return (0.0, 1.0)
    margin = 0.06 * (max(values) - min(values)) or 0.05
    return (min(values) - margin, max(values) + margin)


def _score(
    arm: ArmView, teacher: ArmView | None, value: Callable[[ArmView], Interval | None], draw: bool
) -> Cell:
    interval = value(arm)
    if interval is None:
        return NOTHING
    theirs = value(teacher) if teacher is not None and not arm.is_teacher else None
    return Cell(
        percent(interval.mean),
        bounds(interval),
        _ratio(interval.mean, theirs.mean if theirs else None),
        interval if draw else None,
        arm=arm.name if draw else "",
    )


def _nats(arm: ArmView, teacher: ArmView | None) -> Cell:
    measured = arm.nats_per_byte
    if measured is None:
        return NOTHING
    theirs = teacher.nats_per_byte if teacher is not None and not arm.is_teacher else None
    ratio = _ratio(measured.mean, theirs.mean if theirs else None)
    return Cell(f"{measured.mean:.3f}", plain_bounds(measured), ratio)


def _latency(arm: ArmView, teacher: ArmView | None, value: Value, text: Callable[[float], str]) -> Cell:
    """The time per token with its quartiles; a ratio only of two that are steady."""
    profile = arm.profile
    if profile is None:
        return NOTHING
    steady = profile.steady and (teacher is None or teacher.profile is None or teacher.profile.steady)
    cell = _plain(arm, teacher if steady else None, value, text)
    if profile.token_quartiles is None:
        return cell
    low, high = map(text, profile.token_quartiles)
    return replace(cell, note=f"[{low}, {high}]" + " noise" * profile.noisy)


def _plain(arm: ArmView, teacher: ArmView | None, value: Value, text: Callable[[float], str]) -> Cell:
    ours = value(arm)
    if ours is None:
        return NOTHING
    theirs = value(teacher) if teacher is not None and not arm.is_teacher else None
    return Cell(text(ours), ratio=_ratio(ours, theirs))


def differences(section: Section) -> Table | None:
    """Paired differences, if the comparison has any: each seed's own beside the interval over all."""
    every = section.differences
    if not every:
        return None
    adjusted = dict(zip(map(id, every), holm([d.p for d in every]), strict=True))
    columns: list[tuple[str, Callable[[Difference], Cell]]] = [
        ("difference", lambda d: Cell(f"{d.a} − {d.b}")),
        ("metric", lambda d: Cell(d.metric)),
        (
            "estimate",
            lambda d: Cell(points(d.interval.mean), point_bounds(d.interval), interval=d.interval, arm=d.a),
        ),
        ("pairs", lambda d: Cell(f"{d.pairs:,}")),
        ("zero", lambda d: Cell("excluded" if d.excludes_zero else "included: no difference shown")),
    ]
    notes = ["Percentage points, paired over tasks and seeds, with 95% intervals.", correction(every)]
    if any(len(d.by_seed) > 1 for d in every):
        columns.insert(3, ("by seed", _by_seed))
    if any(d.t_interval for d in every):
        notes.insert(1, "Beneath the seeds' own differences, a 95% t interval over them.")
    if any(d.p is not None for d in every):
        columns.append(("p", lambda d: _p(d.p, adjusted[id(d)] if len(every) > 1 else None)))
    return Table(
        caption=" ".join(filter(None, notes)),
        head=tuple(Cell(name) for name, _ in columns),
        rows=tuple(tuple(cell(d) for _, cell in columns) for d in every),
        axis=axis_of([d.interval for d in every], around=[0.0]),
    )


def _by_seed(difference: Difference) -> Cell:
    if not difference.by_seed:
        return NOTHING
    over_seeds = difference.t_interval
    return Cell(each_seed(difference.by_seed), point_bounds(over_seeds) if over_seeds else "")


def _p(value: float | None, adjusted: float | None) -> Cell:
    if value is None:
        return NOTHING
    return Cell(_probability(value), "" if adjusted is None else f"Holm {_probability(adjusted)}")


def _probability(value: float) -> str:
    return f"{value:.2g}" if value >= SMALLEST_P else f"<{SMALLEST_P}"


def changes(section_changes: Sequence[Change]) -> Table | None:
    """pass@1 before and after training, of every arm whose starting model is evaluated."""
    if not section_changes:
        return None
    intervals = [change.difference.interval for change in section_changes]
    return Table(
        caption="pass@1 of the model that training began with, and of the trained student; the change in "
        "percentage points, paired over tasks and seeds, with 95% intervals.",
        head=tuple(map(Cell, ("arm", "before", "after", "change", "zero"))),
        rows=tuple(
            (
                Cell(change.arm, arm=change.arm),
                Cell(percent(change.before.mean), f"{bounds(change.before)} {change.start}"),
                Cell(percent(change.after.mean), bounds(change.after)),
                Cell(points(interval.mean), point_bounds(interval), interval=interval, arm=change.arm),
                Cell("excluded" if interval.excludes_zero else "included: unknown"),
            )
            for change, interval in zip(section_changes, intervals, strict=True)
        ),
        axis=axis_of(intervals, around=[0.0]),
    )


def amount_cell(value: int | float | str | None) -> Cell:
    if value is None:
        return NOTHING
    return Cell(amount(value))


def verdicts(section: Section) -> Table | None:
    """Samples per verdict, in counts and shares."""
    names = [name for name in VERDICT_ORDER if any(arm.verdicts.get(name) for arm in section.arms)]
    arms = [arm for arm in section.arms if arm.verdicts]
    if not arms:
        return None
    return Table(
        caption="Samples by verdict, seeds taken together; beneath each count, its share.",
        head=(Cell("arm"), *(Cell(name.replace("_", " "), verdict=name) for name in names)),
        rows=tuple(
            (
                Cell(arm.name, arm=arm.name),
                *(_share(arm.verdicts.get(name, 0), sum(arm.verdicts.values())) for name in names),
            )
            for arm in arms
        ),
    )


VERDICT_ORDER: tuple[Verdict, ...] = get_args(Verdict)


def _share(count: int, total: int) -> Cell:
    return Cell(f"{count:,}", percent(count / total) if count else "")


def measurement(section: Section) -> Table | None:
    """How each arm's scores were measured; a setting that all arms share is listed once."""
    arms = [arm for arm in section.arms if arm.evaluations]
    if not arms:
        return None
    rows = []
    for name in evaluation_settings(arms[0].evaluations[0]) | evaluation_settings(arms[-1].evaluations[0]):
        values = {
            arm.name: ", ".join(dict.fromkeys(evaluation_settings(e).get(name, "–") for e in arm.evaluations))
            for arm in arms
        }
        if len(set(values.values())) == 1:
            rows.append((Cell(name), Cell("all"), Cell(next(iter(values.values())))))
        else:
            rows += [(Cell(name), Cell(arm, arm=arm), Cell(value)) for arm, value in values.items()]
    return Table("", (Cell("setting"), Cell("arm"), Cell("value")), tuple(rows), numeric=False)


def stage_metrics(report: Report) -> Table | None:
    """The last value of every metric logged by stages other than training."""
    last: dict[tuple[str, str, str], str] = {}
    for label, run in report.runs.items():
        for event in run.events:
            if event.kind == "metrics" and event.stage.rpartition("/")[2] not in ("train", "validation"):
                for name, value in event.metrics.items():
                    last[label, event.stage, name] = amount_cell(value).value
    if not last:
        return None
    head = tuple(Cell(name) for name in ("run", "stage", "metric", "value"))
    rows = tuple((*map(Cell, key), Cell(value)) for key, value in last.items())
    return Table("", head, rows, numeric=False)


def environments(runs: dict[str, RunFiles]) -> Table | None:
    """Versions and hardware; a value that all runs share is listed once."""
    known = {label: run.environment for label, run in runs.items() if run.environment}
    if not known:
        return None
    rows = []
    for name in dict.fromkeys(name for values in known.values() for name in values):
        by_value: dict[str, list[str]] = {}
        for label, values in known.items():
            by_value.setdefault(values.get(name, "–"), []).append(label)
        for value, labels in by_value.items():
            rows.append((Cell(name), Cell(value), Cell("all" if len(by_value) == 1 else ", ".join(labels))))
    return Table("", (Cell("environment"), Cell("value"), Cell("runs")), tuple(rows), numeric=False)
