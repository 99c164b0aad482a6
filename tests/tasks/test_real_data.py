"""Published files: their sizes, and whether their tests can be believed."""

import os
from collections.abc import Iterable, Sequence

import pytest

from codestill.sandbox import Program, Sandbox, SandboxConfig
from codestill.tasks import TasksConfig, check_tasks
from codestill.types import ExecutionResult, Task

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif("CODESTILL_DATA" not in os.environ, reason="CODESTILL_DATA is not set"),
]


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(SandboxConfig()) as sandbox:
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


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "spec", ["humaneval", "mbpp:all", "mbpp-sanitized:all", "humaneval-plus", "mbpp-plus"]
)
def test_known_answers_get_the_right_verdicts(sandbox, spec: str) -> None:
    def execute(pairs: Sequence[tuple[Task, str]]) -> Iterable[ExecutionResult]:
        return sandbox.run(Program.of(task, completion) for task, completion in pairs)

    report = check_tasks(TasksConfig.model_validate(spec).load(), execute)
    assert report.findings == ()
    assert report.reference_passes == report.task_count
