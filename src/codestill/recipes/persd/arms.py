"""Which examples a student is trained on: the arms of personalised distillation, from one table.

An example teaches to *generate* (task -> code) or to *repair* (task, attempt, feedback, task -> code); its
code is the teacher's own solution or the teacher's refinement of that attempt; and the tasks are all that the
teacher solves, or only those whose attempt failed and was refined (arXiv:2310.18628). A repair example ends
with the whole prompt of the task, its header included, as at inference; the released ones lack it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from codestill.examples import row
from codestill.models import Asked
from codestill.prompts import prompts_for
from codestill.refine import Refinement
from codestill.tasks import TaskSet
from codestill.types import Attempt, Example

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
class DataArm:
    """Where an arm's examples come from."""

    generate: Code | None = None
    """Whose code answers a task alone; None where there are no such examples."""
    repair: Code | None = None
    """Whose code answers a task with an attempt and its feedback."""
    refined_only: bool = True
    """Only tasks whose attempt was refined successfully; else every task that the teacher solved."""
    approximates: str = ""
    """Which other method this approximates, and how it differs."""

    @property
    def needs_attempts(self) -> bool:
        """Whether a student must attempt the tasks."""
        return self.repair is not None or self.refined_only

    @property
    def needs_refinements(self) -> bool:
        """Whether a teacher must repair what failed: examples hold repairs, or tasks are chosen by them."""
        return self.refined_only


ARMS: Mapping[ArmName, DataArm] = {
    "stand": DataArm(generate="solution", refined_only=False),
    "stand-refine": DataArm(repair="solution", refined_only=False),
    "stand-combined": DataArm(generate="solution", repair="solution", refined_only=False),
    "inpd": DataArm(generate="solution"),
    "inpd-refine": DataArm(repair="solution"),
    "inpd-combined": DataArm(generate="solution", repair="solution"),
    "persd": DataArm(generate="refinement"),
    "persd-refine": DataArm(repair="refinement"),
    "persd-combined": DataArm(generate="solution", repair="refinement"),
    "ilf": DataArm(
        generate="refinement",
        approximates="ILF (arXiv:2303.16749): there a human explains what is wrong, here the teacher",
    ),
    "self-edit": DataArm(
        repair="solution",
        refined_only=False,
        approximates="Self-Edit (arXiv:2305.04087): there the editor is a model of its own, here the student",
    ),
}
assert set(ARMS) == set(get_args(ArmName))


def arm_examples(
    arm: DataArm,
    student: Asked,
    task_set: TaskSet,
    solutions: Mapping[str, str],
    failed: Sequence[tuple[Attempt, str]],
    refinements: Sequence[Refinement],
) -> list[Example]:
    """The arm's training examples, in the order of the tasks and the form in which the student is asked.

    ``solutions`` are verified ones by task id; ``failed`` the attempts that failed, each with its execution
    feedback, for arms that need no repair of them; ``refinements`` those that are kept.
    """
    of_task: dict[str, list[tuple[Attempt, str, str]]] = {}
    if arm.refined_only:
        for repaired in refinements:
            triple = (repaired.attempt, repaired.feedback, repaired.completion.text)
            of_task.setdefault(repaired.task_id, []).append(triple)
    else:
        for attempt, feedback in failed:
            of_task.setdefault(attempt.task_id, []).append((attempt, feedback, ""))
    examples: list[Example] = []
    for task in task_set.tasks:
        solution = solutions.get(task.task_id)
        if solution is None:
            continue
        own = of_task.get(task.task_id, [])
        if arm.generate == "solution" and (own or not arm.refined_only):
            examples.append(row(student, task, solution, "solution"))
        for attempt, feedback, refinement in own:
            if arm.generate == "refinement":
                failing = attempt.completion.text
                examples.append(row(student, task, refinement, "refinement", attempt.key, attempt=failing))
            if arm.repair is not None:
                code = solution if arm.repair == "solution" else refinement
                failing = attempt.completion.text
                asked = prompts_for(student).to_refine(task, failing, feedback)
                source, name = f"repair: {arm.repair}", f"{attempt.key}/repair"
                repair = row(student, task, code, source, name, attempt=failing)
                examples.append(repair.model_copy(update={"prompt": asked}))
    return examples
