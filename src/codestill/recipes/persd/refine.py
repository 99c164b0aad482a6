"""Refinements: a teacher repairs one attempt, told what its execution showed, and the repair is executed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pydantic import PositiveInt

from codestill.attempt import Completer, attempt
from codestill.models import SamplingConfig
from codestill.prompts import Nearness, Prompts
from codestill.recipes.persd.nearness import nearness
from codestill.sandbox import Sandbox
from codestill.sandbox.feedback import Form, feedback
from codestill.tasks import TaskSet
from codestill.types import Attempt, Refinement, Request, Settings

Keep = Literal["all", "passed", "not-copied", "personal"]


class RefineConfig(Settings):
    """How a teacher is asked to repair an attempt."""

    sampling: SamplingConfig = SamplingConfig()
    """How the teacher's repair is drawn."""
    show_solution: bool = False
    """Show the teacher its own solution, as PERsD's release does; a repair is then often a copy of it."""
    nearness: Nearness = "near"
    """How near to the attempt the repair shall stay: PERsD's prompts v0, v1 and v2."""
    explain: bool = False
    """Ask for the mistakes in words instead of showing what execution found."""
    feedback: Form = "persd"
    """What is said of the execution."""
    feedback_words: PositiveInt = 50
    """Each value and message is cut to so many words."""
    keep: Keep = "passed"
    """Which repairs count: all; those that pass their tests; of these, those that are not the solution once
    more; or those that lie nearer to the attempt than the solution does."""

    def say(self, failed: Attempt) -> str:
        """What is said of the execution of an attempt that failed."""
        return feedback(failed.result, self.feedback_words, self.feedback)


def counts(one: Refinement, solution: str, keep: Keep) -> bool:
    """Whether a refinement is used. ``solution`` is the teacher's own code for the task."""
    if keep == "all" or not one.result.passed:
        return keep == "all"
    if keep == "passed":
        return True
    found = nearness(one.attempt.completion.text, one.completion.text, solution)
    return found.personal if keep == "personal" else not found.copied


def refine(
    teacher: Completer,
    task_set: TaskSet,
    sandbox: Sandbox,
    prompts: Prompts,
    config: RefineConfig,
    solutions: Mapping[str, str],
    seed: int,
    owed: Sequence[Attempt],
) -> Iterator[Refinement]:
    """A repair of each failed attempt, executed; in any order.

    ``solutions`` are the teacher's own by task id, shown where the config says so and there is one.
    """
    tasks = {task.task_id: task for task in task_set.tasks}
    failed = {one.key: one for one in owed}
    said = {key: config.say(one) for key, one in failed.items()}

    def ask(one: Attempt) -> Request:
        prompt = prompts.to_refine(
            tasks[one.task_id],
            one.completion.text,
            said[one.key],
            solution=solutions.get(one.task_id) if config.show_solution else None,
            nearness=config.nearness,
            explain=config.explain,
        )
        return Request(task_id=one.task_id, sample=one.completion.sample, prompt=prompt)

    asked = [ask(one) for one in owed]
    for repaired in attempt(teacher, task_set, sandbox, config.sampling, seed, asked, prompts=prompts):
        yield Refinement(
            attempt=failed[repaired.key],
            feedback=said[repaired.key],
            completion=repaired.completion,
            result=repaired.result,
        )
