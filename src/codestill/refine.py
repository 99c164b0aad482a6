"""Refinements: a teacher repairs one attempt, given its execution feedback, and the repair is executed."""

from collections.abc import Iterator, Mapping, Sequence

from pydantic import PositiveInt

from codestill.models import SamplingConfig
from codestill.prompts import Nearness
from codestill.sandbox.feedback import Form, feedback
from codestill.tasks import TaskSet
from codestill.teaching import Teaching
from codestill.types import Attempt, Completion, ExecutionResult, Record, Request, Settings


class Refinement(Record):
    """A teacher's repair of an attempt, executed."""

    attempt: Attempt
    """What failed."""
    feedback: str
    """The execution feedback that the teacher got."""
    completion: Completion
    """The repair, as a completion of the task's prompt."""
    result: ExecutionResult

    @property
    def key(self) -> str:
        return self.attempt.key

    @property
    def task_id(self) -> str:
        return self.attempt.task_id


class RefineConfig(Settings):
    """How a teacher is prompted to repair an attempt."""

    sampling: SamplingConfig = SamplingConfig()
    """How the teacher's solutions and repairs are sampled."""
    show_solution: bool = False
    """Show the teacher its own solution, as PERsD's release does; a repair is then often a copy of it."""
    nearness: Nearness = "near"
    """How close to the attempt the repair shall stay: PERsD's prompts v0, v1 and v2."""
    explain: bool = False
    """Ask for an explanation of the mistakes instead of showing execution feedback."""
    feedback: Form = "persd"
    """Form of the execution feedback."""
    feedback_words: PositiveInt = 50
    """Words to which each value and message is cut."""

    def feedback_on(self, failed: Attempt) -> str:
        """The execution feedback on an attempt that failed."""
        return feedback(failed.result, self.feedback_words, self.feedback)


def refine(
    teaching: Teaching,
    task_set: TaskSet,
    config: RefineConfig,
    solutions: Mapping[str, str],
    owed: Sequence[Attempt],
) -> Iterator[Refinement]:
    """A repair of each failed attempt, executed; in any order.

    ``solutions`` are the teacher's own by task id, shown where the config says so and there is one.
    """
    tasks = task_set.by_id
    failed = {attempt.key: attempt for attempt in owed}
    feedback_on = {key: config.feedback_on(attempt) for key, attempt in failed.items()}

    def request(attempt: Attempt) -> Request:
        prompt = teaching.prompts.to_refine(
            tasks[attempt.task_id],
            attempt.completion.text,
            feedback_on[attempt.key],
            solution=solutions.get(attempt.task_id) if config.show_solution else None,
            nearness=config.nearness,
            explain=config.explain,
        )
        return Request(task_id=attempt.task_id, sample=attempt.completion.sample, prompt=prompt)

    requests = [request(attempt) for attempt in owed]
    for repaired in teaching.try_out("refinements", task_set, config.sampling, requests):
        yield Refinement(
            attempt=failed[repaired.key],
            feedback=feedback_on[repaired.key],
            completion=repaired.completion,
            result=repaired.result,
        )
