"""Evaluations: which tests a score counts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.scripted import Scripted

from codestill.config import RunConfig
from codestill.errors import GateError
from codestill.evaluation import EvaluateConfig, evaluate
from codestill.run import Run
from codestill.sandbox import Sandbox, SandboxConfig
from codestill.tasks import write_tasks
from codestill.types import Evaluation, Task, Test

BASE, PLUS = Test(code="assert double(3) == 6"), Test(code="assert double(0) == 0", group="plus")
TASK = Task(
    task_id="t/0",
    prompt="def double(x):\n",
    entry_point="double",
    reference="    return 2 * x\n",
    tests=(BASE, PLUS),
)
RIGHT, BASE_ALONE, PLUS_ALONE, NEITHER = (f"    return {text}\n" for text in ("x + x", "6", "0", "None"))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(), 1) as box:
        yield box


def evaluated(directory: Path, sandbox: Sandbox, task: Task, *answers: str) -> Evaluation:
    directory.mkdir()
    write_tasks(directory / "t.jsonl", [task])
    settings = {"tasks": str(directory / "t.jsonl"), "samples_per_task": len(answers), "greedy": False}
    model = Scripted(lambda request: answers[request.sample])
    with Run.open(directory / "run", RunConfig()) as run:
        return evaluate(model, "student", EvaluateConfig.model_validate(settings), sandbox, run)


def test_base_scores_count_base_tests_alone(tmp_path: Path, sandbox: Sandbox) -> None:
    found = evaluated(tmp_path / "plus", sandbox, TASK, RIGHT, BASE_ALONE, PLUS_ALONE, NEITHER)
    assert found.per_task == {"t/0": (4, 1)}
    assert found.pass_at[1].mean == 0.25
    assert found.pass_at_base[1].mean == 0.5 and found.pass_at_base[4].mean == 1
    plain = evaluated(tmp_path / "base", sandbox, TASK.model_copy(update={"tests": (BASE,)}), BASE_ALONE)
    assert plain.pass_at[1].mean == 1 and not plain.pass_at_base


def test_nothing_is_sampled_where_a_gate_fails(tmp_path: Path, sandbox: Sandbox) -> None:
    broken = TASK.model_copy(update={"reference": BASE_ALONE})
    with pytest.raises(GateError, match="the reference solutions pass 0/1"):
        evaluated(tmp_path / "broken", sandbox, broken, RIGHT)
    assert not (tmp_path / "broken" / "run" / "stages").exists()
