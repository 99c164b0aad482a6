"""The program in a chat answer, whatever form it has."""

import ast
import time

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
        # line ends, and characters that nobody sees
        ANSWER.replace("\n", "\r"),
        f"\ufeff{CODE}",
        f"\ufeff```python\n\u200b{CODE}\u200b\n```\n",
        f"```python\n{CODE.replace('    ', chr(0xA0) * 4)}```\n",
        # what is no definition of the function, behind it
        f"{ANSWER}\n```python\nfrom solution import f\nprint(f(1))\n```\n",
        f"{ANSWER}\nTo fill in:\n```python\ndef f(x):\n    # yours\n    raise NotImplementedError\n```\n",
        # words that parse
        f"```\npython\n{CODE}```\n",
        f"```\nsolution.py\n{CODE}```\n",
        # transcripts
        "```\n>>> def f(x):\n...     return x\n...\n>>> f(1)\n1\n```\n",
        # examples and tests, right or wrong, with their inputs
        f"```python\n{CODE}\n# Example\nn = int(input())\nprint(f(n))\n```\n",
        f"```python\n{CODE}\nassert f(1, 2) == 3\n```\n",
        f"```python\n{CODE}\ncases = [1]\nfor case in cases:\n    print(f(case, 2))\n```\n",
        f"{CODE}\nx = f(1)\nprint(x)\n\nThis prints 1.\n",
        # thoughts
        f"{ANSWER}\n<reflection>\nIt's right.\n</reflection>\n",
        f"I see.\n<think>\n```python\ndef f(x):\n    return 0\n```\n</think>\n{ANSWER}",
        f">```python\n{indented(CODE, '>')}>```\n",
        f"So:\n\n{indented(CODE, '    ')}\nThat's it.",
    ],
)
def test_the_program_is_found(text: str) -> None:
    code, _ = extract_code(text, "f")
    assert ast.unparse(ast.parse(code)) == CODE.strip(), code


@pytest.mark.parametrize(
    "code",
    [
        "import math\n\n\ndef f(x):\n    return x\n\n\nf.calls = 0\n",
        "def f(x):\n    return TABLE[x]\n\n\nTABLE = {}\nfor n in range(3):\n    TABLE[n] = n\n",
        "def g(x):\n    return LIMIT\n\n\nLIMIT = 3\nf = g\n",
        "def f(x):\n    return LIMIT\n\n\nLIMIT = f.__defaults__\n",
        "def f(x):\n    return x\n\n\ndef g(x):\n    return BEST\n\n\nBEST = f(3)\n",
        "def f(x):\n    return (x\n  + 1)\n# it's f\n",
        "def f(x):\n# it's (\n    return x\n",
    ],
)
def test_what_a_program_needs_behind_its_function_stays(code: str) -> None:
    assert extract_code(f"```python\n{code}```\nDone.", "f") == (code, "fence")


def test_a_test_function_and_its_call_are_no_part_of_an_answer_that_runs() -> None:
    test = "import unittest\nclass T(unittest.TestCase):\n    def test(self): assert f(1)\nunittest.main()\n"
    main = "def main():\n    n = int(input())\n    print(f(n))\n\nmain()\n"
    for usage in (test, main):
        code, _ = extract_code(f"```python\n{CODE}\n{usage}```\n", "f")
        space: dict = {}
        exec(code, space)
        assert space["f"](3) == 3


def test_a_statement_is_taken_whole_or_not_at_all() -> None:
    broken = "def f(x):\n    if x:\n        return 1\n    elif x and \\ \n        x:\n        return 2\n"
    assert extract_code(f"```python\n{broken}```\n", "f") == (broken, "broken")


@pytest.mark.parametrize(
    "prompt", ['A text"""\n', '"""A """ in it"""\n', "def f(x\n", "(", "\ufeffdef f(x):\n", "\x00"]
)
def test_an_answer_is_read_whatever_its_prompt_is(prompt: str) -> None:
    assert extract_code(ANSWER, "f", prompt) == (CODE, "fence")


def test_constants_around_a_line_of_prose_are_kept() -> None:
    code, _ = extract_code(f"```python\nLIMIT = 3\nThen the function:\n{CODE}```\n", "f")
    assert code == f"LIMIT = 3\n{CODE}"


LONG = [
    "```\ndef f(x)\n" * 2000,
    "```python\ndef f(x:\n```\nprose f\n" * 1000,
    ("```\nf (\n" + "x = f(1\n" * 60) * 64,
    "def f is a word\n" * 1500,
    "x = f(1\n" * 3000,
    "x = '''f\n" * 3000,
    "if f then this:\n" * 2000,
    "(" * 30_000 + "f",
    "def f(x):\n    return " + "[" * 5000 + "]" * 5000,
    "def f(x):\n    return " + "x+" * 10_000 + "x\n",
    "<think>" * 5000 + "f",
    "<think>a</thought>\n" * 5000 + "f",
    ">>> f(1)\n2\n" * 3000,
    # Comments that no statement follows, behind code that does not define the function.
    "def g(x):\n    return x\n\nprint(g(1))\n# Output:\n# f\n",
]


@pytest.mark.parametrize("text", LONG)
def test_long_answers_are_read_in_bounded_time(text: str) -> None:
    begun = time.process_time()
    extract_code(text, "f", PROMPT)
    assert time.process_time() - begun < 3


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
    "# f\n",
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
