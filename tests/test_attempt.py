"""Completions are executed as they come; which of a task's attempts is its solution."""

import threading
import time
import weakref
from collections.abc import Iterator

import pytest

from codestill.attempt import execute, solved
from codestill.sandbox import Program, Sandbox, SandboxConfig
from codestill.sandbox.pool import Stop
from codestill.tasks import STOP_RULES, TaskSet
from codestill.types import Attempt, Completion, ExecutionResult, Finish, Task, Test, Verdict


def attempt(sample: int, verdict: Verdict = "pass", finish: Finish = "stop") -> Attempt:
    completion = Completion(task_id="t", sample=sample, text=f"    return {sample}\n", finish=finish)
    return Attempt(completion=completion, result=ExecutionResult(verdict=verdict))


def test_a_solution_is_the_first_whole_answer_that_passed() -> None:
    failed, cut = attempt(0, "wrong"), attempt(1, finish="length")
    assert solved([attempt(3), cut, attempt(2), failed]) == {"t": "    return 2\n"}
    assert solved([cut, failed]) == {}


def test_programs_are_executed_while_the_next_completion_is_generated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tasks = [
        Task(
            task_id=name,
            prompt=f"def {name}():\n",
            entry_point=name,
            tests=(Test(code=f"assert {name}() == 1"),),
            reference="    return 1\n",
        )
        for name in ("slow", "quick", "last")
    ]
    task_set = TaskSet("three", tuple(tasks), "test", "zero-shot", STOP_RULES["definitions"])
    texts = {
        "slow": "    import time\n    time.sleep(1)\n    return 1\n",
        "quick": "    return 1\n",
        "last": "    return 2\n",
    }
    quick = threading.Event()
    execute_one = Sandbox._execute

    def noted(self: Sandbox, program: Program, stop: Stop) -> ExecutionResult:
        result = execute_one(self, program, stop)
        if program.entry_point == "quick":
            quick.set()
        return result

    monkeypatch.setattr(Sandbox, "_execute", noted)

    def generated() -> Iterator[Completion]:
        for name in ("slow", "quick"):
            yield Completion(task_id=name, sample=0, text=texts[name])
        assert quick.wait(60), "nothing was executed while this was generated"
        yield Completion(task_id="last", sample=0, text=texts["last"])

    with Sandbox(SandboxConfig(), workers=2) as sandbox:
        attempts = list(execute(sandbox, task_set, generated()))
    assert {attempt.task_id: attempt.result.verdict for attempt in attempts} == {
        "slow": "pass",
        "quick": "pass",
        "last": "wrong",
    }
    # A slow program holds up no other's verdict.
    assert attempts[0].task_id == "quick"


def test_a_completion_is_not_kept_once_it_is_executed() -> None:
    task = Task(
        task_id="t",
        prompt="def t():\n",
        entry_point="t",
        tests=(Test(code="assert t() == 1"),),
        reference="    return 1\n",
    )
    task_set = TaskSet("one", (task,), "test", "zero-shot", STOP_RULES["definitions"])
    first: list[weakref.ref[Completion]] = []

    def generated() -> Iterator[Completion]:
        for sample in range(200):
            completion = Completion(task_id="t", sample=sample, text="    return 1\n")
            if not first:
                first.append(weakref.ref(completion))
            yield completion
            del completion
            if first[0]() is None:
                return
            time.sleep(0.05)
        raise AssertionError("the first completion is still held")

    with Sandbox(SandboxConfig(), workers=1) as sandbox:
        for _ in execute(sandbox, task_set, generated()):
            pass
