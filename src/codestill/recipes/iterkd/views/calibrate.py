"""How far a view can be believed: its scores against what the tests say of the same attempts."""

from collections.abc import Sequence

from codestill.evaluation.metrics import auroc
from codestill.types import Interval, Record


class Calibration(Record):
    """How well one view of attempts tells those that pass their tests from those that fail."""

    view: str
    scored: int
    """Attempts that it gave a score."""
    unreadable: int = 0
    """Judgements that could not be read."""
    clipped: int = 0
    """Points out of their range, taken as the nearest that is in it."""
    fractions: int = 0
    """Points between those that the rubric allows; they are kept."""
    auroc: Interval | None = None
    """Probability that one that passes is scored above one that fails; None where all or none pass."""
    drift: float | None = None
    """That probability less the first round's."""

    @property
    def by_chance(self) -> bool:
        """Whether it was not shown to be better than chance."""
        return self.auroc is None or self.auroc.low <= 0.5

    @property
    def warning(self) -> str:
        """What to say of a view that is no better than chance; empty of one that is."""
        if not self.by_chance:
            return ""
        if self.auroc is None:
            return f"the {self.view} view could not be calibrated: the attempts all pass, or all fail"
        found = f"{self.auroc.mean:.2f} [{self.auroc.low:.2f}, {self.auroc.high:.2f}]"
        return f"the {self.view} view is no better than chance: AUROC {found} over {self.scored} attempts"


def calibrate(
    view: str,
    scores: Sequence[float | None],
    passed: Sequence[bool],
    first: Calibration | None = None,
    **counts: int,
) -> Calibration:
    """AUROC of a view that does not know the tests' outcome, with its interval over attempts.

    ``first`` is the same view's in the first round, from which it may drift; ``counts`` are what a
    :class:`Calibration` counts besides. An attempt without a score is left out.
    """
    known = [(score, ok) for score, ok in zip(scores, passed, strict=True) if score is not None]
    outcomes = {ok for _, ok in known}
    found = auroc([score for score, _ in known], [ok for _, ok in known]) if len(outcomes) == 2 else None
    before = first.auroc if first is not None else None
    drift = found.mean - before.mean if found is not None and before is not None else None
    return Calibration(view=view, scored=len(known), auroc=found, drift=drift, **counts)
