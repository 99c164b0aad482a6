"""How far a view can be believed: its scores against what the tests say of the same attempts."""

from collections.abc import Sequence

from codestill.scoring import auroc
from codestill.types import Calibration


def calibrate(
    view: str,
    scores: Sequence[float | None],
    passed: Sequence[bool],
    first: Calibration | None = None,
    **counts: int,
) -> Calibration:
    """AUROC of a view that does not know the tests' outcome, with its interval over attempts.

    ``first`` is the same view's in the first round, from which it may drift; ``counts`` are what a
    :class:`~codestill.types.Calibration` counts besides. An attempt without a score is left out.
    """
    known = [(score, ok) for score, ok in zip(scores, passed, strict=True) if score is not None]
    outcomes = {ok for _, ok in known}
    found = auroc([score for score, _ in known], [ok for _, ok in known]) if len(outcomes) == 2 else None
    before = first.auroc if first is not None else None
    drift = found.mean - before.mean if found is not None and before is not None else None
    return Calibration(view=view, scored=len(known), auroc=found, drift=drift, **counts)
