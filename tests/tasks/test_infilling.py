"""Gaps to fill: HumanEval's solutions with parts taken out, and sets of one's own."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from codestill.errors import ConfigError, TaskError
from codestill.prompts import CONTINUED, INSTRUCT
from codestill.recipes import load_recipe
from codestill.sandbox import Program, Sandbox, SandboxConfig
from codestill.tasks import TasksConfig, TaskSet, check_tasks, write_tasks
from codestill.tasks.preflight import preflight
from codestill.tasks.stops import cut, stop_rule, stopped
from codestill.types import Task, Test

from .test_files import HUMANEVAL, write

SOLUTION = "    y = x\n\n    y += x\n    return y\n"
ROW = HUMANEVAL | {"canonical_solution": SOLUTION}


def load(source: str, path: Path, **settings: str) -> TaskSet:
    return TasksConfig.model_validate({"source": source, "path": path} | settings).load()


def test_each_line_is_taken_out_once(tmp_path: Path) -> None:
    tasks = load("humaneval-infilling", write(tmp_path / "h.jsonl", ROW))
    assert [task.reference for task in tasks] == ["    y = x\n", "    y += x\n", "    return y\n"]
    assert [task.task_id.rpartition("/")[2] for task in tasks] == ["L0", "L2", "L3"]
    assert {task.problem for task in tasks} == {"HumanEval/0"}
    # The published prompts have an empty line before a solution's first line.
    assert tasks[0].prompt == f"{ROW['prompt']}\n" and tasks[0].suffix == SOLUTION.partition("\n")[2]
    for task in tasks[1:]:
        assert task.program(task.reference) == str(ROW["prompt"]) + SOLUTION
    assert tasks.gaps and tasks.stop.name == "line" and tasks.name == "humaneval-infilling:test"


def test_each_range_of_lines_is_taken_out_once(tmp_path: Path) -> None:
    tasks = load("humaneval-infilling-multi-line", write(tmp_path / "h.jsonl", ROW))
    lines = SOLUTION.splitlines(keepends=True)
    ranges = [(0, 0), (0, 2), (0, 3), (2, 2), (2, 3), (3, 3)]
    assert [task.reference for task in tasks] == ["".join(lines[a : b + 1]) for a, b in ranges]
    assert tasks.stop.name == "none"


def test_published_rows_are_read_as_they_are(tmp_path: Path) -> None:
    row = ROW | {
        "task_id": "RandomSpanInfilling/HumanEval/0/7",
        "canonical_solution": " += ",
        "suffix": "x\n",
    }
    row["prompt"] = f"{HUMANEVAL['prompt']}    x"
    file = write(tmp_path / "published.jsonl", row | {"suffix": "x\n    return x\n"})
    for source in ("humaneval-infilling-random-span", "humaneval-infilling"):
        (task,) = load(source, file)
        assert (task.prompt[-5:], task.reference, task.suffix) == ("    x", " += ", "x\n    return x\n")
        assert task.problem == "HumanEval/0"


def test_a_rule_that_is_named_counts(tmp_path: Path) -> None:
    file = write(tmp_path / "h.jsonl", ROW)
    assert load("humaneval-infilling", file, stop="none").stop.name == "none"
    assert load("humaneval-infilling-multi-line", file, stop="line").stop.name == "line"


def test_a_line_ends_the_gap_of_a_line() -> None:
    rule = stop_rule("line")
    assert cut("\n    y = x\n    y += x\n", rule) == "\n    y = x\n"
    for unfinished in ("", "\n", "  \n  ", "    y = x"):
        assert cut(unfinished, rule) == unfinished and not stopped(unfinished, rule)
    assert stopped("    y = x\n", rule)


def test_a_set_is_of_gaps_or_of_none(tmp_path: Path) -> None:
    whole = Task(
        task_id="a", prompt="def f():\n", entry_point="f", reference="    pass\n", tests=(Test(code="f()"),)
    )
    gap = whole.model_copy(update={"task_id": "b", "suffix": "\n"})
    write_tasks(tmp_path / "mixed.jsonl", [whole, gap])
    with pytest.raises(TaskError, match="mixes tasks that go on from a prompt with gaps"):
        load("jsonl", tmp_path / "mixed.jsonl")
    write_tasks(tmp_path / "gaps.jsonl", [gap])
    assert list(load("jsonl", tmp_path / "gaps.jsonl")) == [gap]


def test_a_gap_is_asked_for_by_its_sides_alone() -> None:
    gap = Task(
        task_id="a",
        prompt="def f(x):\n    return ",
        suffix=" if x else 1\n",
        entry_point="f",
        reference="x",
        tests=(Test(code="f(1)"),),
    )
    for prompts in (CONTINUED, INSTRUCT):
        assert prompts.to_solve(gap) == gap.prompt and prompts.to_train(gap, "x") == "x"
        assert prompts.read("x", gap, stop_rule("none")) == "x"
        with pytest.raises(ConfigError, match="no prompt shows a teacher both of its sides"):
            prompts.to_refine(gap, "y", "it fails")
    assert gap.accepts("x") and not gap.accepts("x (") and not gap.accepts("")


@pytest.mark.parametrize("recipe", ["persd", "opd", "iterkd", "amr_evol"])
def test_recipes_whose_teacher_reads_prompts_refuse_gaps(recipe: str, tmp_path: Path) -> None:
    gap = Task(
        task_id="a", split="train", prompt="def f(x):\n", suffix="    return y\n", entry_point="f",
        reference="    y = x\n", tests=(Test(code="assert f(1) == 1"),),
    )  # fmt: skip
    write_tasks(tmp_path / "gaps.jsonl", [gap])
    settings: dict[str, Any] = {"tasks": f"{tmp_path / 'gaps.jsonl'}:train"}
    settings |= {"validation": "pocket:validation"} if recipe == "iterkd" else {}
    with pytest.raises(TaskError, match="holds gaps to fill"):
        preflight(load_recipe(recipe).Config.model_validate(settings))


def test_what_nothing_need_fill_is_counted_and_is_no_fault(tmp_path: Path) -> None:
    row = ROW | {"canonical_solution": "    x = x\n    return 2 * x\n"}
    tasks = load("humaneval-infilling", write(tmp_path / "h.jsonl", row))
    with Sandbox(SandboxConfig(), 1) as sandbox:
        report = check_tasks(tasks, lambda pairs: sandbox.run(Program.of(task, text) for task, text in pairs))
    assert report.holds and report.reference_passes == 2
    assert report.closed == (tasks[0].task_id,)


@pytest.mark.data
@pytest.mark.skipif("CODESTILL_DATA" not in os.environ, reason="CODESTILL_DATA is not set")
@pytest.mark.parametrize(
    ("source", "count", "published"),
    [
        ("humaneval-infilling", 1033, "1f599feea59c1a0a"),
        ("humaneval-infilling-multi-line", 5815, "b345b1613dbc6493"),
    ],
)
def test_the_gaps_are_the_published_ones(source: str, count: int, published: str) -> None:
    tasks = TasksConfig.model_validate(source).load()
    digest = hashlib.sha256()
    for task in tasks:
        digest.update(json.dumps([task.task_id, task.prompt, task.reference, task.suffix]).encode())
    assert len(tasks) == count
    assert digest.hexdigest()[:16] == published, "SHA-256 of the published rows, in their order"
