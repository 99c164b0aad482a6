"""Self-repair (multi-step inference): a model answers, visible tests are run, it repairs its own answer.

Hidden tests never come here: this module is given tasks that hold the visible tests alone.
"""

import ast
import doctest
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

from pydantic import Field, PositiveInt

from codestill.attempt import execute, read
from codestill.errors import ConfigError
from codestill.languages import UNPARSABLE
from codestill.models import Completer, Decoding
from codestill.prompts import prompts_for
from codestill.sandbox import Sandbox
from codestill.sandbox.feedback import feedback
from codestill.tasks import TaskSet
from codestill.types import Attempt, ChatForm, Completion, Request, Settings, Task, Test

FeedbackKind = Literal["execution", "generic", "none"]
GENERIC = "The program is wrong."
_AT_ONCE = 256


class SelfRepairConfig(Settings):
    """How often a model may repair its own answer, and the feedback that it gets."""

    repairs: PositiveInt = 2
    """At most this many repairs, each of the answer before it."""
    feedback: FeedbackKind = "execution"
    """What the execution of the visible tests showed; only that the program is wrong; or nothing at all."""
    compare_feedback: tuple[FeedbackKind, ...] = ()
    """Other kinds of feedback to evaluate the student with as well: results `student-self-repair-generic`
    and so on."""
    samples_per_task: PositiveInt | None = None
    """Samples per task in this evaluation (default: as many as without repairs)."""
    visible: Literal["prompt", "first"] = "prompt"
    """Visible tests: those that stand in the prompt, or the first ``visible_tests`` of the task."""
    visible_tests: int = Field(default=2, ge=1)
    """How many, with ``visible=first``."""


def visible_tasks(task_set: TaskSet, config: SelfRepairConfig) -> TaskSet:
    """The tasks with their visible tests, without their references. A task that shows none is left out: its
    first answer stands."""
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
    tests = [test for test in task.tests if test.code.strip() in task.prompt]
    try:
        examples = doctest.DocTestParser().get_examples(_docstring(task.prompt))
    except ValueError:  # examples that are not doctest's
        examples = []
    for example in examples:
        try:
            call = ast.parse(example.source.strip(), mode="eval")
            value = ast.literal_eval(example.want.strip())
        except UNPARSABLE:
            continue
        if isinstance(call.body, ast.Call):
            tests.append(Test(code=f"assert {example.source.strip()} == {value!r}"))
    return tests


def _docstring(prompt: str) -> str:
    try:
        tree = ast.parse(f"{prompt}\n    pass\n")
    except UNPARSABLE:
        return ""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return (ast.get_docstring(functions[-1]) or "") if functions else ""


@dataclass
class SelfRepair:
    """A completer that repairs its own answers; an evaluation treats it like any other model."""

    model: Completer
    visible: TaskSet
    sandbox: Sandbox
    config: SelfRepairConfig
    editor: Completer | None = None
    """The model that repairs, where it is another one, as in Self-Edit."""

    def __post_init__(self) -> None:
        if self.editor is not None and (self.editor.form is None) != (self.model.form is None):
            raise ConfigError(
                f"{self.model.name} and its editor {self.editor.name} are not asked in the same form.",
                next_step="Take two models that chat, or two that continue text; see `chat`.",
            )

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def form(self) -> ChatForm | None:
        return self.model.form

    @property
    def quantization(self) -> str | None:
        """How the model's weights were quantised, as an evaluation states it."""
        return getattr(self.model, "quantization", None)

    def complete(self, requests: Iterable[Request], decoding: Decoding) -> Iterator[Completion]:
        """Yield the last answer to each request: the first that passes the visible tests, or the last repair.

        Raises SandboxError when an answer could not be executed.
        """
        waiting = iter(requests)
        while batch := list(islice(waiting, _AT_ONCE)):
            yield from self._repaired(batch, decoding)

    def _repaired(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        tasks = self.visible.by_id
        answers = {answer.key: answer for answer in self.model.complete(requests, decoding)}
        owed = [request for request in requests if request.task_id in tasks]
        for step in range(self.config.repairs):
            completions = [
                read(answers[request.key], prompts_for(self.model), tasks[request.task_id], self.visible.stop)
                for request in owed
            ]
            executed = execute(self.sandbox, self.visible, completions)
            attempts = {attempt.completion.key: attempt for attempt in executed}
            failed = [attempts[request.key] for request in owed if not attempts[request.key].result.passed]
            if not failed:
                break
            owed = [self._request(attempt, tasks[attempt.task_id]) for attempt in failed]
            again = replace(decoding, seed=decoding.seed + step + 1)
            answers |= {answer.key: answer for answer in (self.editor or self.model).complete(owed, again)}
        yield from (answers[request.key] for request in requests)

    def _request(self, failed: Attempt, task: Task) -> Request:
        """The request for a repair."""
        text = {"execution": feedback(failed.result), "generic": GENERIC, "none": ""}[self.config.feedback]
        return Request(
            task_id=failed.task_id,
            sample=failed.completion.sample,
            prompt=prompts_for(self.editor or self.model).to_refine(task, failed.completion.text, text),
        )
