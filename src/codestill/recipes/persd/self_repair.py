"""Multi-step inference: a model answers, the tests that it may see are run, and it repairs its own answer.

Hidden tests never come here: what this module is given are tasks that hold the visible tests alone.
"""

import ast
import doctest
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from pydantic import Field, PositiveInt

from codestill.attempt import Completer, execute, read
from codestill.models import SamplingConfig
from codestill.prompts import CONTINUED
from codestill.sandbox import Sandbox
from codestill.sandbox.feedback import feedback
from codestill.tasks import TaskSet
from codestill.types import Attempt, Completion, Request, Settings, Task, Test

Told = Literal["execution", "generic", "none"]
GENERIC = "The program is wrong."
_AT_ONCE = 256


class MultiStepConfig(Settings):
    """How often a model may repair its own answer, and what it is told."""

    repairs: PositiveInt = 2
    """At most so many, each of the answer before it."""
    feedback: Told = "execution"
    """What the execution of the visible tests showed; only that the program is wrong; or nothing at all."""
    also: tuple[Told, ...] = ()
    """Other feedback that a recipe evaluates its student with, too: results `student-multistep-generic` and
    so on."""
    samples_per_task: PositiveInt | None = None
    """Answers to each task in a recipe's evaluation (default: as many as without repairs)."""
    visible: Literal["prompt", "first"] = "prompt"
    """Which tests are seen: those that stand in the prompt, or the first ``visible_tests`` of the task."""
    visible_tests: int = Field(default=2, ge=1)
    """How many, with ``visible=first``."""


def visible_tasks(task_set: TaskSet, config: MultiStepConfig) -> TaskSet:
    """The tasks with the tests that may be seen, and without their references. A task that shows none is left
    out: its first answer stands."""
    kept = []
    for task in task_set.tasks:
        seen = list(task.tests[: config.visible_tests]) if config.visible == "first" else shown(task)
        if seen:
            kept.append(task.model_copy(update={"tests": tuple(seen), "reference": ""}))
    return TaskSet(
        f"{task_set.name}/visible", tuple(kept), task_set.split, task_set.prompt_mode, task_set.stop
    )


def shown(task: Task) -> list[Test]:
    """The tests that stand in the prompt: doctest examples whose value is a literal, and assertions."""
    found = [test for test in task.tests if test.code.strip() in task.prompt]
    try:
        examples = doctest.DocTestParser().get_examples(_docstring(task.prompt))
    except ValueError:  # examples that are no doctest
        examples = []
    for one in examples:
        try:
            call, value = ast.parse(one.source.strip(), mode="eval"), ast.literal_eval(one.want.strip())
        except (SyntaxError, ValueError):
            continue
        if isinstance(call.body, ast.Call):
            found.append(Test(code=f"assert {one.source.strip()} == {value!r}"))
    return found


def _docstring(prompt: str) -> str:
    try:
        tree = ast.parse(f"{prompt}\n    pass\n")
    except SyntaxError:
        return ""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return (ast.get_docstring(functions[-1]) or "") if functions else ""


@dataclass
class MultiStep:
    """A completer that repairs its own answers; to an evaluation it is a model like any other."""

    model: Completer
    visible: TaskSet
    sandbox: Sandbox
    config: MultiStepConfig
    editor: Completer | None = None
    """Who repairs, where that is another model, as in Self-Edit."""

    @property
    def name(self) -> str:
        return self.model.name

    def complete(
        self,
        requests: Iterable[Request],
        sampling: SamplingConfig,
        stopped: Callable[[str], bool] | None = None,
        seed: int = 0,
    ) -> Iterator[Completion]:
        """Yield the last answer to each request: the first that passes the visible tests, or the last repair.

        Raises SandboxError when an answer could not be executed.
        """
        waiting = iter(requests)
        while some := list(islice(waiting, _AT_ONCE)):
            yield from self._some(some, sampling, stopped, seed)

    def _some(
        self,
        requests: Sequence[Request],
        sampling: SamplingConfig,
        stopped: Callable[[str], bool] | None,
        seed: int,
    ) -> Iterator[Completion]:
        tasks = {task.task_id: task for task in self.visible.tasks}
        answers = {
            one.key: one for one in self.model.complete(requests, sampling, stopped=stopped, seed=seed)
        }
        owed = [request for request in requests if request.task_id in tasks]
        for step in range(self.config.repairs):
            cut = [read(answers[one.key], CONTINUED, tasks[one.task_id], self.visible.stop) for one in owed]
            failed = [one for one in execute(self.sandbox, self.visible, cut) if not one.result.passed]
            if not failed:
                break
            owed = [self._repair(one, tasks[one.task_id]) for one in failed]
            repairer = self.editor or self.model
            again = repairer.complete(owed, sampling, stopped=stopped, seed=seed + step + 1)
            answers |= {one.key: one for one in again}
        yield from (answers[request.key] for request in requests)

    def _repair(self, one: Attempt, task: Task) -> Request:
        said = {
            "execution": feedback(one.result),
            "generic": GENERIC,
            "none": "",
        }[self.config.feedback]
        return Request(
            task_id=one.task_id,
            sample=one.completion.sample,
            prompt=CONTINUED.to_refine(task, one.completion.text, said),
        )
