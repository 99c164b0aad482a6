"""Published files: their sizes, their references, and the agreement of verdicts with EvalPlus's."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from codestill.sandbox import Program, SandboxConfig
from codestill.tasks import TasksConfig, check_tasks, read_samples
from codestill.types import ExecutionResult, Task

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif("CODESTILL_DATA" not in os.environ, reason="CODESTILL_DATA is not set"),
]


@pytest.fixture(scope="module")
def sandbox():
    with SandboxConfig().build() as sandbox:
        yield sandbox


def load(spec: str) -> tuple[Task, ...]:
    return TasksConfig.model_validate(spec).load().tasks


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        ("humaneval", 164),
        ("humaneval-plus", 164),
        ("mbpp:all", 974),
        ("mbpp:prompt", 10),
        ("mbpp:test", 500),
        ("mbpp:validation", 90),
        ("mbpp:train", 374),
        ("mbpp:test/few-shot", 500),
        ("mbpp-sanitized:all", 427),
        ("mbpp-sanitized:prompt", 7),
        ("mbpp-sanitized:test", 257),
        ("mbpp-sanitized:validation", 43),
        ("mbpp-sanitized:train", 120),
        ("mbpp-sanitized:test/few-shot", 257),
        ("mbpp-plus", 378),
    ],
)
def test_counts(spec: str, count: int) -> None:
    assert len(load(spec)) == count


def failing(sandbox, tasks) -> list[str]:
    results = sandbox.run(Program.of(task, task.reference) for task in tasks)
    return [task.task_id for task, result in zip(tasks, results, strict=True) if not result.passed]


@pytest.mark.parametrize("spec", ["humaneval", "humaneval-plus", "mbpp-plus"])
def test_first_references_pass(sandbox, spec: str) -> None:
    assert failing(sandbox, load(spec)[:12]) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "spec", ["humaneval", "mbpp:all", "mbpp-sanitized:all", "humaneval-plus", "mbpp-plus"]
)
def test_all_references_pass(sandbox, spec: str) -> None:
    assert failing(sandbox, load(spec)) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("spec", ["humaneval", "mbpp:all", "mbpp-sanitized:all"])
def test_known_answers_get_the_right_verdicts(sandbox, spec: str) -> None:
    def execute(pairs: Sequence[tuple[Task, str]]) -> Iterable[ExecutionResult]:
        return sandbox.run(Program.of(task, completion) for task, completion in pairs)

    report = check_tasks(TasksConfig.model_validate(spec).load(), execute)
    assert report.findings == ()
    assert report.reference_passes == report.task_count


def agreement(sandbox, source: str, name: str, limit: int | None = None) -> dict[str, tuple[bool, bool]]:
    """Task id -> does our (base, plus) verdict equal the recorded one, on real answers of a 1.5B model."""
    directory = Path(os.environ["CODESTILL_DATA"], "qwen25coder_samples")
    results = json.loads((directory / f"1.5b-base_{name}_generated_eval_results.json").read_text())["eval"]
    tasks = {task.task_id: task for task in load(source)}
    samples = [
        (tasks[task_id], completion)
        for task_id, completion in read_samples(directory / f"1.5b-base_{name}_generated.jsonl")
        if task_id in tasks
    ][:limit]
    agrees = {}
    executed = sandbox.run(Program.of(task, completion) for task, completion in samples)
    for (task, _), result in zip(samples, executed, strict=True):
        (recorded,) = results[task.task_id]
        base = recorded["base_status"] == "pass"
        plus = base and recorded["plus_status"] == "pass"
        ours = bool(result.tests) and result.tests[0].verdict == "pass"
        agrees[task.task_id] = (ours == base, result.passed == plus)
    return agrees


def test_first_verdicts_equal_those_of_evalplus(sandbox) -> None:
    agrees = agreement(sandbox, "humaneval-plus", "humaneval", limit=14)
    assert len(agrees) == 14
    assert set(agrees.values()) == {(True, True)}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_humaneval_verdicts_equal_those_of_evalplus(sandbox) -> None:
    agrees = agreement(sandbox, "humaneval-plus", "humaneval")
    assert len(agrees) == 164
    assert set(agrees.values()) == {(True, True)}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_mbpp_verdicts_equal_those_of_evalplus(sandbox) -> None:
    agrees = agreement(sandbox, "mbpp-plus", "mbpp")
    assert len(agrees) == 378
    # Recorded before EvalPlus compared these three tasks as sets.
    differing = {task_id for task_id, pair in agrees.items() if pair != (True, True)}
    assert differing == {"Mbpp/2", "Mbpp/232", "Mbpp/579"}
