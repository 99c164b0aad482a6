"""New tasks with tests, from seeds: a teacher proposes, solves and names inputs; execution gives the outputs.

As in the data of PERsD (arXiv:2310.18628, built like Code Alpaca): the expected value of a test is what the
teacher's own code returned, so that tests certify agreement with the teacher, not truth. Ours: a test is kept
only if its value is a literal and a second execution in a fresh process gives it again.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from codestill.errors import TaskError
from codestill.sandbox import Program
from codestill.synthesis.calls import UNKNOWN, is_literal, read_calls
from codestill.synthesis.propose import (
    DROP_REASONS,
    Admission,
    DropReason,
    SynthesisConfig,
    propose,
)
from codestill.tasks import TaskSet
from codestill.teaching import Teaching
from codestill.types import ExecutionResult, Record, Request, Task, Test


class Executed(Record):
    """What the calls of a proposed task returned."""

    task_id: str
    result: ExecutionResult

    @property
    def key(self) -> str:
        return self.task_id


def synthesise(
    seeds: TaskSet,
    teaching: Teaching,
    config: SynthesisConfig,
    admission: Admission | None = None,
    *,
    allow_empty: bool = False,
    seed: int | None = None,
) -> TaskSet:
    """New training tasks, in the order of their proposals.

    ``seed`` is that of the proposals (default: the run's): another one where the same seeds are used again.
    Stages: proposals, made-solutions, inputs, outputs, outputs-again. Raises ConfigError where the prompts
    have no form for tasks; TaskError where none is left, unless ``allow_empty``.
    """
    teaching, before = replace(teaching, stop=seeds.stop), teaching.tokens
    proposals = propose(seeds, teaching, config, admission, seed)
    solved = _solve(proposals.tasks, teaching, config)
    tested = _test(solved, teaching, config)
    dropped = proposals.dropped + Counter[DropReason](
        {"unsolved": len(proposals.tasks) - len(solved), "too few tests": len(solved) - len(tested)}
    )
    teaching.run.account(
        proposals=config.proposals, tasks_made=len(tested), question_tokens=teaching.tokens - before
    )
    teaching.run.account(**{f"dropped_{why.replace(' ', '_')}": dropped[why] for why in DROP_REASONS})
    if not tested and not allow_empty:
        counts = ", ".join(f"{dropped[why]} {why}" for why in DROP_REASONS if dropped[why])
        raise TaskError(
            f"none of {config.proposals} proposals became a task: {counts}.",
            next_step="Look at the stages proposals, made-solutions and inputs of the run.",
        )
    return TaskSet(f"{seeds.name}/made", tuple(tested), "train", "zero-shot", seeds.stop)


def _solve(proposed: Sequence[Task], teaching: Teaching, config: SynthesisConfig) -> list[Task]:
    """The tasks with the teacher's solutions, where these define the function and are not cut."""
    requests = [Request(task_id=task.task_id, prompt=teaching.prompts.to_solve(task)) for task in proposed]
    answers = teaching.ask_for_code("made-solutions", requests, config.solution)
    solved = []
    for task, answer in zip(proposed, answers, strict=True):
        reference = teaching.prompts.read(answer.text, task, teaching.stop)
        if answer.is_whole and task.accepts(reference):
            solved.append(task.model_copy(update={"reference": reference}))
    return solved


def _test(solved: Sequence[Task], teaching: Teaching, config: SynthesisConfig) -> list[Task]:
    """The tasks with tests: calls that the teacher names, and the values that its solution gives twice."""
    requests = [
        Request(task_id=task.task_id, prompt=teaching.prompts.to_inputs(task, task.reference))
        for task in solved
    ]
    answers = teaching.ask("inputs", requests, config.inputs)
    untried = []
    for task, answer in zip(solved, answers, strict=True):
        calls = read_calls(task.entry_point, answer.text)
        unknown = tuple(Test(code=f"assert {call} == {UNKNOWN}") for call in calls)
        if unknown:
            untried.append(task.model_copy(update={"tests": unknown}))
    first = _executed("outputs", untried, teaching)
    valued = [
        task.model_copy(update={"tests": tests}) for task, result in first if (tests := _valued(result))
    ]
    tested = []
    for task, result in _executed("outputs-again", valued, teaching):
        stable = tuple(
            test for test, again in zip(task.tests, result.tests, strict=False) if again.verdict == "pass"
        )
        if len(stable) >= config.tests and len({test.code.rpartition(" == ")[2] for test in stable}) > 1:
            tested.append(task.model_copy(update={"tests": stable}))
    return tested


def _executed(stage: str, tasks: Sequence[Task], teaching: Teaching) -> list[tuple[Task, ExecutionResult]]:
    """The tasks' own references, executed on their tests."""

    def execute(owed: Sequence[Task]) -> Iterator[Executed]:
        results = teaching.sandbox.run(Program.of(task, task.reference) for task in owed)
        for task, result in zip(owed, results, strict=True):
            if result.verdict != "infra_error":  # it stays owed
                yield Executed(task_id=task.task_id, result=result)

    records = teaching.run.stage(stage, Executed, tasks, execute)
    return [(task, record.result) for task, record in zip(tasks, records, strict=True)]


def _valued(result: ExecutionResult) -> tuple[Test, ...]:
    """The calls that returned a literal, as tests."""
    return tuple(
        Test(code=f"assert {test.call} == {test.actual}")
        for test in result.tests
        if test.verdict == "wrong" and test.call and is_literal(test.actual)
    )
