"""The rows that a student is trained on: a teacher's answers, whatever their form."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.forms import CONTINUES
from tests.support.scripted import Scripted

from codestill.config import RunConfig
from codestill.examples import ExamplesConfig, training_examples
from codestill.models import Decoding
from codestill.recipes.persd.keep import is_kept
from codestill.refine import Refinement
from codestill.run import Run
from codestill.sandbox import Sandbox, SandboxConfig
from codestill.tasks import TasksConfig, write_tasks
from codestill.types import Attempt, Completion, ExecutionResult

TASKS = [
    {
        "task_id": name,
        "prompt": f'def {name}(x):\n    """Return twice x."""\n',
        "entry_point": name,
        "reference": "    return 2 * x\n",
        "tests": [f"assert {name}(3) == 6"],
        "split": "train",
    }
    for name in ("same", "renamed", "decorated", "cut", "prose", "wrong")
]
ANSWERS = {
    "same": "Here:\n```python\ndef same(x):\n    return x + x\n```\n",
    "renamed": "```python\ndef renamed(value):\n  return value * 2\n```",
    "decorated": "```python\nfrom functools import cache\n\n@cache\ndef decorated(x):\n    return 2 * x\n```",
    "cut": "```python\ndef cut(x):\n    return 2 * x\n",
    "prose": "It is twice x.",
    "wrong": "```python\ndef wrong(x):\n    return x\n```",
}


class Chat(Scripted):
    """Answers by task id; the answer named ``cut`` reached the token limit."""

    def complete(self, requests, decoding: Decoding):
        for answer in super().complete(requests, decoding):
            finish = "length" if answer.task_id == "cut" else "stop"
            yield Completion.model_validate({**answer.model_dump(), "finish": finish})


def test_rows_hold_programs_that_pass_and_none_that_was_cut(tmp_path: Path) -> None:
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in TASKS))
    config = ExamplesConfig.model_validate(
        {"tasks": f"{tmp_path}/tasks.jsonl:train", "answers": "teacher", "prompts": "instruct"}
    )
    teacher = Chat(lambda request: ANSWERS[request.task_id])
    with Sandbox(SandboxConfig(), workers=1) as box, Run.open(tmp_path / "run", RunConfig()) as run:
        rows = {row.example_id: row for row in training_examples(config, CONTINUES, teacher, box, run)}
    assert list(rows) == ["same", "renamed", "decorated"]
    assert rows["same"].completion == "    return x + x\n"
    assert rows["renamed"].completion.startswith("def renamed(value):\n  return")
    for name, row in rows.items():  # what a student reads is the program that passed
        space: dict = {}
        exec(row.prompt + row.completion, space)
        assert space[name](3) == 6
    assert "```python" in teacher.prompts[0]


@pytest.mark.parametrize("decontaminate", [None, {"neighbours": 0}])
def test_tasks_that_the_evaluation_repeats_are_left_out(decontaminate, tmp_path: Path) -> None:
    given = {"source": "pocket", "split": "train", "count": 5}
    tasks = TasksConfig.model_validate(given).load().tasks
    again = [
        task.model_copy(update={"task_id": f"again/{task.task_id}", "split": "test"}) for task in tasks[:2]
    ]
    write_tasks(tmp_path / "test.jsonl", again)
    evaluated = TasksConfig.model_validate(f"{tmp_path}/test.jsonl")
    config = ExamplesConfig.model_validate({"tasks": given, "decontaminate": decontaminate})
    nowhere: Any = None  # references are not executed
    with Run.open(tmp_path / "run", RunConfig()) as run:
        rows = training_examples(config, CONTINUES, None, nowhere, run, evaluated)
    left_out = {task.task_id for task in tasks} - {row.example_id for row in rows}
    assert left_out == ({task.task_id for task in tasks[:2]} if decontaminate else set())


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_a_repair_that_was_cut_is_not_trained_on(finish) -> None:
    failed = Attempt(
        completion=Completion(task_id="t", sample=0, text="    return 1\n"),
        result=ExecutionResult(verdict="wrong"),
    )
    repair = Refinement(
        attempt=failed,
        feedback="",
        completion=Completion(task_id="t", sample=0, text="    return 2\n", finish=finish),
        result=ExecutionResult(verdict="pass"),
    )
    for keep in ("all", "passed", "not-copied"):
        assert is_kept(repair, "    return 3\n", keep) == (finish == "stop")
