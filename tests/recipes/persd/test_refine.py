"""What a teacher is shown when it repairs an attempt."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.scripted import Scripted, teaching_by
from tests.support.worlds import open_run

from codestill.prompts import INSTRUCT
from codestill.refine import RefineConfig, Refinement, refine
from codestill.sandbox import Sandbox, SandboxConfig
from codestill.tasks import STOP_RULES, TaskSet
from codestill.types import Attempt, Completion, ExecutionResult, Task, TestResult

TASK = Task(
    task_id="t/0",
    prompt='def double(x):\n    """Twice x."""\n',
    entry_point="double",
    reference="    return 2 * x\n",
    tests=("assert double(3) == 6",),  # pyright: ignore[reportArgumentType]
    split="train",
)
TASK_SET = TaskSet("t:train", (TASK,), "train", "zero-shot", STOP_RULES["definitions"])
SOLUTION = "    return x + x\n"
LONG = " ".join(f"word{n}" for n in range(40))
FAILED = Attempt(
    completion=Completion(task_id="t/0", sample=0, text="    return x\n"),
    result=ExecutionResult(
        verdict="exception",
        tests=(TestResult(verdict="exception", error_type="ValueError", message=LONG),),
    ),
)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(), 1) as box:
        yield box


def repaired(directory: Path, sandbox: Sandbox, **settings: Any) -> tuple[str, Refinement]:
    """What the teacher was asked, and the repair."""
    teacher = Scripted(lambda _: "```python\ndef double(x):\n    return x * 2\n```")
    with open_run(directory) as run:
        teaching = teaching_by(teacher, INSTRUCT, sandbox, run)
        (found,) = refine(teaching, TASK_SET, RefineConfig(**settings), {"t/0": SOLUTION}, [FAILED])
    (prompt,) = teacher.prompts
    return prompt, found


def test_the_teachers_own_solution_is_shown_only_where_that_is_asked(tmp_path: Path, sandbox: Sandbox):
    hidden, found = repaired(tmp_path / "hidden", sandbox)
    assert SOLUTION not in hidden and "You solved it" not in hidden
    assert found.completion.text == "    return x * 2\n" and found.result.passed
    shown, _ = repaired(tmp_path / "shown", sandbox, show_solution=True)
    assert SOLUTION in shown


def test_the_settings_of_a_repair_reach_its_prompt(tmp_path: Path, sandbox: Sandbox):
    prompt, found = repaired(tmp_path / "words", sandbox, feedback_words=7)
    assert found.feedback in prompt and "word6" in prompt and "word7" not in prompt
    for nearness, words in INSTRUCT.nearness.items():
        prompt, _ = repaired(tmp_path / nearness, sandbox, nearness=nearness)
        assert all((other in prompt) == (other == words) for other in INSTRUCT.nearness.values() if other)
    explained, _ = repaired(tmp_path / "explain", sandbox, explain=True)
    assert "name the student's mistakes" in explained and "word0" not in explained
