"""Differences in words: what an interval shows, and which of many survive a correction."""

from collections.abc import Sequence

from codestill.records import Difference, Interval

LEVEL = 0.05
"""Chance of any false difference among all that a correction lets pass."""


def difference_sentence(difference: Difference) -> str:
    """``a - b: +6.2 points [+2.5, +10.1] pass@1: the interval excludes zero``, and each seed's own."""
    verdict = "excludes zero" if difference.excludes_zero else "includes zero: no difference is shown"
    sentence = (
        f"{difference.a} - {difference.b}: {100 * difference.interval.mean:+.1f} points "
        f"{_bounds(difference.interval)} {difference.metric}, "
        f"over {difference.pairs} pairs of task and seed: the interval {verdict}."
    )
    if len(difference.by_seed) > 1:
        sentence += f" By seed: {', '.join(f'{100 * value:+.1f}' for value in difference.by_seed)}"
        if (over_seeds := difference.t_interval) is not None:
            sentence += f"; t interval over {len(difference.by_seed)} seeds {_bounds(over_seeds)}"
            sentence += " excludes zero" if over_seeds.excludes_zero else " includes zero"
        sentence += "."
    return sentence


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values adjusted for their number by Holm's method (1979), in the order given.

    What is kept at an adjusted 0.05 holds a false one with at most that chance, whatever depends on what.
    None stays None, and counts in the number.
    """
    adjusted: list[float | None] = [None] * len(p_values)
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    least = 0.0
    for rank, (p, place) in enumerate(known):
        least = max(least, min(1.0, p * (len(p_values) - rank)))
        adjusted[place] = least
    return adjusted


def survivors(differences: Sequence[Difference], by_seeds: bool = False) -> list[Difference]:
    """Those that survive Holm's correction for their number: by the bootstrap's p-values, or ``by_seeds``, by
    those of the t intervals."""
    adjusted = holm([d.t_p if by_seeds else d.p for d in differences])
    return [d for d, p in zip(differences, adjusted, strict=True) if p is not None and p <= LEVEL]


def correction(differences: Sequence[Difference]) -> str:
    """Which of several differences survive, as a sentence; empty for a single one."""
    if len(differences) < 2:
        return ""
    if all(d.p is None for d in differences):
        return "They are not adjusted for their number."
    text = (
        f"Of {len(differences)} differences, these survive Holm's correction (all together at "
        f"{100 * LEVEL:g}%): {_names(survivors(differences))}"
    )
    if any(d.t_p is not None for d in differences):
        text += f"; by the t intervals: {_names(survivors(differences, by_seeds=True))}"
    return f"{text}."


def _names(differences: Sequence[Difference]) -> str:
    return (
        ", ".join(f"{d.a} − {d.b}" + f", {d.metric}" * (d.metric != "pass@1") for d in differences) or "none"
    )


def points(interval: Interval) -> str:
    """``+6.2 [+2.5, +10.1]``, of a share."""
    return f"{100 * interval.mean:+.1f} {_bounds(interval)}"


def _bounds(interval: Interval) -> str:
    return f"[{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"
