"""A judge goes on to the next program only where no test can have changed it."""

import ast
import random
import threading

import pytest
from tests.sandbox.hostile.world import descendants

from codestill.sandbox import Program, Sandbox, SandboxConfig, payload
from codestill.types import Test

ADD = "def add(x, y):\n    return x + y"


def program(test: str, solution: str = ADD, setup: str = "") -> Program:
    return Program(solution=solution, entry_point="add", test_setup=setup, tests=(Test(code=test),))


HARMLESS = [
    "assert add(1, 2) == 3",
    "import math\nassert math.isclose(add(0.1, 0.2), 0.3)",
    "from collections import Counter\nassert Counter([add(1, 2)]) == Counter([3])",
    "def check(candidate):\n    for x in range(3):\n        assert candidate(x, x) == 2 * x\ncheck(add)",
    "seen = {}\nseen[add(1, 2)] = True\nassert seen == {3: True}",
    "try:\n    add('a', 1)\n    assert False\nexcept TypeError:\n    pass",
]
CHANGING = [
    "import sys\nsys.setrecursionlimit(50)\nassert add(1, 2) == 3",
    "import json\njson.loads = None\nassert add(1, 2) == 3",
    "import random\nrandom.seed(0)\nassert add(1, 2) == 3",
    "import os\nos.environ['x'] = '1'\nassert add(1, 2) == 3",
    "__builtins__['len'] = None\nassert add(1, 2) == 3",
    "setattr(add, 'x', 1)\nassert add(1, 2) == 3",
    "exec('import os')\nassert add(1, 2) == 3",
    "class Kept: pass\nassert add(1, 2) == 3",
    "import re\nre.purge()\nassert add(1, 2) == 3",
    "assert add(1, 2) ==",
]


def harmless(item: Program) -> bool:
    """What the sandbox is told of its tests."""
    return payload.Tests(None).payload(item)[1]


@pytest.mark.parametrize("test", HARMLESS)
def test_tests_that_compare_leave_no_trace(test: str) -> None:
    assert harmless(program(test))
    assert harmless(program("", setup=test))


@pytest.mark.parametrize("test", CHANGING)
def test_tests_that_could_change_the_process_are_seen(test: str) -> None:
    assert not harmless(program(test))
    assert not harmless(program("", setup=test))
    assert not harmless(program("").model_copy(update={"support": test}))
    inside = "def check(candidate):\n" + "".join(f"    {line}\n" for line in test.split("\n"))
    assert not harmless(program(inside))


def kept(box: Sandbox) -> list[int]:
    """Processes below the guard and its zygote, while no program runs."""
    (worker,) = box._pool._workers
    return descendants(worker.process.pid)[1:]


def test_a_judge_is_kept_where_nothing_can_have_changed() -> None:
    with Sandbox(SandboxConfig(), workers=1) as box:
        if "seccomp" not in box.description:
            pytest.skip("judges are kept only where a filter refuses new processes")
        assert box.execute(program(HARMLESS[0])).passed
        first = kept(box)
        assert len(first) == 1
        for test in HARMLESS[1:]:
            assert box.execute(program(test)).passed
            assert kept(box) == first
        assert box.execute(program(HARMLESS[0], "def add(x, y): return 0")).verdict == "wrong"
        assert kept(box) == first
        assert (
            box.execute(program(HARMLESS[0], "import os\ndef add(x, y): os._exit(0)")).verdict == "exception"
        )
        assert kept(box) == []  # its solver was lost
        assert box.execute(program(CHANGING[0])).passed
        assert kept(box) == []
        assert box.execute(program(HARMLESS[0])).passed
        assert kept(box) not in ([], first)


SOLUTIONS = [
    ADD,
    "def add(x, y): return object()",
    "def add(x, y): raise type('AssertionError', (Exception,), {})('no')",
    "def add(x, y):\n    while True: pass",
    "class add:\n    def __init__(self, x, y): pass\n    def __eq__(self, other): return True",
    "def add(x, y): return [[]] * 10**3",
    "def add(x, y): return x + y\nimport os\nos.close(1)",
    "def add(x, y): raise MemoryError",
    "def add(x, y): return 'x' * (1 << 16)",
    "def add(x, y): return float('nan')",
    "syntax error",
]


def test_verdicts_do_not_depend_on_what_was_judged_before() -> None:
    programs = [program(test, solution) for test in HARMLESS[:4] + CHANGING[:2] for solution in SOLUTIONS]
    config = SandboxConfig(cpu_seconds=1)
    with Sandbox(config, workers=1) as box:
        expected = {item: box.execute(item) for item in programs}
    random.Random(0).shuffle(programs)
    with Sandbox(config, workers=1) as box:
        for item in programs:
            found, known = box.execute(item), expected[item]
            assert (found.verdict, found.tests) == (known.verdict, known.tests), item


def test_kept_judges_end() -> None:
    """More programs than one judge takes."""
    with Sandbox(SandboxConfig(), workers=1) as box:
        judges = set()
        for number in range(520):
            test = f"assert add(1, {number}) == {number + 1}"
            assert box.execute(program(test)).passed
            judges.update(kept(box))
    assert len(judges) == 2


def test_tests_are_read_beside_other_threads_that_parse() -> None:
    """Syntax trees built in two threads at once broke both."""
    source = "\n".join(f"x{number} = [f({number}), {{'a': (1, 2, 3)}}]" for number in range(300))
    stop = threading.Event()
    failed: list[BaseException] = []

    def read() -> None:
        while not stop.is_set():
            try:
                assert harmless(program(source))
            except BaseException as error:
                failed.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(100):
        ast.parse(source)
    stop.set()
    for reader in readers:
        reader.join()
    assert not failed
