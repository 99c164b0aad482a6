"""How a completion and its prompt become one program."""

import ast
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestill.assembly import assemble, is_program, used_names
from codestill.languages import bound_names
from codestill.prompts import as_completion
from codestill.types import Task

HEADER = 'import math\n\n\ndef double(x):\n    """Twice x."""\n'
OPEN = "def double(x):\n"  # without a docstring: nothing may follow but a body
DOCSTRING = '"""\nTwice x.\nassert double(1) == 2\n"""\n'

PROGRAMS = [
    "def double(x):\n    return 2 * x\n",
    "def double(number, by=2):\n  return by * number\n",  # other names, two spaces
    "def double(x):\n\treturn 2 * x\n",
    "from functools import lru_cache\n\n@lru_cache\ndef double(x):\n    return 2 * x\n",
    "TWO = 2\n\ndef double(x):\n    return TWO * x\n",
    "double = lambda x: 2 * x\n",
    "try:\n    import numpy_that_is_missing\nexcept ImportError:\n    def double(x):\n        return 2 * x\n",
    "from operator import mul\n\ndef by(x):\n    return mul(2, x)\n\ndouble = by\n",
    "class double:\n    def __new__(cls, x):\n        return 2 * x\n",
    "def double(x): return 2 * x\n",
    "from __future__ import annotations\n\ndef double(x: Unknown):\n    return 2 * x\n",
    '"""A module."""\nfrom __future__ import annotations\ndef double(x: Unknown):\n    return 2 * x\n',
    "def double(x):\n    return by(x)\n\n\ndef by(x):\n    return 2 * x\n",
    "\ufeffdef double(x):\n    return 2 * x\n",
]


def value(source: str) -> object:
    space: dict = {}
    exec(compile(source, "<test>", "exec", dont_inherit=True), space)
    return space["double"](3)


def task(prompt: str) -> Task:
    return Task.model_validate(
        {
            "task_id": "t",
            "prompt": prompt,
            "entry_point": "double",
            "reference": "",
            "tests": ["assert double(3) == 6"],
        }
    )


@pytest.mark.parametrize("prompt", [HEADER, OPEN, DOCSTRING, "@staticmethod\n" + OPEN, "\ufeff" + OPEN])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_whole_program_is_executed_as_it_stands(prompt: str, program: str) -> None:
    assert value(assemble(prompt, program, "double")) == 6
    assert value(task(prompt).program(as_completion(program, task(prompt)))) == 6


def test_a_continuation_continues() -> None:
    assert assemble(HEADER, "    return 2 * x\n", "double") == HEADER + "    return 2 * x\n"
    assert assemble("def double(x):\n    y = ", "x\n    return 2 * y\n", "double").endswith("return 2 * y\n")


def test_a_whole_program_has_what_the_prompt_provides() -> None:
    prompt = "from math import floor\nTWO = 2\n\ndef by(x):\n    return TWO * x\n\n\n" + OPEN
    assert value(assemble(prompt, "def double(y):\n    return floor(by(y))\n", "double")) == 6


def test_decorators_belong_to_the_header_and_many_are_read_in_linear_time() -> None:
    prompt = (
        "@first\ndef by(x):\n    return 2 * x\n\n\n@second(\n    1,\n)\n# note\n\n@third\ndef double(x):\n"
    )
    program = "def double(x):\n    return by(x)\n"
    assert assemble(prompt, program, "double") == prompt[: prompt.index("@second")] + program
    begun = time.process_time()
    assemble("@d\n" * 20_000, program, "double")
    assert time.process_time() - begun < 2


def test_a_prompt_that_opens_something_else_gives_nothing_and_a_broken_one_stays_broken() -> None:
    program = "def double(x):\n    return 2 * x\n"
    assert assemble("if True:\n    def double(x):\n", program, "double") == program
    with pytest.raises(SyntaxError):
        value(assemble('"""A text with """ in it"""\n', program, "double"))


def test_future_imports_move_to_the_top_and_nothing_else_moves() -> None:
    body = "    return 2 * x\n\n\nfrom __future__ import annotations; TWO = 2\n"
    source = assemble(HEADER, body, "double")
    assert source.startswith("from __future__ import annotations\nimport math\n") and value(source) == 6
    assert "TWO = 2" in source


