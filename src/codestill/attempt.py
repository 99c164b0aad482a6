"""Attempts: a model completes tasks, and the sandbox executes what it wrote."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from codestill.errors import SandboxError
from codestill.prompts import CONTINUED, Prompts
from codestill.sandbox import Program, Sandbox
from codestill.tasks import TaskSet
from codestill.tasks.stops import StopRule
from codestill.types import Attempt, Completion, Request, Task

if TYPE_CHECKING:
    from codestill.models import SamplingConfig


class Completer(Protocol):
    """Anything that completes prompts: a student, or a teacher."""

    @property
    def name(self) -> str: ...

    def complete(
        self,
        requests: Iterable[Request],
        sampling: "SamplingConfig",
        *,
        stopped: Callable[[str], bool] | None = None,
        seed: int = 0,
    ) -> Iterator[Completion]: ...


def requests(task_set: TaskSet, samples: int = 1, prompts: Prompts = CONTINUED) -> list[Request]:
    """``samples`` requests for every task, asked as the prompts say."""
    asked = [(task.task_id, prompts.to_solve(task)) for task in task_set.tasks]
    return [
        Request(task_id=task_id, prompt=prompt, sample=sample)
        for task_id, prompt in asked
        for sample in range(samples)
    ]


def attempt(
    model: Completer,
    task_set: TaskSet,
    sandbox: Sandbox,
    sampling: "SamplingConfig",
    seed: int,
    owed: Sequence[Request],
    *,
    prompts: Prompts = CONTINUED,
) -> Iterator[Attempt]:
    """Complete each request, read the answer as its prompts say, and execute it; in any order."""
    tasks = {task.task_id: task for task in task_set.tasks}
    answers = model.complete(owed, sampling, stopped=prompts.ended(task_set.stop), seed=seed)
    return execute(
        sandbox, task_set, (read(answer, prompts, tasks[answer.task_id], task_set.stop) for answer in answers)
    )


def execute(sandbox: Sandbox, task_set: TaskSet, completions: Iterable[Completion]) -> Iterator[Attempt]:
    """Execute each completion, in order.

    One that the sandbox itself failed on has no verdict and stays owed: after all others, SandboxError is
    raised."""
    tasks = {task.task_id: task for task in task_set.tasks}
    waiting: deque[Completion] = deque()
    lost: list[str] = []

    def programs() -> Iterator[Program]:
        for completion in completions:
            waiting.append(completion)
            yield Program.of(tasks[completion.task_id], completion.text)

    for result in sandbox.run(programs()):
        completion = waiting.popleft()
        if result.verdict == "infra_error":
            lost.append(f"{completion.key} ({result.error})")
        else:
            yield Attempt(completion=completion, result=result)
    if lost:
        raise SandboxError(
            f"{len(lost)} programs could not be executed, however often they were tried; first {lost[0]}",
            next_step="Run the same command again, with fewer workers or more memory: the rest is kept.",
        )


def read(answer: Completion, prompts: Prompts, task: Task, stop: StopRule) -> Completion:
    """The completion that an answer holds; the model's own text is kept where it differs."""
    text = prompts.read(answer.text, task, stop)
    return answer if text == answer.text else answer.model_copy(update={"text": text, "raw": answer.text})
