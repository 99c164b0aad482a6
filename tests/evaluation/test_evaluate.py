"""Evaluations: which tests a score counts."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError
from tests.support.scripted import Scripted

from codestill.cli.tables import print_run
from codestill.config import RunConfig
from codestill.errors import GateError
from codestill.evaluation import EvaluateConfig, evaluate
from codestill.models import Decoding
from codestill.report import write_report
from codestill.run import Run
from codestill.sandbox import Sandbox, SandboxConfig
from codestill.tasks import write_tasks
from codestill.types import Completion, Evaluation, Request, Task, Test

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


def test_greedy_alone_is_one_sample_at_temperature_zero(
    tmp_path: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, float]] = []

    class Noted(Scripted):
        def complete(self, requests: Iterable[Request], decoding: Decoding) -> Iterator[Completion]:
            requests = list(requests)
            asked.extend((request.key, decoding.sampling.temperature) for request in requests)
            return super().complete(requests, decoding)

    write_tasks(tmp_path / "t.jsonl", [TASK, TASK.model_copy(update={"task_id": "t/1"})])
    config = EvaluateConfig.model_validate({"tasks": str(tmp_path / "t.jsonl"), "samples_per_task": 0})
    model = Noted(lambda request: RIGHT if request.task_id == "t/0" else BASE_ALONE)
    with Run.open(tmp_path / "run", RunConfig()) as run:
        found = evaluate(model, "student", config, sandbox, run)
    assert asked == [("t/0#0", 0.0), ("t/1#0", 0.0)]
    assert (found.samples_per_task, found.temperature, found.top_p) == (1, 0.0, 1.0)
    assert found.pass_at.keys() == {1} and found.pass_at[1].mean == 0.5
    assert found.pass_at_base[1].mean == 1
    assert found.greedy == found.pass_at[1]
    assert found.per_task == {"t/0": (1, 1), "t/1": (1, 0)}
    assert found.greedy_per_task == {"t/0": True, "t/1": False}
    assert sum(found.verdicts.values()) == 2
    assert [path.stem for path in (tmp_path / "run" / "stages").glob("*.jsonl")] == [
        "evaluate-student-greedy"
    ]
    (page, *_) = write_report([tmp_path / "run"])
    assert "50.0%" in page.read_text(encoding="utf-8")
    head = next(line for line in page.with_suffix(".md").read_text().splitlines() if "pass@1 |" in line)
    assert "greedy" not in head  # it would be the same column
    print_run(tmp_path / "run")
    out = capsys.readouterr().out
    assert out.count("50.0% [") == 1 and "greedy" not in out.splitlines()[0]


def test_neither_a_pool_nor_greedy_is_refused() -> None:
    with pytest.raises(ValidationError, match="greedy must be on"):
        EvaluateConfig.model_validate({"samples_per_task": 0, "greedy": False})


def test_gaps_are_scored_by_problem_and_compared_with_the_reference(tmp_path: Path, sandbox: Sandbox) -> None:
    gap = {"entry_point": "double", "tests": (BASE,), "problem": "p", "suffix": "    return y\n"}
    first = Task(task_id="p/1", prompt="def double(x):\n", reference="    y = 2 * x\n", **gap)
    tasks = [first, first.model_copy(update={"task_id": "p/2"}), first.model_copy(update={"task_id": "p/3"})]
    write_tasks(tmp_path / "gaps.jsonl", tasks)
    said = {"p/1": "    y = 2 * x\n\n", "p/2": "    y = x + x\n", "p/3": "    y = 0\n"}
    model = Scripted(lambda request: said[request.task_id] if request.suffix == first.suffix else "")
    config = EvaluateConfig.model_validate({"tasks": str(tmp_path / "gaps.jsonl"), "samples_per_task": 0})
    with Run.open(tmp_path / "run", RunConfig()) as run:
        found = evaluate(model, "student", config, sandbox, run)
    assert found.greedy_per_task == {"p/1": True, "p/2": True, "p/3": False}
    assert found.exact_match is not None and round(found.exact_match.mean, 2) == 0.33
    assert found.problems == {"p/1": "p", "p/2": "p", "p/3": "p"}
    assert (found.pass_at[1].low, found.pass_at[1].high) == (0, 1), "one problem says nothing of others"
    assert any("the reference itself" in note for note in found.notes)
