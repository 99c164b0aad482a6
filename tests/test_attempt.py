"""Which of a task's attempts is its solution."""

from codestill.attempt import solved
from codestill.types import Attempt, Completion, ExecutionResult, Finish, Verdict


def attempt(sample: int, verdict: Verdict = "pass", finish: Finish = "stop") -> Attempt:
    completion = Completion(task_id="t", sample=sample, text=f"    return {sample}\n", finish=finish)
    return Attempt(completion=completion, result=ExecutionResult(verdict=verdict))


def test_a_solution_is_the_first_whole_answer_that_passed() -> None:
    failed, cut = attempt(0, "wrong"), attempt(1, finish="length")
    assert solved([attempt(3), cut, attempt(2), failed]) == {"t": "    return 2\n"}
    assert solved([cut, failed]) == {}
