"""Attempts: a model completes tasks, and the sandbox executes what it wrote."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from codestill.sandbox import Program, Sandbox
from codestill.tasks import TaskSet
from codestill.tasks.stops import cut, stopped
from codestill.types import Attempt, Completion, Request

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


def requests(task_set: TaskSet, samples: int = 1) -> list[Request]:
    """``samples`` requests for every task."""
    return [
        Request(task_id=task.task_id, prompt=task.prompt, sample=sample)
        for task in task_set.tasks
        for sample in range(samples)
    ]


def attempt(
    model: Completer,
    task_set: TaskSet,
    sandbox: Sandbox,
    sampling: "SamplingConfig",
    seed: int,
    owed: Sequence[Request],
) -> Iterator[Attempt]:
    """Complete each request, cut it by the task set's stop rule, and execute it; in any order."""
    tasks = {task.task_id: task for task in task_set.tasks}
    waiting: deque[Completion] = deque()

    def programs() -> Iterator[Program]:
        answers = model.complete(owed, sampling, stopped=lambda text: stopped(text, task_set.stop), seed=seed)
        for answer in answers:
            completion = cut_completion(answer, task_set)
            waiting.append(completion)
            yield Program.of(tasks[completion.task_id], completion.text)

    for result in sandbox.run(programs()):
        yield Attempt(completion=waiting.popleft(), result=result)


def cut_completion(answer: Completion, task_set: TaskSet) -> Completion:
    """The completion after the task set's stop rule; the model's own text is kept where it differs."""
    text = cut(answer.text, task_set.stop)
    return answer if text == answer.text else answer.model_copy(update={"text": text, "raw": answer.text})
