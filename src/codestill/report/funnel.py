"""The funnel of a run: how many things each step left, as the recipe recorded it."""

from collections.abc import Iterable
from dataclasses import dataclass

from codestill.browse import RunFiles
from codestill.report.collect import Section
from codestill.report.parts import part_name, part_order


@dataclass(frozen=True)
class Step:
    """One step of a funnel."""

    name: str
    count: int
    width: float
    """Length of its bar, in percent of the longest."""
    share: str
    """How it compares with the step before: ``73%``, or ``×2.0`` where it left more."""


@dataclass(frozen=True)
class Funnel:
    """What became of an arm's tasks in one round or part."""

    title: str
    """Empty where the page has a single one."""
    arm: str
    steps: tuple[Step, ...]


def funnels(section: Section) -> list[Funnel]:
    """The funnels of a section's arms, rounds in order; seeds of an arm are summed, each run counts once."""
    found: list[tuple[str, str, dict[str, int]]] = []
    for arm in section.owners:
        runs = {source.run.path: source.run for source in arm.sources}
        found += [(arm.name, part, counts) for part, counts in _summed(runs.values())]
    arms = len({arm for arm, _, _ in found})
    return [
        Funnel(_title(arm if arms > 1 else "", part, len(found)), arm, _steps(counts))
        for arm, part, counts in found
    ]


def _summed(runs: Iterable[RunFiles]) -> list[tuple[str, dict[str, int]]]:
    total: dict[str, dict[str, int]] = {}
    for run in runs:
        for part, counts in run.funnels.items():
            of_part = total.setdefault(part, {})
            for name, count in counts.items():
                of_part[name] = of_part.get(name, 0) + count
    return sorted(total.items(), key=lambda item: part_order(item[0]))


def _title(arm: str, part: str, count: int) -> str:
    return "" if count == 1 else ", ".join(filter(None, (arm, part_name(part))))


def _steps(counts: dict[str, int]) -> tuple[Step, ...]:
    longest = max(counts.values(), default=0) or 1
    before = [None, *counts.values()]
    return tuple(
        Step(name, count, round(100 * count / longest, 1), _share(count, previous))
        for (name, count), previous in zip(counts.items(), before, strict=False)
    )


def _share(count: int, before: int | None) -> str:
    if not before:
        return ""
    return f"×{count / before:.1f}" if count > before else f"{100 * count / before:.0f}%"
