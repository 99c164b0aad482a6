"""New tasks with tests, from seeds: a teacher proposes, solves and names inputs; execution gives the outputs.

As in the data of PERsD (arXiv:2310.18628, built like Code Alpaca): the expected value of a test is what the
teacher's own code returned, so that tests certify agreement with the teacher, not truth. Ours: a test is kept
only if its value is a literal and a second execution in a fresh process gives it again.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from codestill.attempt import Completer
from codestill.errors import TaskError
from codestill.prompts import Prompts
from codestill.run import Run
from codestill.sandbox import Program, Sandbox
from codestill.synthesis.calls import UNKNOWN, is_literal, read_calls
from codestill.synthesis.propose import WHY, SynthesisConfig, Why, propose
from codestill.tasks import TaskSet
from codestill.tasks.stops import parses
from codestill.types import Completion, ExecutionResult, Record, Request, Task, Test


class Executed(Record):
    """What the calls of a proposed task returned."""

    task_id: str
    result: ExecutionResult

    @property
    def key(self) -> str:
        return self.task_id


def synthesise(
    seeds: TaskSet,
    teacher: Completer,
    prompts: Prompts,
    config: SynthesisConfig,
    sandbox: Sandbox,
    run: Run,
    *,
    known: Sequence[str] = (),
    allowed: Callable[[str], bool] = lambda prompt: True,
    some: bool = True,
    seed: int | None = None,
) -> TaskSet:
    """New training tasks, in the order of their proposals; the stages are kept and resumed like any other.

    ``known`` are prompts that must not come again, besides the seeds'; one that is not ``allowed`` is dropped
    as held out. ``seed`` draws the proposals (default: the run's): another one where the same seeds are asked
    again. Raises ConfigError where the prompts cannot ask for tasks; TaskError where none is left,
    unless ``some`` is false.
    """
    dropped: dict[Why, int] = dict.fromkeys(WHY, 0)
    written: list[int] = []  # tokens, by the teacher

    def heard(answers: Sequence[Completion]) -> None:
        written.extend(one.tokens for one in answers)

    proposed = propose(seeds, teacher, prompts, config, run, dropped, heard, known, allowed, seed)
    solved = _solve(proposed, teacher, prompts, config, seeds, run, dropped, heard)
    made = _test(solved, teacher, prompts, config, sandbox, run, dropped, heard)
    run.account(proposals=config.proposals, tasks_made=len(made), question_tokens=sum(written))
    run.account(**{f"dropped_{why.replace(' ', '_')}": count for why, count in dropped.items()})
    if not made and some:
        lost = ", ".join(f"{count} {why}" for why, count in dropped.items() if count)
        raise TaskError(
            f"none of {config.proposals} proposals became a task: {lost}.",
            next_step="Look at the stages proposals, solutions and inputs of the run.",
        )
    return TaskSet(f"{seeds.name}/made", tuple(made), "train", "zero-shot", seeds.stop)


def _solve(
    proposed: Sequence[Task],
    teacher: Completer,
    prompts: Prompts,
    config: SynthesisConfig,
    seeds: TaskSet,
    run: Run,
    dropped: dict[Why, int],
    heard: Callable[[Sequence[Completion]], None],
) -> list[Task]:
    asked = [Request(task_id=task.task_id, prompt=prompts.to_solve(task)) for task in proposed]
    make = partial(
        teacher.complete, sampling=config.solution, seed=run.seed, stopped=prompts.ended(seeds.stop)
    )
    answers = run.stage("made-solutions", Completion, asked, make)
    heard(answers)
    solved = []
    for task, answer in zip(proposed, answers, strict=True):
        reference = prompts.read(answer.text, task, seeds.stop)
        if parses(task.prompt + reference):
            solved.append(task.model_copy(update={"reference": reference}))
        else:
            dropped["unsolved"] += 1
    return solved


def _test(
    solved: Sequence[Task],
    teacher: Completer,
    prompts: Prompts,
    config: SynthesisConfig,
    sandbox: Sandbox,
    run: Run,
    dropped: dict[Why, int],
    heard: Callable[[Sequence[Completion]], None],
) -> list[Task]:
    asked = [Request(task_id=t.task_id, prompt=prompts.to_inputs(t, t.reference)) for t in solved]
    make = partial(teacher.complete, sampling=config.inputs, seed=run.seed)
    answers = run.stage("inputs", Completion, asked, make)
    heard(answers)
    tried = []
    for task, answer in zip(solved, answers, strict=True):
        calls = read_calls(task.entry_point, answer.text)
        unknown = tuple(Test(code=f"assert {call} == {UNKNOWN}") for call in calls)
        tried.append(task.model_copy(update={"tests": unknown}) if unknown else None)
    dropped["too few tests"] += tried.count(None)
    first = _executed("outputs", [task for task in tried if task is not None], sandbox, run)
    known = [(task, values) for task, result in first if (values := _valued(result))]
    again = [task.model_copy(update={"tests": tests}) for task, tests in known]
    made = []
    for task, result in _executed("outputs-again", again, sandbox, run):
        stable = tuple(
            test for test, found in zip(task.tests, result.tests, strict=False) if found.verdict == "pass"
        )
        if len(stable) >= config.tests and len({test.code.rpartition(" == ")[2] for test in stable}) > 1:
            made.append(task.model_copy(update={"tests": stable}))
    dropped["too few tests"] += len(first) - len(made)
    return made


def _executed(
    stage: str, tasks: Sequence[Task], sandbox: Sandbox, run: Run
) -> list[tuple[Task, ExecutionResult]]:
    def execute(owed: Sequence[Task]) -> Iterator[Executed]:
        results = sandbox.run(Program.of(task, task.reference) for task in owed)
        for task, result in zip(owed, results, strict=True):
            if result.verdict != "infra_error":  # it stays owed
                yield Executed(task_id=task.task_id, result=result)

    found = run.stage(stage, Executed, tasks, execute)
    return [(task, one.result) for task, one in zip(tasks, found, strict=True)]


def _valued(result: ExecutionResult) -> tuple[Test, ...]:
    """The calls that returned a literal, as tests."""
    made = []
    for test in result.tests:
        if test.verdict == "wrong" and test.call and is_literal(test.actual):
            made.append(Test(code=f"assert {test.call} == {test.actual}"))
    return tuple(made)
