"""The published HumanEval: references pass, completions that solve nothing do not."""

import json
import os
from pathlib import Path

import pytest

from codestill.sandbox import Program, SandboxConfig
from codestill.types import Task, Test

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif("CODESTILL_DATA" not in os.environ, reason="CODESTILL_DATA is not set"),
]


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    lines = (Path(os.environ["CODESTILL_DATA"]) / "humaneval" / "HumanEval.jsonl").read_text().splitlines()
    return [
        Task(
            task_id=row["task_id"],
            prompt=row["prompt"],
            entry_point=row["entry_point"],
            reference=row["canonical_solution"],
            test_setup=row["test"],
            tests=(Test(code=f"check({row['entry_point']})"),),
        )
        for row in map(json.loads, lines)
    ]


@pytest.mark.parametrize(("completion", "passed"), [(None, 164), ("", 0), ("    pass\n", 0)])
def test_humaneval(tasks, completion, passed):
    with SandboxConfig().build() as sandbox:
        programs = [Program.of(task, task.reference if completion is None else completion) for task in tasks]
        results = list(sandbox.run(programs))
    assert sum(result.passed for result in results) == passed
    if completion is not None:
        assert {result.verdict for result in results} <= {"wrong", "exception"}
