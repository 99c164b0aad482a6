"""Whose text is scored, what the teacher is shown beside the task, and who teaches: one table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from codestill.examples import row as example_of
from codestill.files.serialize import seed_for
from codestill.models import Asked
from codestill.prompts import prompts_for
from codestill.refine import RefineConfig, Refinement
from codestill.tasks import TaskSet
from codestill.types import Attempt, Example, Task

RowName = Literal["gkd", "sdft", "sdpo", "feedback", "refined"]


@dataclass(frozen=True)
class Row:
    """One way to distil on the student's own text."""

    text: Literal["attempt", "repair"]
    """Whose text is scored: the student's, or the teacher's verified repair of it."""
    shown: Literal["nothing", "solution", "feedback"]
    """What the teacher is shown beside the task; feedback comes with the attempt that it is on."""
    teacher: Literal["external", "itself"]
    """Another model, or the student as it is at the round's start."""
    divergence: str
    """By default."""
    source: str
    """Where it comes from."""

    @property
    def failed_only(self) -> bool:
        """Whether only attempts that fail give examples: there is no feedback on others."""
        return self.text == "repair" or self.shown == "feedback"

    @property
    def shows_off_policy(self) -> bool:
        """Whether the teacher is shown the solution that it scores. An external one sees the task alone, as
        in logit_kd; the student itself would have nothing to teach."""
        return self.teacher == "itself"


ROWS: Mapping[RowName, Row] = {
    "gkd": Row(
        "attempt", "nothing", "external", "generalized_jsd", "Lin et al. 2020; Agarwal et al. 2024 (GKD)"
    ),
    "sdft": Row(
        "attempt", "solution", "itself", "reverse_kl", "SDFT, arXiv:2601.19897; OPSD, arXiv:2601.18734"
    ),
    "sdpo": Row("attempt", "feedback", "itself", "reverse_kl", "SDPO, arXiv:2601.20802"),
    "feedback": Row("attempt", "feedback", "external", "reverse_kl", "ours: sdpo with another teacher"),
    "refined": Row("repair", "nothing", "external", "forward_kl", "TRD, arXiv:2606.08432; PERsD"),
}
assert set(ROWS) == set(get_args(RowName))


def is_on_policy(task: Task, share: float, seed: int) -> bool:
    """Whether the student's own text is scored for a task: for this share of tasks, the same whatever the
    row; those of a smaller share are among those of a larger one."""
    return seed_for(seed, f"on-policy/{task.task_id}") % 2**32 < share * 2**32


def on_policy_examples(
    row: Row,
    student: Asked,
    task_set: TaskSet,
    attempts: Sequence[Attempt],
    refinements: Sequence[Refinement],
    solutions: Mapping[str, str],
    config: RefineConfig,
) -> dict[str, list[Example]]:
    """By task id, the examples whose text the student wrote, or the teacher repaired."""
    tasks, prompts = task_set.by_id, prompts_for(student)
    examples: dict[str, list[Example]] = {}
    if row.text == "repair":
        for repair in refinements:
            if repair.result.passed and repair.completion.is_whole:
                task, text = tasks[repair.task_id], repair.completion.text
                failing = repair.attempt.completion.text
                example = example_of(student, task, text, "repair", repair.key, attempt=failing)
                examples.setdefault(task.task_id, []).append(example)
        return examples
    for attempt in attempts:
        task, completion = tasks[attempt.task_id], attempt.completion
        if completion.finish not in ("stop", "length") or (row.failed_only and attempt.result.passed):
            continue
        shown = ""
        if row.shown == "solution":
            if task.task_id not in solutions:
                continue
            shown = prompts.to_show(task, solutions[task.task_id])
        elif row.shown == "feedback":
            shown = prompts.to_refine(task, completion.text, config.feedback_on(attempt))
        example = example_of(student, task, completion.text, "attempt", attempt.key)
        # What surrounds a program in a fenced answer is the student's text, too.
        fenced = prompts.answers == "fenced"
        own = (completion.raw or completion.text) if fenced else example.completion
        update = {"teacher_prompt": shown, "completion": own}
        examples.setdefault(task.task_id, []).append(example.model_copy(update=update))
    return examples


def off_policy_example(row: Row, student: Asked, task: Task, solution: str, source: str) -> Example:
    """A solution of the task, which somebody else wrote."""
    example = example_of(student, task, solution, source)
    if not row.shows_off_policy:
        return example
    return example.model_copy(update={"teacher_prompt": prompts_for(student).to_show(task, solution)})
