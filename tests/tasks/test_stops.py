"""Stop rules."""

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codestill.tasks import STOP_RULES, cut, stopped

DEFINITIONS = STOP_RULES["definitions"]

KEPT = [
    # a body with a helper after it
    "    return helper(x)\n\n\ndef helper(x):\n    return x + 1\n",
    # a completion that starts at column 0, as for MBPP
    "import math\nfrom typing import List\n\n@wraps\nclass A:\n    pass\n\nasync def f(x):\n    return x\n",
    # column 0 inside brackets, strings and after a backslash
    "def f(\na,\nb,\n):\n    return (a +\nb)\n",
    "def f():\n    \"\"\"\nprint(1)\n\"\"\"\n    return '''\nprint(2)'''\n",
    "def f(a):\n    return a + \\\n1\n",
    "def f(a):\n    return '(' + \"[\"  # it's an open (\n\nimport os\n",
    "    return 'a\\\n b'\n\ndef g():\n    return r'\\\\'\n",
    # a comment between definitions
    "def f():\n    return 1\n# and its helper\ndef g():\n    return 2\n",
]


@pytest.mark.parametrize("text", KEPT)
def test_definitions_keeps_the_program(text: str) -> None:
    assert cut(text, DEFINITIONS) == text
    assert not stopped(text, DEFINITIONS)


USED = [
    "LIMIT = 3\nTABLE = [\n    1,\n]\ndef f(x):\n    return TABLE[LIMIT]\n",  # constants before the function
    "import sys\nsys.setrecursionlimit(9999)\ndef f(x):\n    return x\n",
    "try:\n    import numpy as np\nexcept ImportError:\n    np = None\n\ndef f(x):\n    return np\n",
    "import re\nif re:\n    A = 1\nelse:\n    A = 2\n\ndef f(x):\n    return A\n",
    "def f(x):\n    return LIMIT + g(x)\n\nLIMIT = 3\n\ndef g(x):\n    return DEEP\n\nDEEP: int = 4\n",
    "    return LIMIT\n\nLIMIT = 3\n",  # the rest of the prompt's function
    "def f(x):\n    return np.sum(x)\n\ntry:\n    import numpy as np\nexcept ImportError:\n    np = None\n",
    "def slow(x):\n    return x\n\nfast = slow\ncached = cache(slow)\nthird = lambda x: x\n",
    "T = []\nfor i in range(3):\n    T.append(i)\nwhile not T:\n    pass\ndef f(x):\n    return T[x]\n",
    "def f(x):\n    f.calls += 1\n    return x\n\nf.calls = 0\n",
    "def f(x):\n    return TABLE[0]\n\nTABLE = {}\nTABLE[0] = 1\n",
    "def g(x):\n    return x\n\ncount = 0\n\ndef f(x):\n    global count\n    count += 1\n    return g(x)\n",
    "def g(x):\n    return x\n\nf: object = g\n",
    "class A:\n    def run(self, x):\n        return x\n\nf = A().run\nh = A.run\n",
    "class A:\n    def run(self, x):\n        return x\n\nsolver = A()\nf = solver.run\n",
    "def g(x):\n    return x\n\nif True:\n    def f(x):\n        return g(x)\n",
    "def f(x):\n    return g(x)\n\nif True:\n    def g(x):\n        return x\nelse:\n    g = None\n",
]


@pytest.mark.parametrize("text", USED)
@pytest.mark.parametrize("end", ["", "print(f(3))\n", "x = f(3)\nassert x\n", "test_list = [1, 2]\n"])
def test_definitions_keeps_what_they_use(text: str, end: str) -> None:
    assert cut(text + end, DEFINITIONS).rstrip() == text.rstrip()


@pytest.mark.parametrize("rule", ["mbpp", "evalplus", "human-eval"])
def test_strings_count_from_the_first_function_on(rule: str) -> None:
    program = "from os import path\nclass Node:\n    pass\ndef f(x):\n    return Node()"
    assert cut(f"{program}\nassert f(1)\nprint(2)", STOP_RULES[rule]).startswith(program)
    assert not stopped(program, STOP_RULES[rule])


@pytest.mark.parametrize(
    "end",
    [
        "print(f(3))\n",
        "assert f(1) == 2\n",
        'if __name__ == "__main__":\n    f()\n',
        '"""\nWrite a function\n"""\ndef g():\n    pass\n',
        "```\n",
        "[DONE]\n",
        "x = f(2)\nprint(x)\n",
        "# Examples\n# of use\n\nprint(1)\n",
        "<|endoftext|>",
        "definitely",
    ],
)
@pytest.mark.parametrize("text", KEPT)
def test_definitions_cuts_what_follows(text: str, end: str) -> None:
    assert cut(text + end, DEFINITIONS) == text
    assert stopped(text + end + "\n", DEFINITIONS)


def test_definitions_waits_for_a_word_that_may_become_a_definition() -> None:
    body = "    return 1\n"
    for started in ("d", "de", "def", "class", "fro", "async", "async de", "@", "#", " "):
        assert not stopped(body + started, DEFINITIONS), started
    for started in ("deg", "x", "x = f(", "x = f(2)\n", "if x:", "try:\n", "a, b = "):  # may bind a name
        assert not stopped(body + started, DEFINITIONS), started
    assert stopped(body + "deg\n", DEFINITIONS)
    assert stopped(body + "import\n", DEFINITIONS)


