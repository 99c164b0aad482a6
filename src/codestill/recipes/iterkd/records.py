"""What a round leaves for the report."""

from pydantic import Field

from codestill.recipes.iterkd.views import Calibration
from codestill.types import Bin, Interval, Record


class Cycle(Record):
    """One round of an iterative recipe, as the report tells of it."""

    round: int
    tasks: int
    solved: int
    """Tasks with a verified answer."""
    attempts: int
    passed: int
    bins: dict[Bin, int]
    """Tasks by difficulty."""
    calibrations: tuple[Calibration, ...]
    errors_before: dict[str, int]
    """Attempts at the validation tasks by class of error, before the round's training; `pass` for those that
    pass."""
    errors_after: dict[str, int]
    pass_at: dict[int, Interval]
    """On the validation tasks, after training."""
    gain: Interval | None = None
    """pass@1 less the best before it, paired over validation tasks."""
    kept: Interval | None = None
    """pass@1 on the first round's tasks."""
    faults: dict[str, int] = Field(default_factory=dict)
    """Faulty programs of the round's rows, by who wrote them."""
    fault_errors: dict[str, int] = Field(default_factory=dict)
    """And by class of error."""
    length_auroc: float | None = None
    """How often a right program is longer than a faulty one: 0.5 is no confound."""
    teacher_tokens: int = 0
    """Written by the teacher, and by the judge, for this round's rows, feedback and questions; whether this
    run paid for them or found them kept."""
