"""Tables of an iterative recipe's rounds: questions, views, errors. Seeds of an arm are averaged."""

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import fmean

from codestill.recipes.iterkd.records import RoundRecord
from codestill.report.claims import bounds, signed
from codestill.report.collect import PASS_AT_1, ArmView, Section
from codestill.report.tables import NOTHING, Cell, Table
from codestill.types import BINS, Interval

CLASSES = 6
"""Columns of errors: the commonest, then all others together."""


def tables(section: Section) -> list[tuple[str, Table]]:
    """What there is to say of the section's rounds; nothing where no recipe had any."""
    found = list(_rounds(section))
    if not found:
        return []
    return [
        ("Rounds", _questions(found)),
        ("Views, held against the tests", _views(found)),
        ("Errors on validation, before and after each round", _errors(found)),
    ]


def warnings(section: Section) -> list[str]:
    """Views that were not shown to be better than chance, by arm; how often, where there are several runs."""
    said: list[str] = []
    for arm in section.arms:
        every = [(cycle, one) for cycle in _of(arm) for one in cycle.calibrations]
        for view in dict.fromkeys(one.view for _, one in every):
            mine = [(cycle, one) for cycle, one in every if one.view == view]
            bad = [(cycle, one) for cycle, one in mine if one.by_chance]
            if bad:
                cycle, one = bad[0]
                said.append(
                    f"{arm.name}: {one.warning}, in round {cycle.round}"
                    + (f"; so in {len(bad)} of {len(mine)} rounds." if len(mine) > 1 else ".")
                )
    return said


Round = tuple[str, int, list[RoundRecord]]


def _of(arm: ArmView) -> list[RoundRecord]:
    runs = {source.run.path: source.run for source in arm.sources}
    return [cycle for run in runs.values() for cycle in run.cycles]


def _rounds(section: Section) -> Iterator[Round]:
    """Arm, round, and that round of every seed; runs that several arms evaluate count once."""
    known: set[tuple[object, ...]] = set()
    for arm in section.arms:
        runs = tuple(source.run.path for source in arm.sources)
        cycles = _of(arm)
        if runs in known:
            continue
        known.add(runs)
        for number in sorted({cycle.round for cycle in cycles}):
            yield arm.name, number, [cycle for cycle in cycles if cycle.round == number]


def _mean(values: Sequence[Interval | None], sign: bool = False) -> Cell:
    """The mean of estimates, and of their bounds."""
    some = [value for value in values if value is not None]
    if not some:
        return NOTHING
    found = Interval(
        mean=fmean(one.mean for one in some),
        low=fmean(one.low for one in some),
        high=fmean(one.high for one in some),
    )
    return Cell(signed(found.mean) if sign else f"{found.mean:.3f}", bounds(found, sign=sign))


def _number(values: Sequence[float]) -> Cell:
    return Cell(f"{fmean(values):,.0f}")


def _questions(rounds: Sequence[Round]) -> Table:
    head = ("arm", "round", "tasks", "solved", "attempts passed", *BINS, "faults", "right longer")
    head += ("pass@1", "gain", "first tasks", "teacher wrote")
    rows = []
    for arm, number, cycles in rounds:
        shares = [cycle.passed / cycle.attempts for cycle in cycles if cycle.attempts]
        lengths = [cycle.length_auroc for cycle in cycles if cycle.length_auroc is not None]
        rows.append(
            (
                Cell(arm, arm=arm),
                Cell(str(number)),
                _number([cycle.tasks for cycle in cycles]),
                _number([cycle.solved for cycle in cycles]),
                Cell(f"{100 * fmean(shares):.1f}%") if shares else NOTHING,
                *(_number([cycle.bins.get(name, 0) for cycle in cycles]) for name in BINS),
                _number([sum(cycle.faults.values()) for cycle in cycles]),
                Cell(f"{fmean(lengths):.2f}") if lengths else NOTHING,
                _mean([cycle.pass_at.get(PASS_AT_1) for cycle in cycles]),
                _mean([cycle.gain for cycle in cycles], sign=True),
                _mean([cycle.kept for cycle in cycles]),
                _number([cycle.teacher_tokens for cycle in cycles]),
            )
        )
    return Table(
        caption="pass@1 is on the validation tasks after the round, its gain over the best round before, "
        "paired over tasks; first tasks are the first round's, answered again. Right longer: how often a "
        "right program is longer than a faulty one; 0.5 is no confound.",
        head=tuple(map(Cell, head)),
        rows=tuple(rows),
    )


def _views(rounds: Sequence[Round]) -> Table:
    head = ("arm", "round", "view", "AUROC", "drift", "scored", "unreadable", "clipped", "fractions")
    rows = []
    for arm, number, cycles in rounds:
        for view in dict.fromkeys(one.view for cycle in cycles for one in cycle.calibrations):
            found = [one for cycle in cycles for one in cycle.calibrations if one.view == view]
            drifts = [one.drift for one in found if one.drift is not None]
            counts = ([getattr(one, name) for one in found] for name in head[-4:])
            rows.append(
                (
                    Cell(arm, arm=arm),
                    Cell(str(number)),
                    Cell(view),
                    _mean([one.auroc for one in found]),
                    Cell(signed(fmean(drifts))) if drifts and number > 1 else NOTHING,
                    *map(_number, counts),
                )
            )
    return Table(
        caption="How often an attempt that passes its tests is scored above one that fails. No view knows "
        "the tests' outcome here. Drift is the difference to the first round.",
        head=tuple(map(Cell, head)),
        rows=tuple(rows),
    )


def _errors(rounds: Sequence[Round]) -> Table:
    total: Counter[str] = Counter()
    for _, _, cycles in rounds:
        for cycle in cycles:
            total.update(cycle.errors_before)
    total.pop("pass", None)
    common = [name for name, _ in total.most_common(CLASSES)]
    rows = []
    for arm, number, cycles in rounds:
        before: Counter[str] = Counter()
        after: Counter[str] = Counter()
        for cycle in cycles:
            before.update(cycle.errors_before)
            after.update(cycle.errors_after)
        pairs = [(before[name], after[name]) for name in ("pass", *common)]
        others = [sum(n for name, n in c.items() if name not in ("pass", *common)) for c in (before, after)]
        cells = [Cell(f"{a:,} → {b:,}") for a, b in [*pairs, (others[0], others[1])]]
        rows.append((Cell(arm, arm=arm), Cell(str(number)), *cells))
    return Table(
        caption="Answers by what happened first, seeds taken together.",
        head=tuple(map(Cell, ("arm", "round", "pass", *common, "others"))),
        rows=tuple(rows),
    )
