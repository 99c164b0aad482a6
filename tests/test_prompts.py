"""Prompts: what is asked, and how answers of either form become completions."""

from typing import get_args

import pytest

from codestill.errors import ConfigError
from codestill.pocket.skills import compose_prompt, refine_prompt
from codestill.prompts import CONTINUED, INSTRUCT, Nearness, Prompts, as_completion
from codestill.prompts.answers import fenced_blocks
from codestill.tasks import STOP_RULES
from codestill.types import Task

TASK = Task(
    task_id="t",
    prompt='def double(x):\n    """Twice x."""\n',
    entry_point="double",
    reference="    return 2 * x\n",
    tests=("assert double(3) == 6",),  # pyright: ignore[reportArgumentType]
)


def run(completion: str) -> object:
    namespace: dict = {}
    exec(TASK.prompt + completion, namespace)
    return namespace["double"](3)


def test_the_continued_form_is_what_the_pocket_teacher_was_trained_on():
    asked = CONTINUED.to_refine(TASK, "    return x", "AssertionError\nINPUT: (3)")
    assert asked == refine_prompt(TASK.prompt, "    return x", "AssertionError\nINPUT: (3)")
    assert CONTINUED.to_solve(TASK) == TASK.prompt


def test_the_continued_form_shows_a_solution_as_a_function_before():
    hidden = CONTINUED.to_refine(TASK, "    return x", "AssertionError")
    shown = CONTINUED.to_refine(TASK, "    return x", "AssertionError", solution="    return 2 * x")
    assert shown == compose_prompt(hidden, [f"{TASK.prompt}    return 2 * x\n"])


def test_the_instructions_hold_header_attempt_feedback_and_rule():
    asked = INSTRUCT.to_refine(TASK, "    return x", "AssertionError", nearness="nearest")
    assert asked.count("def double(x):") == 2  # of the task, and of the attempt
    for part in ("    return x\n```", "AssertionError", INSTRUCT.nearness["nearest"]):
        assert part in asked
    shown = INSTRUCT.to_refine(TASK, "    return x", "AssertionError", solution="    return x + x")
    assert "return x + x" in shown
    assert "return x + x" not in asked
    explained = INSTRUCT.to_refine(TASK, "    return x", "AssertionError", explain=True)
    assert "AssertionError" not in explained


def test_each_rule_of_nearness_says_what_it_is_called():
    """PERsD's prompts v0, v1 and v2: nothing, a small change where the idea can work, and nothing else."""
    asked = {
        rule: INSTRUCT.to_refine(TASK, "    return x", "AssertionError", nearness=rule)
        for rule in get_args(Nearness)
    }
    small, same = "change as little as possible; write it anew only if", "Keep its idea, its names and every"
    assert [(small in text, same in text) for text in asked.values()] == [
        (False, False),
        (True, False),
        (False, True),
    ]
    assert list(asked) == ["free", "near", "nearest"]


def test_a_form_that_a_set_lacks_is_refused():
    with pytest.raises(ConfigError, match="explanation first"):
        CONTINUED.to_refine(TASK, "", "", explain=True)
    blind = CONTINUED.model_copy(update={"shows_solution": False})
    with pytest.raises(ConfigError, match="no place for the teacher's own solution"):
        blind.to_refine(TASK, "", "", solution="    return x")
    broken = Prompts(version="mine", answers="continuation", solve="{{ nothing }}", refine="")
    with pytest.raises(ConfigError, match="nothing"):
        broken.to_solve(TASK)


@pytest.mark.parametrize(
    "program",
    [
        "def double(x):\n    return 2 * x",
        'def double(x):\n    """Says it again."""\n    # why\n    return 2 * x\n',
        "def double(x): return 2 * x",
        "import math\n\nTWO = 2\n\ndef by(x):\n    return TWO * x\n\ndef double(x):\n    return by(x)\n",
        "from math import prod\n\n@str\ndef by():\n    pass\n\ndef double(x):\n    return prod((2, x))\n",
        "def double(x):\n    if x:\n        return 2 * x\n    return 0\n",
    ],
)
def test_a_fenced_program_becomes_a_completion(program: str):
    answer = f"Here it is.\n\n```python\n{program}\n```\nDone."
    assert run(INSTRUCT.read(answer, TASK, STOP_RULES["definitions"])) == 6


