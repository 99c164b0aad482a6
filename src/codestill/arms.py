"""Which rows a student is trained on: the arms of personalised distillation, from one table.

A row teaches to *generate* (task -> code) or to *repair* (task, attempt, feedback, task -> code); its code is
the teacher's own solution or the teacher's refinement of that attempt; and the tasks are all that the teacher
solves, or those alone whose attempt failed and was refined (arXiv:2310.18628). A repair row ends with the
whole prompt of the task, its header included, as at inference; the released rows lack it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from codestill.prompts import CONTINUED
from codestill.serialize import seed_for
from codestill.tasks import TaskSet
from codestill.types import Example, Refinement

ArmName = Literal[
    "stand",
    "stand-refine",
    "stand-combined",
    "inpd",
    "inpd-refine",
    "inpd-combined",
    "persd",
    "persd-refine",
    "persd-combined",
    "ilf",
    "self-edit",
]
Code = Literal["solution", "refinement"]


@dataclass(frozen=True)
class Arm:
    """Where an arm's rows come from."""

    generate: Code | None = None
    """What is the answer to a task alone; None where there are no such rows."""
    repair: Code | None = None
    """What is the answer to a task with an attempt and its feedback."""
    refined_only: bool = True
    """Only tasks whose attempt was refined with success; else every task that the teacher solved."""
    approximates: str = ""
    """What other method this stands for, and how it differs from it."""


ARMS: Mapping[ArmName, Arm] = {
    "stand": Arm(generate="solution", refined_only=False),
    "stand-refine": Arm(repair="solution", refined_only=False),
    "stand-combined": Arm(generate="solution", repair="solution", refined_only=False),
    "inpd": Arm(generate="solution"),
    "inpd-refine": Arm(repair="solution"),
    "inpd-combined": Arm(generate="solution", repair="solution"),
    "persd": Arm(generate="refinement"),
    "persd-refine": Arm(repair="refinement"),
    "persd-combined": Arm(generate="solution", repair="refinement"),
    "ilf": Arm(
        generate="refinement",
        approximates="ILF (arXiv:2303.16749): there a human says in words what is wrong, here the teacher",
    ),
    "self-edit": Arm(
        repair="solution",
        refined_only=False,
        approximates="Self-Edit (arXiv:2305.04087): there the editor is a model of its own, here the student",
    ),
}
assert set(ARMS) == set(get_args(ArmName))


def rows(
    arm: Arm,
    task_set: TaskSet,
    solutions: Mapping[str, str],
    refinements: Sequence[Refinement],
    *,
    unfiltered: bool = False,
) -> list[Example]:
    """The arm's training rows, in the order of the tasks.

    ``solutions`` are the teacher's proved ones by task id. ``unfiltered`` also takes refinements that failed.
    """
    good = {one.key: one for one in refinements if one.result.passed or unfiltered}
    of_task: dict[str, list[Refinement]] = {}
    for one in refinements:
        of_task.setdefault(one.task_id, []).append(one)
    made: list[Example] = []
    for task in task_set.tasks:
        solution = solutions.get(task.task_id)
        if solution is None:
            continue
        own = of_task.get(task.task_id, [])
        taken = [one for one in own if one.key in good] if arm.refined_only else own
        if arm.generate == "solution" and (taken or not arm.refined_only):
            made.append(_row(task.task_id, task.prompt, solution, "solution"))
        for one in taken:
            if arm.generate == "refinement":
                made.append(_row(one.key, task.prompt, one.completion.text, "refinement"))
            if arm.repair is not None:
                asked = CONTINUED.to_refine(task, one.attempt.completion.text, one.feedback)
                code = solution if arm.repair == "solution" else one.completion.text
                made.append(_row(f"{one.key}/repair", asked, code, f"repair: {arm.repair}"))
    return made


def _row(name: str, prompt: str, completion: str, source: str) -> Example:
    return Example(example_id=name, prompt=prompt, completion=completion, source=source)


def subset(examples: Sequence[Example], count: int | None, seed: int) -> list[Example]:
    """At most ``count`` of the examples, in their order. Subsets are nested: a smaller count of the same
    examples and seed is part of a larger one."""
    if count is None or count >= len(examples):
        return list(examples)
    drawn = sorted(examples, key=lambda one: seed_for(seed, one.key))[:count]
    kept = {one.key for one in drawn}
    return [one for one in examples if one.key in kept]
