"""Evaluations of two models on the same tasks, task by task."""

from collections.abc import Iterable, Sequence

from codestill.evaluation.metrics import compare_pairs, pass_at_k
from codestill.types import Difference, Evaluation

ALIKE = ("data_hash", "samples_per_task", "temperature", "top_p", "prompt_mode")
"""What must be equal in two evaluations for their difference to mean something."""


def alike(a: Evaluation, b: Evaluation) -> bool:
    """Whether two evaluations were made of the same tasks in the same way."""
    return a.per_task.keys() == b.per_task.keys() and all(
        getattr(a, name) == getattr(b, name) for name in ALIKE
    )


def rates(evaluation: Evaluation, k: int, tasks: Iterable[str] | None = None) -> list[float]:
    """pass@k of each task, or of ``tasks`` in their order."""
    return [pass_at_k(*evaluation.per_task[task_id], k) for task_id in tasks or evaluation.per_task]


def difference(a: str, left: Sequence[Evaluation], b: str, right: Sequence[Evaluation]) -> Difference:
    """pass@1 of ``left`` minus that of ``right``, seed by seed; one evaluation alone, of a model that was not
    trained, is paired with every seed of the other. ``a`` and ``b`` name the two.

    Raises ValueError when both sides have several seeds, but not equally many.
    """
    if len(left) != len(right):
        left, right = (list(left) * len(right), right) if len(left) == 1 else (left, list(right) * len(left))
    tasks = list(left[0].per_task)  # one order for all: a file and a run that has just ended may differ in it
    problems = left[0].problems
    groups = [problems[task_id] for task_id in tasks] if problems else None
    measured = compare_pairs(
        [rates(e, 1, tasks) for e in left], [rates(e, 1, tasks) for e in right], groups=groups
    )
    return Difference(a=a, b=b, metric="pass@1", pairs=len(left) * len(tasks), **measured.model_dump())
