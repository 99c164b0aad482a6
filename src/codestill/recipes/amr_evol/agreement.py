"""Teacher-generated tests, and self-consistency of a teacher's answers (CodeT, arXiv:2207.10397).

Several answers to one task are executed on calls that the teacher generates. Answers that pass the same tests
form a group; the group with the largest product of answers and tests is accepted. For a teacher that
generates calls without values, the values that its answers return are the tests: a group then agrees on all
calls.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field, NonNegativeInt, PositiveInt

from codestill.models import SamplingConfig
from codestill.synthesis import UNKNOWN, is_literal, read_calls, read_values
from codestill.tasks import TaskSet
from codestill.teaching import Teaching
from codestill.types import Attempt, Completion, Request, Settings, Task, Test

Expected = tuple[str, str]
"""A call, and the repr of its expected value."""


class AgreementConfig(Settings):
    """How a teacher's answers are compared with each other."""

    solutions: NonNegativeInt = 4
    """Answers sampled besides the one being checked."""
    sampling: SamplingConfig = SamplingConfig(temperature=0.7)
    """How these answers are sampled."""
    calls: SamplingConfig = SamplingConfig(temperature=0.7)
    """How tests are sampled."""
    share: float = Field(default=0.5, ge=0, le=1)
    """Smallest share of all answers that the accepted group must hold."""
    tests: PositiveInt = 3
    """Fewest tests that the accepted group must pass."""


@dataclass(frozen=True)
class Agreed:
    """The accepted group of answers to a task."""

    tests: tuple[Test, ...]
    """Tests that all answers of the group pass."""
    members: tuple[int, ...]
    """Indices of its answers; 0 is the one being checked."""
    share: float
    """Its share of all answers."""


def agree(teaching: Teaching, name: str, tasks: Sequence[Task], config: AgreementConfig) -> dict[str, Agreed]:
    """The accepted group by task id, where the answers agree; a task's ``reference`` is the answer checked.

    Stages: ``<name>-answers``, ``<name>-calls``, ``<name>-outputs``.
    """
    requests = [
        Request(task_id=task.task_id, prompt=teaching.prompts.to_solve(task), sample=number)
        for task in tasks
        for number in range(1, config.solutions + 1)
    ]
    candidates = {task.task_id: [task.reference] for task in tasks}
    by_id = {task.task_id: task for task in tasks}
    for answer in teaching.ask_for_code(f"{name}-answers", requests, config.sampling):
        completion = teaching.prompts.read(answer.text, by_id[answer.task_id], teaching.stop)
        candidates[answer.task_id].append(completion if answer.is_whole else "")
    groups = vote(teaching, name, tasks, candidates, config.calls)
    return {
        task_id: group
        for task_id, group in groups.items()
        if group.share >= config.share
        and len(group.tests) >= config.tests
        and len(group.members) > 1
        and len({test.code.rpartition(" == ")[2] for test in group.tests}) > 1
    }


def vote(
    teaching: Teaching,
    name: str,
    tasks: Sequence[Task],
    candidates: Mapping[str, Sequence[str]],
    sampling: SamplingConfig,
) -> dict[str, Agreed]:
    """The accepted group by task id, where any answer passes a test; ties go to the earliest answer."""
    calls = ask_calls(teaching, f"{name}-calls", tasks, sampling)
    unknown = [
        task.model_copy(update={"tests": tuple(Test(code=f"assert {c} == {UNKNOWN}") for c, _ in of_task)})
        for task in tasks
        if (of_task := calls[task.task_id])
    ]
    answers = [
        Completion(task_id=task.task_id, sample=number, text=text)
        for task in unknown
        for number, text in enumerate(candidates[task.task_id])
    ]
    outputs: dict[str, list[dict[str, str]]] = {}
    for attempt in run_on(teaching, f"{name}-outputs", unknown, answers):
        returned = {
            call: test.actual
            for (call, _), test in zip(calls[attempt.task_id], attempt.result.tests, strict=False)
            if test.verdict == "wrong" and is_literal(test.actual)
        }
        outputs.setdefault(attempt.task_id, []).append(returned)
    groups = {task_id: _accepted(calls[task_id], of_task) for task_id, of_task in outputs.items()}
    return {task_id: group for task_id, group in groups.items() if group is not None}


def _accepted(calls: Sequence[tuple[str, str | None]], outputs: Sequence[dict[str, str]]) -> Agreed | None:
    """The largest group; ``outputs`` are, for each answer, the values it returned by call."""
    expected = [(call, value) for call, value in calls if value is not None]
    observed = dict.fromkeys(
        (call, returned[call]) for returned in outputs for call, _ in calls if call in returned
    )
    tests: list[Expected] = expected or list(observed)
    groups: dict[tuple[Expected, ...], list[int]] = {}
    for number, returned in enumerate(outputs):
        passed = tuple((call, value) for call, value in tests if returned.get(call) == value)
        if passed:
            groups.setdefault(passed, []).append(number)
    if not groups:
        return None
    passed, members = max(groups.items(), key=lambda group: (len(group[0]) * len(group[1]), -group[1][0]))
    return Agreed(
        tests=tuple(Test(code=f"assert {call} == {value}") for call, value in passed),
        members=tuple(members),
        share=len(members) / len(outputs),
    )


def teacher_tests(
    teaching: Teaching, name: str, tasks: Sequence[Task], config: AgreementConfig
) -> list[Task]:
    """The tasks with the teacher's tests instead of their own; tasks without any are left out.

    The tests are assertions that the teacher generates from a task and its ``reference``; of a teacher that
    generates calls alone, values on which its answers agree.
    """
    if teaching.modular.tests is None:
        groups = agree(teaching, name, tasks, config)
        tests = {task_id: group.tests for task_id, group in groups.items()}
    else:
        calls = ask_calls(teaching, f"{name}-calls", tasks, config.calls)
        tests = {
            task_id: tuple(Test(code=f"assert {call} == {value}") for call, value in of_task)
            for task_id, of_task in calls.items()
        }
    return [t.model_copy(update={"tests": tests[t.task_id]}) for t in tasks if tests.get(t.task_id)]


def run_on(
    teaching: Teaching, stage: str, tasks: Sequence[Task], answers: Sequence[Completion]
) -> list[Attempt]:
    """Execute answers to these tasks as a stage of the run."""
    task_set = TaskSet(stage, tuple(tasks), "train", "zero-shot", teaching.stop)
    return teaching.students.execute(stage, task_set, answers)


def ask_calls(
    teaching: Teaching, stage: str, tasks: Sequence[Task], sampling: SamplingConfig
) -> dict[str, list[tuple[str, str | None]]]:
    """Calls of each task's function by task id, with expected values where the teacher generates them."""
    modular = teaching.modular
    requests = [
        Request(
            task_id=task.task_id,
            prompt=modular.to_tests(task.prompt, task.reference, task.program(task.reference))
            or teaching.prompts.to_inputs(task, task.reference),
        )
        for task in tasks
    ]
    calls: dict[str, list[tuple[str, str | None]]] = {}
    for task, answer in zip(tasks, teaching.ask(stage, requests, sampling), strict=True):
        if modular.tests is not None:
            calls[task.task_id] = list(read_values(task.entry_point, answer.text))
        else:
            calls[task.task_id] = [(call, None) for call in read_calls(task.entry_point, answer.text)]
    return calls
