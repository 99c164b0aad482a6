"""Names that tests take from the task's own text: no completion gives them another value."""

import pytest

from codestill.sandbox import Program, Sandbox
from codestill.sandbox.support import support
from codestill.types import Task, Test


def task(prompt: str, reference: str, *tests: str, setup: str = "") -> Task:
    return Task(
        task_id="t",
        prompt=prompt,
        entry_point="near",
        reference=reference,
        test_setup=setup,
        tests=tuple(Test(code=test) for test in tests),
    )


NEAR = "def near(x):\n"
BODY = "    return x\n"
WRONG = "    return 0.0\n\n\n"
CHEATS = {
    "a constant": ("EPS = 1e-6\n" + NEAR, BODY, "assert abs(near(1.0) - 1.0) < EPS", "EPS = 1e9\n"),
    "an annotated constant": (
        "EPS: float = 1e-6\n" + NEAR,
        BODY,
        "assert abs(near(1.0) - 1.0) < EPS",
        "EPS = 1e9\n",
    ),
    "a pair of constants": ("A, B = 1.0, 2.0\n" + NEAR, BODY, "assert near(1.0) == A", "A = 0.0\n"),
    "a constant by another": (
        "ONE = 1e-6\nEPS = 2 * ONE\n" + NEAR,
        BODY,
        "assert abs(near(1.0) - 1.0) < EPS",
        "ONE = EPS = 1e9\n",
    ),
    "a table": (
        "TABLE = {1.0: [1.0]}\n" + NEAR,
        BODY,
        "assert [near(1.0)] == TABLE[1.0]",
        "TABLE = {1.0: [0.0]}\n",
    ),
    "a table that a loop fills": (
        "TABLE = []\nfor n in range(3):\n    TABLE.append(float(n))\n" + NEAR,
        BODY,
        "assert near(1.0) == TABLE[1]",
        "TABLE = [0.0, 0.0]\n",
    ),
    "a lambda": (
        "close = lambda a, b: abs(a - b) < 1e-6\n" + NEAR,
        BODY,
        "assert close(near(1.0), 1.0)",
        "close = lambda a, b: True\n",
    ),
    "an alias": (
        "def close(a, b):\n    return abs(a - b) < 1e-6\nsame = close\n" + NEAR,
        BODY,
        "assert same(near(1.0), 1.0)",
        "same = lambda a, b: True\n",
    ),
    "a star import": (
        "from math import *\n" + NEAR,
        BODY,
        "assert isclose(near(1.0), 1.0)",
        "isclose = lambda a, b: True\n",
    ),
    "an import with a substitute": (
        "try:\n    from math import isclose\nexcept ImportError:\n    isclose = None\n" + NEAR,
        BODY,
        "assert isclose(near(1.0), 1.0)",
        "isclose = lambda a, b: True\n",
    ),
    "an import on a condition": (
        "import sys\nif sys.version_info > (3,):\n    from math import isclose\n" + NEAR,
        BODY,
        "assert isclose(near(1.0), 1.0)",
        "isclose = lambda a, b: True\n",
    ),
    "a helper of the reference": (
        NEAR,
        BODY + "\n\ndef close(a, b):\n    return abs(a - b) < 1e-6\n",
        "assert close(near(1.0), 1.0)",
        "def close(a, b): return True\n",
    ),
    "a helper of a helper": (
        NEAR,
        BODY
        + "\n\nEPS = 1e-6\ndef gap(a, b):\n    return abs(a - b)\n"
        + "def close(a, b):\n    return gap(a, b) < EPS\n",
        "assert close(near(1.0), 1.0)",
        "EPS = 9\ndef gap(a, b): return 0\ndef close(a, b): return True\n",
    ),
    "a class of the tests'": (
        "class Checker:\n    def close(self, a, b):\n        return abs(a - b) < 1e-6\n" + NEAR,
        BODY,
        "checker = Checker()\nassert checker.close(near(1.0), 1.0)",
        "class Checker:\n    def close(self, a, b): return True\n",
    ),
    "a class of the reference's": (
        NEAR,
        BODY + "\n\nclass Checker:\n    def close(self, a, b):\n        return abs(a - b) < 1e-6\n",
        "assert Checker().close(near(1.0), 1.0)",
        "class Checker:\n    def close(self, a, b): return True\n",
    ),
    "a class of constants": (
        "class Limits:\n    EPS = 1e-6\n" + NEAR,
        "    assert Limits.EPS\n" + BODY,
        "assert abs(near(1.0) - 1.0) < Limits.EPS",
        "class Limits:\n    EPS = 1e9\n",
    ),
    "a pattern": (
        "import re\nWORD = re.compile('[a-z]+')\n" + NEAR,
        BODY,
        "assert WORD.fullmatch(near('abc'))",
        "WORD = re.compile('.*')\ndef near(x): return '!'\n",
    ),
    "by other means": (
        "EPS = 1e-6\n" + NEAR,
        BODY,
        "assert abs(near(1.0) - 1.0) < EPS",
        "globals()['E' + 'PS'] = 1e9\nimport builtins\nbuiltins.EPS = 1e9\n",
    ),
}


