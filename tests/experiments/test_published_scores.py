"""The page's table of published scores is computed from the kept result."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from tests.support.forms import CHATS

from codestill.config import RunConfig
from codestill.evaluation import EvaluateConfig, evaluate
from codestill.run import Run
from codestill.sandbox import Sandbox, SandboxConfig
from codestill.types import Completion

ROOT = Path(__file__).parents[2]
EXPERIMENT = ROOT / "experiments" / "published_scores"
SCRIPT = runpy.run_path(str(EXPERIMENT / "tables.py"))


def test_the_page_has_every_row_of_the_table() -> None:
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    lines = SCRIPT["table"](json.loads((EXPERIMENT / "result.json").read_text(encoding="utf-8")))
    assert len(lines) > 3
    for line in lines:
        assert line in page.splitlines()


def test_a_row_says_whether_the_published_score_lies_in_the_interval() -> None:
    model = "qwen2.5-coder-0.5b-instruct"
    found = {"base": "1" * 100 + "0" * 64, "plus": "1" * 20 + "0" * 144}
    lines = SCRIPT["table"]({"scores": {model: {"humaneval": found}}})
    assert lines[2].startswith(f"| {model} | humaneval | 61.6 | 61.0 [") and lines[2].endswith("| yes |")
    assert lines[3].startswith(f"| {model} | humaneval+ | 57.3 | 12.2 [") and lines[3].endswith("| no |")


class Half:
    """Solves the first task's base test only, the second wholly, the third not at all."""

    name, form = "half", CHATS.form

    def complete(self, requests: Any, decoding: Any) -> Any:
        code = {"a": "return 1 if x == 1 else 0", "b": "return x", "c": "return -5"}
        for request in requests:
            text = f"```python\ndef f(x):\n    {code[request.task_id]}\n```"
            yield Completion(task_id=request.task_id, sample=request.sample, text=text, tokens=9)


def test_digits_are_of_base_tests_and_of_all(tmp_path: Path) -> None:
    tests = [{"code": "assert f(1) == 1", "group": "base"}, {"code": "assert f(2) == 2", "group": "plus"}]
    rows = [
        {
            "task_id": name,
            "prompt": "def f(x):\n",
            "entry_point": "f",
            "reference": "    return x\n",
            "tests": tests,
        }
        for name in "abc"
    ]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {"tasks": str(tmp_path / "tasks.jsonl"), "samples_per_task": 0, "profile": False}
    with Sandbox(SandboxConfig(), workers=1) as box, Run.open(tmp_path / "run", RunConfig()) as run:
        evaluate(Half(), "student", EvaluateConfig.model_validate(given), box, run)  # pyright: ignore
    assert SCRIPT["of_run"](tmp_path / "run") == {"base": "110", "plus": "010", "tokens": 27}
    assert SCRIPT["score"]("110").mean == pytest.approx(2 / 3)
