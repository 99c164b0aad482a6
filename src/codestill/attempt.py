"""Attempts: a model completes tasks, and the sandbox executes what it generated."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from codestill.errors import SandboxError
from codestill.models import Completer, Decoding, SamplingConfig
from codestill.models.completer import Watcher
from codestill.prompts import Prompts, prompts_for
from codestill.run import Run
from codestill.sandbox import Program, Sandbox
from codestill.tasks import TaskSet
from codestill.tasks.stops import StopRule
from codestill.types import Attempt, Completion, Request, Task


@dataclass(frozen=True)
class Workbench:
    """Where completions are executed and kept: a sandbox, and the run or round that keeps them.

    ``prompts`` say how models are prompted here, and where the program is in their answers (default: those
    that suit the model).
    """

    sandbox: Sandbox
    run: Run
    prompts: Prompts | None = None

    def attempt(
        self,
        stage: str,
        model: Completer,
        task_set: TaskSet,
        sampling: SamplingConfig,
        *,
        samples: int = 1,
        seed: int | None = None,
    ) -> list[Attempt]:
        """``samples`` attempts at every task as a stage of the run, task by task in the set's order.

        ``seed`` is the run's unless given. Raises SandboxError when a program could not be executed.
        """
        watcher = self.run.watch(stage)
        produce = partial(self.try_out, model, task_set, sampling, seed=seed, watcher=watcher)
        asked = requests(task_set, samples, self._prompts(model))
        return self.run.stage(stage, Attempt, asked, produce)

    def try_out(
        self,
        model: Completer,
        task_set: TaskSet,
        sampling: SamplingConfig,
        asked: Iterable[Request],
        seed: int | None = None,
        watcher: Watcher | None = None,
    ) -> Iterator[Attempt]:
        """Complete each request and execute the program in the answer; in any order, outside any stage."""
        tasks, prompts = task_set.by_id, self._prompts(model)
        seed = self.run.seed if seed is None else seed
        ended = prompts.ended(task_set.stop, task_set.gaps)
        rule = task_set.stop.name if ended else ""
        decoding = Decoding(sampling, ended, seed, stop=rule, watcher=watcher)
        completions = (
            read(answer, prompts, tasks[answer.task_id], task_set.stop)
            for answer in model.complete(asked, decoding)
        )
        return execute(self.sandbox, task_set, completions)

    def execute(self, stage: str, task_set: TaskSet, completions: Sequence[Completion]) -> list[Attempt]:
        """Execute completions as a stage of the run."""
        return self.run.stage(stage, Attempt, completions, partial(execute, self.sandbox, task_set))

    def _prompts(self, model: Completer) -> Prompts:
        return self.prompts or prompts_for(model)


def requests(task_set: TaskSet, samples: int, prompts: Prompts) -> list[Request]:
    """``samples`` requests for every task, as the prompts phrase them."""
    phrased = [(task, prompts.to_solve(task)) for task in task_set.tasks]
    return [
        Request(task_id=task.task_id, prompt=prompt, suffix=task.suffix, sample=sample)
        for task, prompt in phrased
        for sample in range(samples)
    ]


def execute(sandbox: Sandbox, task_set: TaskSet, completions: Iterable[Completion]) -> Iterator[Attempt]:
    """Execute each completion while the next ones are generated; in the order in which they finish.

    One that the sandbox itself failed on has no verdict and stays owed: after all others, SandboxError is
    raised."""
    tasks = task_set.by_id
    executing: dict[int, Completion] = {}
    lost: list[str] = []

    def programs() -> Iterator[Program]:
        for number, completion in enumerate(completions):
            executing[number] = completion
            yield Program.of(tasks[completion.task_id], completion.text)

    for number, result in sandbox.stream(programs()):
        completion = executing.pop(number)
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


def solved(attempts: Iterable[Attempt]) -> dict[str, str]:
    """Task id -> the text of its first completion, by sample number, that passed every test and was not cut
    by the token limit."""
    return {task_id: completion.text for task_id, completion in solutions(attempts).items()}


def solutions(attempts: Iterable[Attempt]) -> dict[str, Completion]:
    """The completions of :func:`solved`."""
    first: dict[str, Attempt] = {}
    for attempt in attempts:
        best = first.get(attempt.task_id)
        if not attempt.result.passed or not attempt.completion.is_whole:
            continue
        if best is None or attempt.completion.sample < best.completion.sample:
            first[attempt.task_id] = attempt
    return {task_id: attempt.completion for task_id, attempt in first.items()}