@pytest.mark.parametrize("name", CHEATS)
def test_what_the_task_defines_is_not_the_completions_to_say(sandbox: Sandbox, name: str) -> None:
    prompt, reference, test, cheat = CHEATS[name]
    made = task(prompt, reference, test)
    assert sandbox.execute(Program.of(made, reference)).passed
    assert sandbox.execute(Program.of(made, WRONG + cheat)).verdict in ("wrong", "undecidable")
    assert not sandbox.execute(Program.of(made, WRONG)).passed


PAIR = "class Pair:\n    def __init__(self, a, b):\n        self.a, self.b = a, b\n"
RIGHT = {
    "a class whose instances cross": (PAIR + NEAR, "    return x.a\n", "assert near(Pair(1, 2)) == 1"),
    "a class that only the reference has": (
        "# The greatest a of pairs.\n",
        PAIR + NEAR + "    return max(item.a for item in x)\n",
        "pairs = [Pair(1, 2), Pair(3, 4)]\nassert near(pairs) == 3",
    ),
    "a class and its instances by type": (
        PAIR + NEAR,
        "    return Pair(x, x)\n",
        "assert isinstance(near(1), Pair)",
    ),
    "a count": (
        "COUNT = 0\n" + NEAR,
        "    global COUNT\n    COUNT += 1\n    return COUNT\n",
        "near(1)\nassert COUNT == 1",
    ),
    "a store": ("STORE = {}\n" + NEAR, "    STORE[x] = 1\n", "near(2)\nassert STORE == {2: 1}"),
    "a store that helpers empty": (
        "STORE = []\ndef reset():\n    STORE.clear()\n" + NEAR,
        "    STORE.append(x)\n    return len(STORE)\n",
        "near(1)\nreset()\nassert near(1) == 1 and STORE == [1]",
    ),
    "a store that tests fill": (
        "STORE = {}\n" + NEAR,
        "    return STORE.get(x)\n",
        "STORE['a'] = 1\nassert near('a') == 1",
    ),
    "a named tuple": (
        "from collections import namedtuple\nPoint = namedtuple('Point', 'x y')\n" + NEAR,
        "    return Point(x, x)\n",
        "assert near(1) == Point(1, 1) and isinstance(near(1), Point)",
    ),
    "an enumeration": (
        "from enum import Enum\nclass Colour(Enum):\n    RED = 1\n" + NEAR,
        "    return Colour(x)\n",
        "assert near(1) is Colour.RED",
    ),
    "a mark": ("NONE = object()\n" + NEAR, "    return NONE\n", "assert near(1) is NONE"),
    "an alias of the entry point": (NEAR, BODY + "\nalso = near\n", "assert also(3) == 3"),
    "a name that only the candidate has": (NEAR, BODY + "\ndef other(): return 5\n", "assert other() == 5"),
    "a constant that fails in the judge": (
        "BIG = open('nothing').read() if False else 3\n" + NEAR,
        BODY,
        "assert near(3) == BIG",
    ),
    "an exception": (
        "class Bad(ValueError):\n    pass\n" + NEAR,
        "    raise Bad('no')\n",
        "try:\n    near(1)\n    assert False\nexcept Bad as error:\n    assert str(error) == 'no'",
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_program_stays_right(sandbox: Sandbox, name: str) -> None:
    prompt, reference, test = RIGHT[name]
    result = sandbox.execute(Program.of(task(prompt, reference, test), reference))
    assert result.passed, result


def test_a_right_program_with_another_pair_of_functions_is_not_wrong(sandbox: Sandbox) -> None:
    """The reference's second function may not fit the program's first, whose own is not believed."""
    made = task(
        "# near(x) hides a number, far(near(x)) is it again\n",
        "def near(x):\n    return x + 1\ndef far(x):\n    return x - 1\n",
        "assert far(near(5)) == 5",
    )
    other = "def near(x):\n    return -x\ndef far(x):\n    return -x\n"
    result = sandbox.execute(Program.of(made, other))
    assert (result.verdict, result.error) == ("undecidable", "the program's far is not the task's")
    assert sandbox.execute(Program.of(made, "def near(x):\n    return -x\n")).verdict == "wrong"


def test_only_what_tests_name_is_kept() -> None:
    prompt = "import math\nimport re\nEPS = 1\nBIG = 2 * EPS\ndef helper():\n    return BIG\n" + NEAR
    tests = (Test(code="assert near(1) == helper()"),)
    found = support(prompt, BODY, "near", "", tests)
    assert found.names == ("EPS", "BIG", "helper") and "import" not in found.source
    assert support(prompt, BODY, "near", "", (Test(code="assert near(1) == 1"),)).source == ""
    assert support("def near(:\n", BODY, "near", "", tests).source == ""
