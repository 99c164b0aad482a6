"""Which faulty programs stand beside right ones, and where they come from."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.scripted import Scripted, teaching_by

from codestill.attempt import Workbench
from codestill.config import RunConfig
from codestill.prompts import CONTINUED, INSTRUCT
from codestill.recipes.iterkd.faults import (
    FaultsConfig,
    choose,
    generated_by_teacher,
    length_confound,
    mutated,
)
from codestill.run import Run
from codestill.sandbox import Sandbox, SandboxConfig
from codestill.tasks import TasksConfig, TaskSet
from codestill.types import Attempt, Completion, Example, ExecutionResult, Fault, TestResult, Verdict


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(), 1) as box:
        yield box


def world(count: int = 6) -> tuple[TaskSet, dict[str, str]]:
    task_set = TasksConfig.model_validate(
        {"source": "pocket", "split": "train", "count": count, "depths": [2]}
    ).load()
    return task_set, {task.task_id: task.reference for task in task_set.tasks}


def attempted(
    task_id: str, text: str, error: str, verdict: Verdict = "exception", sample: int = 0
) -> Attempt:
    tests = (TestResult(verdict=verdict, error_type=error),)
    completion = Completion(task_id=task_id, sample=sample, text=text)
    return Attempt(completion=completion, result=ExecutionResult(verdict=verdict, tests=tests))


def failing(task_set: TaskSet) -> list[Attempt]:
    """Of each task four that are wrong, one that raises, one that passes and one that does not parse."""
    made = []
    for task in task_set.tasks:
        for n in range(4):
            made.append(attempted(task.task_id, f"    return {n}\n", "AssertionError", "wrong", n))
        made.append(attempted(task.task_id, "    return 1 / 0\n", "ZeroDivisionError", sample=4))
        made.append(attempted(task.task_id, task.reference, "", "pass", 5))
        made.append(attempted(task.task_id, "    return (\n", "SyntaxError", sample=6))
    return made


def test_classes_of_error_are_taken_in_equal_shares() -> None:
    task_set, right = world()
    found = choose(FaultsConfig(), task_set, right, {"student": failing(task_set)}, seed=0)
    errors = [fault.error for faults in found.values() for fault in faults]
    assert sorted(errors) == ["AssertionError"] * 3 + ["ZeroDivisionError"] * 3
    assert all(len(faults) == 1 and faults[0].source == "student" for faults in found.values())
    assert found == choose(FaultsConfig(), task_set, right, {"student": failing(task_set)}, seed=0)


def test_only_what_fails_and_parses_is_taken_and_nothing_twice() -> None:
    task_set, right = world(2)
    cut = [attempted(task_id, "    return 'cut'\n", "NameError") for task_id in right]
    cut = [
        one.model_copy(update={"completion": one.completion.model_copy(update={"finish": "length"})})
        for one in cut
    ]
    twice = [*cut, *failing(task_set)] * 2
    found = choose(FaultsConfig(per_program=10), task_set, right, {"student": twice}, seed=0)
    for task_id, faults in found.items():
        texts = [fault.completion for fault in faults]
        assert len(texts) == len(set(texts)) == 5
        assert right[task_id] not in texts and "    return (\n" not in texts
    broken = choose(FaultsConfig(per_program=10, broken=True), task_set, right, {"student": twice}, seed=0)
    assert all(len(faults) == 6 for faults in broken.values())


def test_an_earlier_source_comes_first() -> None:
    task_set, right = world(3)
    first = task_set.tasks[0].task_id
    mine = [one for one in failing(task_set) if one.task_id == first]
    others = [attempted(task.task_id, "    return None\n", "TypeError") for task in task_set.tasks]
    config = FaultsConfig(sources=("student", "mutation"), per_program=1)
    found = choose(config, task_set, right, {"student": mine, "mutation": others}, seed=0)
    assert [found[task.task_id][0].source for task in task_set.tasks] == ["student", "mutation", "mutation"]
    alone = choose(FaultsConfig(), task_set, right, {"student": mine, "mutation": others}, seed=0)
    assert [len(alone[task.task_id]) for task in task_set.tasks] == [1, 0, 0]


def test_mutations_are_executed_and_those_that_fail_are_faults(tmp_path: Path, sandbox: Sandbox) -> None:
    task_set, right = world()
    config = FaultsConfig(sources=("mutation",), mutants=3, per_program=3)
    with Run.open(tmp_path / "run", RunConfig()) as run:
        made = mutated(config, task_set, right, Workbench(sandbox, run))
    assert any(one.result.passed for one in made) or made
    found = choose(config, task_set, right, {"mutation": made}, seed=0)
    kept = [fault for faults in found.values() for fault in faults]
    assert kept and len(kept) == sum(not one.result.passed for one in made)
    assert {fault.source for fault in kept} == {"mutation"}


def test_the_teacher_is_asked_for_faults_or_for_solutions(tmp_path: Path, sandbox: Sandbox) -> None:
    task_set, right = world(2)
    task = task_set.tasks[0]
    wrong = Scripted(lambda one: f"```python\n{task.prompt}    return None\n```")
    one = replace(task_set, tasks=(task,))
    with Run.open(tmp_path / "run", RunConfig()) as run:
        made = generated_by_teacher(FaultsConfig(), one, right, teaching_by(wrong, INSTRUCT, sandbox, run))
    assert len(made) == 2 and not any(attempt.result.passed for attempt in made)
    assert "misunderstood one thing" in wrong.prompts[0] and task.reference.strip() in wrong.prompts[0]
    assert CONTINUED.to_fault(task, "x") == task.prompt


def test_how_often_the_right_program_is_longer() -> None:
    faults = (Fault(completion="ab", source="student", error="E"),)
    row = Example(example_id="a", prompt="p", completion="abc", faults=faults)
    assert length_confound([row]) == 1.0
    assert length_confound([row.model_copy(update={"completion": "xy"})]) == 0.5
    assert length_confound([row.model_copy(update={"faults": ()})]) is None