def test_definitions_leaves_the_first_line_alone() -> None:
    # The prompt may end within a line.
    assert cut("x + 1\n\nprint(2)\n", DEFINITIONS) == "x + 1\n"


@pytest.mark.parametrize("tail", ["def g(x):\n    if x >", "class A", "from typ", "@dec", "def g(x):\n"])
def test_definitions_drops_a_last_definition_that_the_length_limit_cut(tail: str) -> None:
    text = "    return 1\n\n\n"
    assert cut(text + tail, DEFINITIONS) == text
    alone = "def f(x):\n    if x >"
    assert cut(alone, DEFINITIONS) == alone


def test_definitions_accepts_windows_newlines() -> None:
    assert cut("    return 1\r\n\r\nprint(2)\r\n", DEFINITIONS) == "    return 1\r\n"


@pytest.mark.parametrize(
    ("rule", "text", "kept"),
    [
        ("human-eval", "    return 1\n\ndef g():\n    pass\n", "    return 1\n"),
        ("human-eval", "    return 1\n# next\n", "    return 1"),
        ("evalplus", "    return 1\n# next\nassert True", "    return 1\n# next"),
        ("mbpp", "def f():\n    return 1\nassert f()", "def f():\n    return 1"),
        ("mbpp", 'def f():\n    return 1\n"""', "def f():\n    return 1"),
        ("none", "anything\nprint(1)", "anything\nprint(1)"),
    ],
)
def test_published_presets(rule, text: str, kept: str) -> None:
    assert cut(text, STOP_RULES[rule]) == kept
    assert stopped(text, STOP_RULES[rule]) == (kept != text)


PIECES = ["    return 1\n", "def f(x):\n", "print(1)\n", "x", "\n", "(", ")", '"', "'''", '"""', "# c\n"]
PIECES += [
    "for i in x:\n    T.append(i)\n",
    "while x:\n",
    "f.a = 1\n",
    "T[0] = 2\n",
    "g = A().m\n",
    "T = []\n",
]
PIECES += ["if x:\n    def g():\n        pass\n", "else:\n", "try:\n    pass\n", "    T[0]\n", "for", "print"]
PIECES += ["import os\n", "@d\n", "\\", "\r\n", "class A:\n    pass\n", "de", "if", " "]


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join), st.sampled_from(sorted(STOP_RULES)))
def test_cut_is_a_stable_prefix(text: str, name) -> None:
    rule = STOP_RULES[name]
    kept = cut(text, rule)
    assert text.startswith(kept)
    assert cut(kept, rule) == kept


@given(
    st.lists(st.sampled_from(PIECES), max_size=10).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=6).map("".join),
    st.sampled_from(sorted(STOP_RULES)),
)
@example("    return 1\nif", "'''", "definitions")
@example("    return 1\nprint(", "1)\n", "definitions")
@example("    return 1\nelse:\n", "    return 1\n", "definitions")
@example("def f():\n    return printer\nprint", "er = 1\n", "definitions")
@example("x\n\\\r\n", "", "definitions")
@example("\\\r\n", "x", "definitions")
def test_once_stopped_nothing_changes(text: str, more: str, name) -> None:
    rule = STOP_RULES[name]
    if stopped(text, rule):
        assert stopped(text + more, rule)
        assert cut(text + more, rule) == cut(text, rule)


texts = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@pytest.mark.slow
@given(texts, texts)
@settings(max_examples=10_000, deadline=None)
def test_definitions_are_stable_and_final_in_many_texts(text: str, more: str) -> None:
    kept = cut(text, DEFINITIONS)
    assert text.startswith(kept) and cut(kept, DEFINITIONS) == kept
    if stopped(text, DEFINITIONS):
        assert stopped(text + more, DEFINITIONS) and cut(text + more, DEFINITIONS) == kept


def test_a_long_unclosed_string_is_read_in_linear_time() -> None:
    assert not stopped('x = """' + "a\\n\"' " * 200_000, DEFINITIONS)


LONG = [
    "x = (\n" * 4000,
    "def f is a word\n" * 2000,
    "def f(x):\n    return x\n" + "def g(:\n" * 2000,
    "def f(x):\n    return x\n" + "@d\n" * 4000,
    "def f(x):\n    return " + "(" * 20_000,
    "def f(x):\n    return " + "-" * 20_000 + "x\n",
    "".join(f"def f{n}(x):\n    return 1\na{n} = f{n}\n" for n in range(400)),
]


@pytest.mark.parametrize("rule", ["definitions", "mbpp"])
@pytest.mark.parametrize("text", LONG)
def test_long_texts_are_cut_in_linear_time(text: str, rule: str) -> None:
    begun = time.process_time()
    assert text.startswith(cut(text, STOP_RULES[rule]))
    stopped(text, STOP_RULES[rule])
    assert time.process_time() - begun < 2