def test_in_javascript_a_header_makes_a_whole_program() -> None:
    prompt = "// Twice x.\nfunction f(x) {\n"
    assert assemble(prompt, "return 2 * x }", "f", "javascript") == prompt + "return 2 * x }"
    for program in ("function f(y) { return 2 * y }", "const f = (y) => 2 * y", "let a\nfunction f(y) {}"):
        assert assemble(prompt, program, "f", "javascript") == "// Twice x.\n" + program


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def double(x):\n    return 1\n", True),
        ("if 1:\n    def double(x): pass\n", True),
        ("from m import double\n", True),
        ("    return double(x)\n", False),
        ("double(3)\n", False),
        ("def other():\n    def double(): pass\n", False),
        ("class A:\n    def double(self): pass\n", False),
        ("double is a word in prose.", False),
        ("(" * 5000 + "double", False),
    ],
)
def test_what_defines_the_function(text: str, expected: bool) -> None:
    assert is_program(text, "double") == expected


def test_an_equal_header_is_not_repeated() -> None:
    answer = (
        'import math\n\n\ndef double(x: int) -> int:\n    """D."""\n    # why\n    y = x\n    return y + x\n'
    )
    assert as_completion(answer, task(HEADER)) == "    # why\n    y = x\n    return y + x\n"


@pytest.mark.parametrize(
    "program",
    [
        "def double(y):\n    return 2 * y\n",
        "def double(x, y=2):\n    return y * x\n",
        "import os\n\ndef double(x):\n    return 2 * x\n",
        "@str\ndef double(x):\n    return 2 * x\n",
        "async def double(x):\n    return 2 * x\n",
        "def double(x):\n  return 2 * x\n",  # the docstring has four spaces
        "def double(x): return 2 * x\n",
        "def by(x):\n    return 2 * x\n\ndef double(x):\n    return by(x)\n",
    ],
)
def test_any_other_program_stays_whole(program: str) -> None:
    assert as_completion(program, task(HEADER)) == program


BINDS = """\
import a.b as c
from d import e
x, (y, z) = 1, (2, 3)
for i in x:
    w = 1
if x:
    f = lambda p: (q := p)
try:
    from k import k
except ImportError as m:
    n = [s for s in x if (r := s)]
match x:
    case {**v}:
        pass
def g(h):
    j = h
"""


def test_names() -> None:
    assert bound_names(ast.parse(BINDS).body) == list("cexyziwfkmnrvg")
    assert (
        used_names("def f(a, b=D):\n    c = 1\n    return [a, c, g(h) for h in LIST]\n") == set()
    )  # no Python
    assert used_names("def f(a, b=D):\n    c = 1\n    return [a + c + g(h) for h in LIST]\n") == {
        "D",
        "g",
        "LIST",
    }
    assert used_names("def f():\n    global count\n    count += 1\n") == {"count"}


NAMES = st.sampled_from(["double", "x", "other"])
LINES = st.sampled_from(
    ["import math", "TWO = 2", "from __future__ import annotations", "@str", "# note", ""]
)
BODIES = st.sampled_from(["return 2 * x", "return TWO * x", "pass", "y = x; return y", "yield x"])


@st.composite
def programs(draw: st.DrawFn) -> str:
    before = "\n".join(draw(st.lists(LINES, max_size=3)))
    indent = draw(st.sampled_from(["  ", "    ", "\t"]))
    after = draw(st.sampled_from(["", "\n\nalias = double", "\ndef other(y):\n    return y"]))
    return f"{before}\ndef {draw(NAMES)}({draw(NAMES)}):\n{indent}{draw(BODIES)}\n{after}\n"


def outcome(source: str) -> object:
    try:
        return re.sub(r"0x\w+", "", str(value(source)))
    except Exception as error:
        return type(error).__name__


@pytest.mark.slow
@given(programs(), st.sampled_from([OPEN, DOCSTRING, "import math\nTWO = 2\n" + OPEN]))
@settings(deadline=None, max_examples=4000)
def test_a_program_does_the_same_behind_a_prompt(program: str, prompt: str) -> None:
    if not is_program(program, "double"):
        return
    alone = outcome("import math\nTWO = 2\n" + program if "TWO" in prompt else program)
    if "SyntaxError" in str(alone):
        return  # a future import that is not first
    assembled = task(prompt).program(as_completion(program, task(prompt)))
    assert outcome(assembled) == alone
