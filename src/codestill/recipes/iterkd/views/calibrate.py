"""Calibration of a view: its scores against the test outcomes of the same attempts."""

from collections.abc import Sequence

from codestill.evaluation.metrics import auroc
from codestill.types import Interval, Record

USEFUL = 0.6
"""An AUROC that would say something: an interval that reaches it does not show that a view is useless."""


class Calibration(Record):
    """How well a view's scores separate attempts that pass their tests from those that fail."""

    view: str
    scored: int
    """Number of attempts with a score."""
    unreadable: int = 0
    """Number of judgements that could not be parsed."""
    clipped: int = 0
    """Number of points outside their range, clipped to it."""
    fractions: int = 0
    """Number of points between the values that the rubric allows; they are kept."""
    auroc: Interval | None = None
    """Probability that a passing attempt is scored above a failing one; None if all or none pass."""
    drift: float | None = None
    """AUROC minus the first round's."""

    @property
    def by_chance(self) -> bool:
        """Whether the AUROC is not significantly above chance: its interval reaches 0.5, or there is none."""
        return self.auroc is None or self.auroc.low <= 0.5

    @property
    def warning(self) -> str:
        """Warning about a view that is no better than chance, or of which that is unknown, as the interval is
        wide; empty for any other."""
        if not self.by_chance:
            return ""
        if self.auroc is None:
            return f"the {self.view} view could not be calibrated: the attempts all pass, or all fail"
        estimate = f"{self.auroc.mean:.2f} [{self.auroc.low:.2f}, {self.auroc.high:.2f}]"
        found = f"AUROC {estimate} over {self.scored} attempts"
        if self.auroc.high >= USEFUL:
            return f"the {self.view} view is of unknown worth, as its interval is wide: {found}"
        return f"the {self.view} view is no better than chance: {found}"


def calibrate(
    view: str,
    scores: Sequence[float | None],
    passed: Sequence[bool],
    task_ids: Sequence[str],
    first: Calibration | None = None,
    **counts: int,
) -> Calibration:
    """AUROC of a view that does not see the test outcomes, with its confidence interval over tasks.

    The sequences have an entry for each attempt; attempts at one task are resampled together. ``first`` is
    the view's calibration in the first round, against which drift is measured; ``counts`` are the other
    counts of :class:`Calibration`. Attempts without a score are left out.
    """
    attempts = zip(scores, passed, task_ids, strict=True)
    scored = [(score, ok, task_id) for score, ok, task_id in attempts if score is not None]
    area = None
    if len({ok for _, ok, _ in scored}) == 2:
        values, outcomes, of_task = zip(*scored, strict=True)
        area = auroc(values, outcomes, of_task)
    before = first.auroc if first is not None else None
    drift = area.mean - before.mean if area is not None and before is not None else None
    return Calibration(view=view, scored=len(scored), auroc=area, drift=drift, **counts)
