"""Tables of an iterative recipe's rounds: tasks, views, errors. Seeds of an arm are averaged."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from codestill.browse.run import REPEAT
from codestill.files.serialize import read_record
from codestill.recipes.iterkd.records import BINS, RoundRecord
from codestill.report.collect import PASS_AT_1, ArmView, Section
from codestill.report.numbers import (
    bounds,
    each_seed,
    percent,
    plain_bounds,
    point_bounds,
    points,
    signed,
)
from codestill.report.tables import NOTHING, Cell, Table
from codestill.types import Interval

CLASSES = 6
"""Columns of errors: the most frequent, then all others together."""


def round_tables(section: Section) -> list[tuple[str, Table]]:
    """Titled tables of the section's rounds; none where no recipe has rounds."""
    rounds = list(_rounds(section))
    if not rounds:
        return []
    return [
        ("Rounds", _overview(rounds)),
        ("Views against the tests", _views(rounds)),
        ("Errors on validation, before and after each round", _errors(rounds)),
    ]


def view_warnings(section: Section) -> list[str]:
    """Views not shown to be better than chance, by arm, with how often where there are several rounds."""
    texts: list[str] = []
    for arm in section.arms:
        every = [(record.round, calibration) for record in _of(arm) for calibration in record.calibrations]
        for view in dict.fromkeys(calibration.view for _, calibration in every):
            of_view = [(number, calibration) for number, calibration in every if calibration.view == view]
            bad = [(number, calibration) for number, calibration in of_view if calibration.by_chance]
            if bad:
                number, calibration = bad[0]
                texts.append(
                    f"{arm.name}: {calibration.warning}, in round {number}"
                    + (f"; so in {len(bad)} of {len(of_view)} rounds." if len(of_view) > 1 else ".")
                )
    return texts


Round = tuple[str, int, list[RoundRecord]]


def _of(arm: ArmView) -> list[RoundRecord]:
    runs = dict.fromkeys(source.run.path for source in arm.sources)
    return [record for path in runs for record in read_rounds(path)]


def read_rounds(directory: Path) -> list[RoundRecord]:
    """The records of a run's rounds that have ended. Raises RunError naming a file that is not one."""
    found = [read_record(path, RoundRecord, REPEAT) for path in directory.glob("round-*/round.json")]
    return sorted(found, key=lambda record: record.round)


def _rounds(section: Section) -> Iterator[Round]:
    """Arm, round number, and that round of every seed; runs that several arms evaluate count once."""
    known: set[tuple[object, ...]] = set()
    for arm in section.arms:
        runs = tuple(source.run.path for source in arm.sources)
        rounds = _of(arm)
        if runs in known:
            continue
        known.add(runs)
        for number in sorted({record.round for record in rounds}):
            yield arm.name, number, [record for record in rounds if record.round == number]


def _mean(values: Sequence[Interval | None]) -> Interval | None:
    """The mean of estimates, and of their bounds."""
    intervals = [value for value in values if value is not None]
    if not intervals:
        return None
    return Interval(
        mean=fmean(interval.mean for interval in intervals),
        low=fmean(interval.low for interval in intervals),
        high=fmean(interval.high for interval in intervals),
    )


def _score(values: Sequence[Interval | None]) -> Cell:
    mean = _mean(values)
    return Cell(percent(mean.mean), bounds(mean)) if mean else NOTHING


def _gain(values: Sequence[Interval | None]) -> Cell:
    """In points, with each seed's own."""
    mean, own = _mean(values), [value.mean for value in values if value is not None]
    if mean is None:
        return NOTHING
    seeds = f"; by seed {each_seed(own)}" if len(own) > 1 else ""
    return Cell(points(mean.mean), point_bounds(mean) + seeds)


def _area(values: Sequence[Interval | None]) -> Cell:
    mean = _mean(values)
    return Cell(f"{mean.mean:.3f}", plain_bounds(mean)) if mean else NOTHING


def _number(values: Sequence[float]) -> Cell:
    return Cell(f"{fmean(values):,.0f}")


def _overview(rounds: Sequence[Round]) -> Table:
    head = ("arm", "round", "tasks", "solved", "attempts passed", *BINS, "faults", "correct longer")
    head += ("pass@1", "gain", "first tasks", "teacher tokens")
    rows = []
    for arm, number, records in rounds:
        shares = [record.passed / record.attempts for record in records if record.attempts]
        lengths = [record.length_auroc for record in records if record.length_auroc is not None]
        rows.append(
            (
                Cell(arm, arm=arm),
                Cell(str(number)),
                _number([record.tasks for record in records]),
                _number([record.solved for record in records]),
                Cell(percent(fmean(shares))) if shares else NOTHING,
                *(_number([record.bins.get(name, 0) for record in records]) for name in BINS),
                _number([sum(record.faults.values()) for record in records]),
                Cell(f"{fmean(lengths):.2f}") if lengths else NOTHING,
                _score([record.pass_at.get(PASS_AT_1) for record in records]),
                _gain([record.gain for record in records]),
                _score([record.kept for record in records]),
                _number([record.teacher_tokens for record in records]),
            )
        )
    return Table(
        caption="pass@1: on the validation tasks, after the round. Gain: points over the best earlier round, "
        "paired over tasks. First tasks: pass@1 on the first round's tasks. Correct longer: how often a "
        "correct program is longer than a faulty one; at 0.5, length is no confound.",
        head=tuple(map(Cell, head)),
        rows=tuple(rows),
    )


def _views(rounds: Sequence[Round]) -> Table:
    head = ("arm", "round", "view", "AUROC", "drift", "scored", "unreadable", "clipped", "fractions")
    rows = []
    for arm, number, records in rounds:
        calibrations = [calibration for record in records for calibration in record.calibrations]
        for view in dict.fromkeys(calibration.view for calibration in calibrations):
            of_view = [calibration for calibration in calibrations if calibration.view == view]
            drifts = [calibration.drift for calibration in of_view if calibration.drift is not None]
            counts = ([getattr(calibration, name) for calibration in of_view] for name in head[-4:])
            rows.append(
                (
                    Cell(arm, arm=arm),
                    Cell(str(number)),
                    Cell(view),
                    _area([calibration.auroc for calibration in of_view]),
                    Cell(signed(fmean(drifts))) if drifts and number > 1 else NOTHING,
                    *map(_number, counts),
                )
            )
    return Table(
        caption="AUROC: how often an attempt that passes its tests is scored above one that fails, by a view "
        "that does not know the tests' outcome. Drift: the change since the first round.",
        head=tuple(map(Cell, head)),
        rows=tuple(rows),
    )


def _errors(rounds: Sequence[Round]) -> Table:
    total: Counter[str] = Counter()
    for _, _, records in rounds:
        for record in records:
            total.update(record.errors_before)
    total.pop("pass", None)
    common = [name for name, _ in total.most_common(CLASSES)]
    rows = []
    for arm, number, records in rounds:
        before: Counter[str] = Counter()
        after: Counter[str] = Counter()
        for record in records:
            before.update(record.errors_before)
            after.update(record.errors_after)
        pairs = [(before[name], after[name]) for name in ("pass", *common)]
        others = [sum(n for name, n in c.items() if name not in ("pass", *common)) for c in (before, after)]
        cells = [Cell(f"{a:,} → {b:,}") for a, b in [*pairs, (others[0], others[1])]]
        rows.append((Cell(arm, arm=arm), Cell(str(number)), *cells))
    return Table(
        caption="Answers by their first error, before → after training; seeds taken together.",
        head=tuple(map(Cell, ("arm", "round", "pass", *common, "others"))),
        rows=tuple(rows),
    )