def test_comments_between_statements_stay():
    text = as_completion(
        'def double(x):\n    """D."""\n    # why\n    y = x  # one\n    # two\n    return y + x\n', TASK
    )
    assert text == "    # why\n    y = x  # one\n    # two\n    return y + x\n"


@pytest.mark.parametrize(
    "answer", ["I cannot.", "```python\ndef double(x:\n```", "```\ndef other():\n    pass\n```"]
)
def test_an_answer_without_the_function_is_kept_for_execution_to_refuse(answer: str):
    read = INSTRUCT.read(answer, TASK, STOP_RULES["definitions"])
    with pytest.raises((SyntaxError, TypeError, AssertionError, NameError)):
        assert run(read) == 6


JAVASCRIPT = TASK.model_copy(
    update={
        "language": "javascript",
        "prompt": "// Twice x.\nfunction double(x) {\n",
        "reference": "  return 2 * x;\n}\n",
    }
)


def test_a_task_is_asked_for_in_its_own_language():
    asked = [
        INSTRUCT.to_solve(JAVASCRIPT),
        INSTRUCT.to_refine(JAVASCRIPT, "  return x;\n}\n", "AssertionError", solution=JAVASCRIPT.reference),
        INSTRUCT.to_refine(JAVASCRIPT, "  return x;\n}\n", "", explain=True),
        INSTRUCT.to_judge(JAVASCRIPT, JAVASCRIPT.reference),
        INSTRUCT.to_verdict(JAVASCRIPT, JAVASCRIPT.reference),
        INSTRUCT.to_fault(JAVASCRIPT, JAVASCRIPT.reference),
    ]
    for prompt in asked:
        assert "```javascript\n// Twice x.\nfunction double(x) {" in prompt and "ython" not in prompt
    assert "Write this JavaScript function" in asked[0]
    assert "Write this Python function:\n\n```python\ndef double" in INSTRUCT.to_solve(TASK)
    read = INSTRUCT.read("```js\nfunction double(x) { return 2 * x; }\n```", JAVASCRIPT, STOP_RULES["none"])
    assert read.strip() == "function double(x) { return 2 * x; }"


def test_new_tasks_in_another_language_are_refused_by_name():
    with pytest.raises(ConfigError, match="t is in JavaScript, and new tasks are made in Python alone"):
        INSTRUCT.to_propose([TASK, JAVASCRIPT], "same")


PROPOSED = 'def half(x: int) -> int:\n    """Half of x."""\n'
STATED = '"""\nWrite a function to halve a number.\nassert half(4) == 2\n"""\n'


@pytest.mark.parametrize(
    ("answer", "prompt"),
    [
        (f"```python\n{PROPOSED}```", PROPOSED),
        (
            f"1. A task:\n   ```python\n   {PROPOSED.replace(chr(10), chr(10) + '   ').rstrip()}\n   ```\n",
            PROPOSED,
        ),
        (f"```python\n{PROPOSED}    return x // 2\n\nassert half(4) == 2\n```\nDone.", PROPOSED),
        (f"```python\n{PROPOSED}", PROPOSED),  # cut before the fence
        (PROPOSED, PROPOSED),
        (f"```python\n{STATED}```", STATED),
        (f"```python\n{STATED}\n{PROPOSED}```", PROPOSED),
        (f"<think>\n```python\n{STATED}```\n</think>\n```python\n{PROPOSED}```", PROPOSED),
        ('```python\n"""\nWrite a function to halve a number.\n"""\n```', None),  # it has no name
        ("```python\ndef half(x: int) -> int:\n    return x // 2\n```", None),
        ("I cannot think of one.", None),
        (f"<think>\n```python\n{PROPOSED}```", None),
    ],
)
def test_a_proposal_is_found_in_either_form(answer: str, prompt: str | None):
    assert INSTRUCT.read_proposal(answer) == prompt


def test_fenced_blocks_are_found_in_lists_and_without_an_end():
    answer = "1. One:\n   ```python\n   a = 1\n     b\n   ```\n2. Two\n~~~\n```\n~~~\n```\nlast"
    assert fenced_blocks(answer) == ["a = 1\n  b\n", "```\n", "last"]
