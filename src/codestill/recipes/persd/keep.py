"""Which repairs a student is trained on."""

from typing import Literal

from codestill.recipes.persd.similarity import similarity
from codestill.refine import RefineConfig, Refinement

Keep = Literal["all", "passed", "not-copied", "personal"]


class KeepConfig(RefineConfig):
    """How a teacher is prompted to repair an attempt, and which repairs are kept."""

    keep: Keep = "passed"
    """Which repairs are trained on: all; those that pass their tests; of these, those that are not the
    solution once more; or those that are closer to the attempt than the solution is."""


def is_kept(refinement: Refinement, solution: str, keep: Keep) -> bool:
    """Whether a refinement is trained on: none that the token limit cut. ``solution`` is the teacher's own
    code for the task."""
    if not refinement.completion.is_whole:
        return False
    if keep == "all" or not refinement.result.passed:
        return keep == "all"
    if keep == "passed":
        return True
    measured = similarity(refinement.attempt.completion.text, refinement.completion.text, solution)
    return measured.personal if keep == "personal" else not measured.copied
