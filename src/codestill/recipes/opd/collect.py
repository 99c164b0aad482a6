"""One round's examples: solutions, the student's attempts, and the teacher's repairs, as the row needs them.

Stages, each kept record by record: solutions (the teacher's, executed), attempts (the student's, executed),
refinements (the teacher's, of attempts that failed).
"""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from codestill.attempt import Workbench, solved
from codestill.models import SamplingConfig
from codestill.recipes.opd.rows import (
    ROWS,
    Row,
    RowName,
    is_on_policy,
    off_policy_example,
    on_policy_examples,
)
from codestill.recipes.opd.times import Times
from codestill.records import Settings
from codestill.refine import RefineConfig, Refinement, refine
from codestill.run import Run
from codestill.tasks import TaskSet
from codestill.teaching import Teaching
from codestill.types import Attempt, Example

if TYPE_CHECKING:
    from codestill.models.student import Student


class CollectConfig(Settings):
    """Settings of one collection."""

    row: RowName = "gkd"
    """Whose text is scored, what the teacher is shown, and who teaches."""
    on_policy: float = Field(default=1.0, ge=0, le=1)
    """Share of the tasks whose text is the student's own; of the others a solution is scored."""
    solutions: Literal["reference", "teacher"] = "reference"
    """Whose solutions are shown or scored: the tasks' own, or the teacher's that pass the tests."""
    attempts: SamplingConfig = SamplingConfig(temperature=1.0)
    """How the student's attempts are sampled."""
    attempts_per_task: PositiveInt = 1
    """Attempts at each task."""
    refine: RefineConfig = RefineConfig()
    """How the teacher is prompted to solve and to repair, and the form of the feedback."""

    @property
    def table_row(self) -> Row:
        """The row of the table."""
        return ROWS[self.row]

    @property
    def needs_solutions(self) -> bool:
        """Whether any solution is shown or scored."""
        row = self.table_row
        to_repair = row.text == "repair" and self.refine.show_solution
        return self.on_policy < 1 or row.shown == "solution" or to_repair

    @property
    def needs_teacher(self) -> bool:
        """Whether another model than the student is needed."""
        asks = self.needs_solutions and self.solutions == "teacher"
        return asks or self.table_row.teacher == "external"


def collect(
    config: CollectConfig,
    task_set: TaskSet,
    student: "Student",
    bench: Workbench,
    teaching: Teaching | None,
    run: Run,
    seed: int,
    times: Times,
) -> list[Example]:
    """The examples of a round, in the order of the tasks. ``seed`` is that of the attempts: a new one every
    round. ``times`` counts what they take."""
    row = config.table_row
    answers: list[Attempt] = []
    solutions: dict[str, str] = {}
    if config.needs_solutions and config.solutions == "reference":
        solutions = {task.task_id: task.reference for task in task_set.tasks}
    elif config.needs_solutions:
        assert teaching is not None
        with times.of("answers"):
            answers = teaching.round(run).attempt("solutions", task_set, config.refine.sampling)
        solutions = solved(answers)
    own = task_set.with_tasks(task for task in task_set.tasks if is_on_policy(task, config.on_policy, seed))
    attempts: list[Attempt] = []
    if own.tasks:
        with times.of("attempts"):
            attempts = replace(bench, run=run).attempt(
                "attempts", student, own, config.attempts, samples=config.attempts_per_task, seed=seed
            )
    refinements: list[Refinement] = []
    if row.text == "repair":
        assert teaching is not None
        repair = partial(refine, teaching.round(run), task_set, config.refine, solutions)
        failed = [attempt for attempt in attempts if not attempt.result.passed]
        with times.of("answers"):
            refinements = run.stage("refinements", Refinement, failed, repair)
    written = on_policy_examples(row, student, own, attempts, refinements, solutions, config.refine)
    examples: list[Example] = []
    sampled = own.by_id
    for task in task_set.tasks:
        examples += written.get(task.task_id, [])
        if task.task_id not in sampled and task.task_id in solutions:
            examples.append(off_policy_example(row, student, task, solutions[task.task_id], config.solutions))
    on_policy = sum(map(len, written.values()))
    # Answers count whether this run asked for them or found them kept: the row needs them either way.
    run.account(
        tasks=len(task_set),
        solution_calls=len(answers),
        solution_tokens=sum(answer.completion.tokens for answer in answers),
        attempts=len(attempts),
        attempts_passed=sum(attempt.result.passed for attempt in attempts),
        refinement_calls=len(refinements),
        refinement_tokens=sum(repair.completion.tokens for repair in refinements),
        refined=sum(repair.result.passed for repair in refinements),
        on_policy_examples=on_policy,
        off_policy_examples=len(examples) - on_policy,
    )
    steps = {"tasks": len(task_set)}
    if answers:
        steps["solved by the teacher"] = len(solutions)
    if own.tasks:
        steps["attempts of the student"] = len(attempts)
    if row.failed_only and own.tasks:
        steps["attempts that failed"] = sum(not attempt.result.passed for attempt in attempts)
    if row.text == "repair":
        steps["refined: repairs that pass"] = sum(repair.result.passed for repair in refinements)
    run.funnel(steps)
    return examples
