"""Differences in words: what stands beside an interval, and which of many survive a correction."""

from collections.abc import Sequence

from codestill.evaluation.metrics import holm
from codestill.types import Difference

LEVEL = 0.05
"""Chance of any false difference among all that a correction lets pass."""


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
