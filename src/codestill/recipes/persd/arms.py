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
from codestill.tasks import TaskSet
from codestill.types import Attempt, Example, Refinement

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

    @property
    def needs_attempts(self) -> bool:
        """Whether a student must attempt the tasks."""
        return self.repair is not None or self.refined_only

    @property
    def needs_refinements(self) -> bool:
        """Whether a teacher must repair what failed: rows hold repairs, or tasks are chosen by them."""
        return self.refined_only


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
    failed: Sequence[tuple[Attempt, str]],
    refinements: Sequence[Refinement],
) -> list[Example]:
    """The arm's training rows, in the order of the tasks.

    ``solutions`` are the teacher's proved ones by task id; ``failed`` the attempts that failed, each with
    what is said of it, for arms that need no repair of them; ``refinements`` those that count.
    """
    of_task: dict[str, list[tuple[Attempt, str, str]]] = {}
    if arm.refined_only:
        for one in refinements:
            known = of_task.setdefault(one.task_id, [])
            known.append((one.attempt, one.feedback, one.completion.text))
    else:
        for attempt, said in failed:
            of_task.setdefault(attempt.task_id, []).append((attempt, said, ""))
    made: list[Example] = []
    for task in task_set.tasks:
        solution = solutions.get(task.task_id)
        if solution is None:
            continue
        own = of_task.get(task.task_id, [])
        if arm.generate == "solution" and (own or not arm.refined_only):
            made.append(_row(task.task_id, task.prompt, solution, "solution"))
        for attempt, said, refinement in own:
            if arm.generate == "refinement":
                made.append(_row(attempt.key, task.prompt, refinement, "refinement"))
            if arm.repair is not None:
                asked = CONTINUED.to_refine(task, attempt.completion.text, said)
                code = solution if arm.repair == "solution" else refinement
                made.append(_row(f"{attempt.key}/repair", asked, code, f"repair: {arm.repair}"))
    return made


def _row(name: str, prompt: str, completion: str, source: str) -> Example:
    return Example(example_id=name, prompt=prompt, completion=completion, source=source)
