"""Whether a task set's tests can be trusted, and whether it may be trained on."""

from collections.abc import Callable, Iterable, Sequence

from pydantic import Field

from codestill.errors import TaskError
from codestill.languages import LANGUAGES
from codestill.tasks.config import TaskSet
from codestill.types import ExecutionResult, Record, Task, Test, TestResult, Verdict


class WrongVerdict(Record):
    """A known answer that got the wrong verdict."""

    task_id: str
    answer: str
    """``reference``, which must pass; ``empty`` or ``pass-body``, which must fail."""
    verdict: Verdict
    detail: str = ""

    def __str__(self) -> str:
        detail = f": {self.detail}" if self.detail else ""
        return f"{self.task_id}: {self.answer}: {self.verdict}{detail}"


class TasksReport(Record):
    """The result of :func:`check_tasks`."""

    tasks: str
    task_count: int
    data_hash: str
    findings: tuple[WrongVerdict, ...]
    closed: tuple[str, ...] = Field(default=(), exclude_if=lambda value: not value)
    """Ids of the gaps that nothing need fill: their two sides together pass. Not wrong, but no merit of a
    model's either."""

    @property
    def holds(self) -> bool:
        return not self.findings

    def wrong(self, answer: str) -> tuple[str, ...]:
        """Ids of the tasks on which a known answer got the wrong verdict."""
        return tuple(finding.task_id for finding in self.findings if finding.answer == answer)

    @property
    def reference_passes(self) -> int:
        """The ceiling: no honest model scores higher, except on tasks whose reference is broken."""
        return self.task_count - len(self.wrong("reference"))


Execute = Callable[[Sequence[tuple[Task, str]]], Iterable[ExecutionResult]]
ProgressCallback = Callable[[int, int], None]
"""Called with the number of programs executed so far, and of all."""


def check_tasks(task_set: TaskSet, execute: Execute, progress: ProgressCallback | None = None) -> TasksReport:
    """Execute three known answers to every task; ``execute`` yields the result of each (task, completion), in
    order."""
    pairs = [
        (task, answer, completion)
        for task in task_set.tasks
        for answer, completion in (
            ("reference", task.reference),
            ("empty", ""),
            *([("pass-body", pass_body(task))] if task.suffix is None else []),
        )
    ]
    results = execute([(task, completion) for task, _, completion in pairs])
    findings: list[WrongVerdict] = []
    closed: list[str] = []
    for done, ((task, answer, _), result) in enumerate(zip(pairs, results, strict=True), 1):
        if result.passed and answer == "empty" and task.suffix is not None:
            closed.append(task.task_id)
        elif result.passed != (answer == "reference"):
            findings.append(_wrong_verdict(task, answer, result))
        if progress:
            progress(done, len(pairs))
    return TasksReport(
        tasks=task_set.name,
        task_count=len(task_set),
        data_hash=task_set.data_hash,
        findings=tuple(findings),
        closed=tuple(closed),
    )


def _wrong_verdict(task: Task, answer: str, result: ExecutionResult) -> WrongVerdict:
    detail = result.error or next(
        (
            _failure(test, outcome)
            for test, outcome in zip(task.tests, result.tests, strict=False)  # it may have ended early
            if outcome.verdict != "pass"
        ),
        "",
    )
    return WrongVerdict(task_id=task.task_id, answer=answer, verdict=result.verdict, detail=detail)


def _failure(test: Test, outcome: TestResult) -> str:
    """What happened, and in which test."""
    error = f"{outcome.error_type} {outcome.message}".strip()
    gave = f" ({outcome.call} gave {outcome.actual})" if outcome.call and outcome.actual else ""
    line = " ".join(test.code.split())
    return f"{error} in {line if len(line) <= 200 else f'{line[:200]} ...'}{gave}"


def pass_body(task: Task) -> str:
    """A completion after which ``entry_point`` exists and does nothing."""
    return LANGUAGES[task.language].stub(task.prompt, task.entry_point, task.reference)


def require_trainable(task_set: TaskSet, allow_test_split: bool = False) -> None:
    """Refuse to train on test tasks: raises TaskError unless ``allow_test_split`` is set."""
    held_out = [task.task_id for task in task_set.tasks if task.split == "test"]
    if held_out and not allow_test_split:
        raise TaskError(
            f"{task_set.name} holds {len(held_out)} test tasks (first: {held_out[0]}); a model trained on "
            "them cannot be tested on them.",
            next_step="Train on another split, e.g. mbpp:train or mine.jsonl:train (to which rows without a "
            "split belong), or set allow_test_split if that is what you mean.",
        )


def require_whole(task_set: TaskSet) -> None:
    """Refuse gaps where a teacher answers, mends or takes apart what a prompt asks for: raises TaskError."""
    if task_set.gaps:
        raise TaskError(
            f"{task_set.name} holds gaps to fill, and this recipe's prompts show a teacher one side of them.",
            next_step="Give tasks that ask for whole functions, with train.fim to make gaps of the answers; "
            "sft and logit_kd train on gaps as they are.",
        )
