"""Tests that a teacher generates, and answers on which it agrees with itself (CodeT, arXiv:2207.10397).

Several answers to one task are executed on calls that the teacher names. Answers that pass the same tests
are a group; the group with the most answers times tests is accepted. For a teacher that generates calls
alone, the values that its answers gave are the tests: a group then agrees on all calls.
"""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field, NonNegativeInt, PositiveInt

from codestill.models import SamplingConfig
from codestill.synthesis import UNKNOWN, is_literal, read_calls
from codestill.tasks import TaskSet
from codestill.teaching import Teaching
from codestill.types import Attempt, Completion, Request, Settings, Task, Test

Expected = tuple[str, str]
"""A call, and the repr of its value."""


class AgreementConfig(Settings):
    """How a teacher's answers are compared with each other."""

    solutions: NonNegativeInt = 4
    """Answers sampled besides the one in question."""
    sampling: SamplingConfig = SamplingConfig(temperature=0.7)
    """How they are sampled."""
    calls: SamplingConfig = SamplingConfig(temperature=0.7)
    """How tests are sampled."""
    share: float = Field(default=0.5, ge=0, le=1)
    """Smallest share of the answers that the largest group must have."""
    tests: PositiveInt = 3
    """Fewest tests that it must pass."""


@dataclass(frozen=True)
class Agreed:
    """The accepted group of answers to a task."""

    tests: tuple[Test, ...]
    """Tests that all its answers pass."""
    members: tuple[int, ...]
    """Numbers of its answers; 0 is the one in question."""
    share: float
    """Of all answers."""


def agree(teaching: Teaching, name: str, tasks: Sequence[Task], config: AgreementConfig) -> dict[str, Agreed]:
    """By task id, where the answers agree; each task's ``reference`` is the answer in question.

    Stages: ``<name>-answers``, ``<name>-calls``, ``<name>-outputs``.
    """
    requests = [
        Request(task_id=task.task_id, prompt=teaching.prompts.to_solve(task), sample=number)
        for task in tasks
        for number in range(1, config.solutions + 1)
    ]
    candidates = {task.task_id: [task.reference] for task in tasks}
    known = {task.task_id: task for task in tasks}
    for answer in teaching.ask_for_code(f"{name}-answers", requests, config.sampling):
        completion = teaching.prompts.read(answer.text, known[answer.task_id], teaching.stop)
        candidates[answer.task_id].append(completion)
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
    """The accepted group by task id, where any test is passed; ties go to the earliest answer."""
    calls = ask_calls(teaching, f"{name}-calls", tasks, sampling)
    unknown = [
        task.model_copy(update={"tests": tuple(Test(code=f"assert {c} == {UNKNOWN}") for c, _ in found)})
        for task in tasks
        if (found := calls[task.task_id])
    ]
    answers = [
        Completion(task_id=task.task_id, sample=number, text=text)
        for task in unknown
        for number, text in enumerate(candidates[task.task_id])
    ]
    ran = run_on(teaching, f"{name}-outputs", unknown, answers)
    values: dict[str, list[dict[str, str]]] = {}
    for one in ran:
        of_task = calls[one.task_id]
        given = {
            call: test.actual
            for (call, _), test in zip(of_task, one.result.tests, strict=False)
            if test.verdict == "wrong" and is_literal(test.actual)
        }
        values.setdefault(one.task_id, []).append(given)
    found = {task_id: _accepted(calls[task_id], given) for task_id, given in values.items()}
    return {task_id: one for task_id, one in found.items() if one is not None}


def _accepted(calls: Sequence[tuple[str, str | None]], values: Sequence[dict[str, str]]) -> Agreed | None:
    written = [(call, value) for call, value in calls if value is not None]
    observed = dict.fromkeys((call, given[call]) for given in values for call, _ in calls if call in given)
    tests: list[Expected] = written or list(observed)
    groups: dict[tuple[Expected, ...], list[int]] = {}
    for number, given in enumerate(values):
        passed = tuple((call, value) for call, value in tests if given.get(call) == value)
        if passed:
            groups.setdefault(passed, []).append(number)
    if not groups:
        return None
    passed, members = max(groups.items(), key=lambda one: (len(one[0]) * len(one[1]), -one[1][0]))
    return Agreed(
        tests=tuple(Test(code=f"assert {call} == {value}") for call, value in passed),
        members=tuple(members),
        share=len(members) / len(values),
    )


def teacher_tests(
    teaching: Teaching, name: str, tasks: Sequence[Task], config: AgreementConfig
) -> list[Task]:
    """The tasks with tests of the teacher's instead of their own; those for which it has none are left out.

    Assertions that it writes, shown each task's ``reference``; where it writes calls alone, values on which
    its answers agree.
    """
    if teaching.modular.tests is None:
        found = agree(teaching, name, tasks, config)
        tests = {task_id: one.tests for task_id, one in found.items()}
    else:
        calls = ask_calls(teaching, f"{name}-calls", tasks, config.calls)
        tests = {
            task_id: tuple(Test(code=f"assert {call} == {value}") for call, value in found)
            for task_id, found in calls.items()
        }
    return [t.model_copy(update={"tests": tests[t.task_id]}) for t in tasks if tests.get(t.task_id)]


def run_on(
    teaching: Teaching, stage: str, tasks: Sequence[Task], answers: Sequence[Completion]
) -> list[Attempt]:
    """Execute answers to these tasks, as a stage."""
    task_set = TaskSet(stage, tuple(tasks), "train", "zero-shot", teaching.stop)
    return teaching.students.execute(stage, task_set, answers)


def ask_calls(
    teaching: Teaching, stage: str, tasks: Sequence[Task], sampling: SamplingConfig
) -> dict[str, list[tuple[str, str | None]]]:
    """Calls of each task's function, with their values where the teacher writes them."""
    modular = teaching.modular
    asked = [
        Request(
            task_id=task.task_id,
            prompt=modular.to_tests(task.prompt, task.reference)
            or teaching.prompts.to_inputs(task, task.reference),
        )
        for task in tasks
    ]
    found: dict[str, list[tuple[str, str | None]]] = {}
    for task, answer in zip(tasks, teaching.ask(stage, asked, sampling), strict=True):
        if modular.tests is not None:
            found[task.task_id] = list(read_assertions(task.entry_point, answer.text))
        else:
            found[task.task_id] = [(call, None) for call in read_calls(task.entry_point, answer.text)]
    return found


def read_assertions(function: str, answer: str) -> list[Expected]:
    """The assertions ``function(literals) == literal`` that stand in an answer, a line each; of two about one
    call the first."""
    found: dict[str, str] = {}
    for line in answer.splitlines():
        try:
            node = ast.parse(line.strip().removeprefix("- ").strip("`")).body
        except (SyntaxError, ValueError):
            continue
        test = node[0].test if len(node) == 1 and isinstance(node[0], ast.Assert) else None
        if not (isinstance(test, ast.Compare) and [type(one) for one in test.ops] == [ast.Eq]):
            continue
        calls = read_calls(function, ast.unparse(test.left))
        try:
            value = repr(ast.literal_eval(test.comparators[0]))
        except (ValueError, TypeError):
            continue
        for call in calls:
            found.setdefault(call, value)
    return list(found.items())
