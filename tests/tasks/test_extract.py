"""The program in a chat answer, whatever form it has."""

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestill.tasks import extract_code

CODE = "def f(x):\n    return x\n"
HELPED = "def f(x):\n    return g(x)\n"
HELPER = "import math\n\ndef g(x):\n    return math.floor(x)\n"
DOCUMENTED = 'def f(x):\n    """Say.\n\n    ```\n    >>> f(1)\n    1\n    ```\n    """\n    return x\n'
PROMPT = 'def f(x):\n    """Return x."""\n'
ANSWER = f"Here it is:\n\n```python\n{CODE}```\nTry it:\n```\nf(1)\n```\n"


def indented(text: str, by: str) -> str:
    return "".join(by + line for line in text.splitlines(keepends=True))


@pytest.mark.parametrize(
    "text",
    [
        ANSWER,
        ANSWER.replace("\n", "\r\n"),
        ANSWER.replace("```python", "```"),
        ANSWER.replace("```python", "```PYTHON"),
        ANSWER.replace("```python", "``` Python title='a'"),
        "```python\ndef f(x):\n    return None\n```\nBetter:\n" + ANSWER,
        "An unclosed ```python\n```python\ndef g(): pass\n" + ANSWER,
        f"Sure.\n```python\n{CODE}",  # cut by the token limit
        f"```python\n{CODE}\nprint(f(",
        f"````python\n{CODE}````\n",
        f"~~~python\n{CODE}~~~\n",
        f"````markdown\n```python\n{CODE}```\n````\n",
        f"1. So:\n\n   ```python\n{indented(CODE, '   ')}   ```\n",
        f"- ```python\n{indented(CODE, '  ')}  ```\n",
        f"> ```python\n{indented(CODE, '> ')}> ```\n",
        f"Here: ```python\n{CODE}```",
        "```python\ndef f(x):\n    return x```",
        "```python def f(x):\n    return x\n```",
        f"This works:\n\n{CODE}\nIt returns its argument.\n",
        f"{CODE}\nDone\n",
        f"{CODE}\nNote: this\n",
        f"Answer:\n{indented(CODE, '    ')}",
        f"[PYTHON]\n{CODE}[/PYTHON]",
        f"<think>\n```python\ndef f(x):\n    return None\n```\n</think>\n{ANSWER}",
        f"```python\ndef f(x):\n    return None\n```\n</think>\n\n{CODE}",  # the template opened the thought
        f"{ANSWER}\nIts header:\n```python\n{PROMPT}```\n",
        f"{ANSWER}\n```\n$ python f.py\n```\n",
    ],
)
def test_the_program_is_found(text: str) -> None:
    code, _ = extract_code(text, "f")
    assert ast.unparse(ast.parse(code)) == CODE.strip(), code


@pytest.mark.parametrize(
    "text",
    [
        f"```python\n{HELPER}```\nThen\n```python\n{HELPED}```\n",
        f"```python\n{HELPED}```\nwith the helper\n```python\n{HELPER}```\n",
        f"```\nimport math\n```\n```\n{HELPER.split(chr(10), 2)[2]}```\n```\n{HELPED}```\n",
        f"First\n\n{HELPER}\nThen this one:\n\n{HELPED}\nThat is all.\n",
    ],
)
def test_what_the_function_lacks_comes_from_other_blocks(text: str) -> None:
    code, _ = extract_code(text, "f")
    space: dict = {}
    exec(code, space)
    assert space["f"](2.5) == 2


def test_helpers_that_the_prompt_gives_are_not_taken_from_elsewhere() -> None:
    prompt = f"def g(x):\n    return 1\n\n\n{PROMPT}"
    code, _ = extract_code(f"```\n{HELPER}```\n```\n{HELPED}```\n", "f", prompt)
    assert code == HELPED


def test_a_fence_in_a_docstring_ends_no_block() -> None:
    assert extract_code(f"```python\n{DOCUMENTED}```\nDone.", "f") == (DOCUMENTED, "fence")


@pytest.mark.parametrize(
    "text", ["```python\n    return x\n```", "So:\n```\n    return x\n", "    return x\n", "\n    return x\n"]
)
def test_the_rest_of_the_function_is_a_continuation(text: str) -> None:
    code, found = extract_code(text, "f", PROMPT)
    assert found == "continuation" and ast.unparse(ast.parse(PROMPT + code)).endswith("return x")


@pytest.mark.parametrize(
    "text",
    [
        "I cannot.",
        "Sure",
        "",
        "```python\ndef g(x):\n    return x\n```\n",
        "```python\ndef fast(x):\n    return x\n```\n",
        f"<think>\nPerhaps\n```python\n{CODE}```\nbut",  # a thought that the token limit cut
    ],
)
def test_prose_and_other_functions_are_no_code(text: str) -> None:
    assert extract_code(text, "f", PROMPT) == ("", "none")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("See:\n```python\ndef f(x:\n    return x\n```\n", "def f(x:\n    return x\n"),
        ("See:\ndef f(x:\n    return x\nThat is it.\n", "def f(x:\n    return x\n"),
    ],
)
def test_code_that_does_not_parse_keeps_its_error_and_no_prose(text: str, code: str) -> None:
    assert extract_code(text, "f") == (code, "broken")


def test_a_javascript_answer_is_its_block() -> None:
    code = "function f(x) {\n  return x;\n}\n"
    text = f"So:\n```js\n{code}```\nTry it:\n```\nnode f.js\n```\n"
    assert extract_code(text, "f", "function f(x) {\n", "javascript") == (code, "fence")


PIECES = ["```", "```python\n", "~~~", "\n", CODE, HELPED, HELPER, PROMPT, "Prose. ", "    return x\n"]
PIECES += [
    '"""',
    "def f(",
    "(" * 300,
    "<think>",
    "</think>",
    "\ud800",
    "\x00",
    "> ",
    "- ",
    "import math\n",
    "x = 1\n",
]
answers = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)


def check(answer: str) -> None:
    code, found = extract_code(answer, "f", PROMPT)
    assert (code == "") == (found == "none")
    if found in ("fence", "text"):
        names = [getattr(node, "name", "") for node in ast.parse(code).body]
        assert "f" in names


@given(answers)
@settings(deadline=None, max_examples=60)
def test_any_answer_gives_a_program_or_none(answer: str) -> None:
    check(answer)


@pytest.mark.slow
@given(st.one_of(answers, st.text(max_size=200)))
@settings(deadline=None, max_examples=8000)
def test_any_of_many_answers_gives_a_program_or_none(answer: str) -> None:
    check(answer)


@pytest.mark.slow
@given(st.lists(st.sampled_from(["Prose here.", "1. A list", "> quoted", "", "```\nls -l\n```"]), max_size=5))
@settings(deadline=None, max_examples=2000)
def test_prose_around_a_block_changes_nothing(around: list[str]) -> None:
    text = "\n\n".join([*around, f"```python\n{CODE}```", *around])
    assert extract_code(text, "f") == (CODE, "fence")
