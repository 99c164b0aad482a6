"""What crosses between the tests' process and the program's: values, names, changes, errors."""

import pytest

from codestill.attempt import execute
from codestill.errors import SandboxError
from codestill.sandbox import Program, Sandbox, SandboxConfig
from codestill.tasks import TasksConfig
from codestill.types import Completion, Task


def passes(sandbox, program, solution: str, *tests: str, setup: str = "") -> None:
    result = sandbox.execute(program(solution, *tests, setup=setup))
    assert result.passed, (result.error, [test for test in result.tests if test.verdict != "pass"])


VALUES = [
    "None",
    "[True, 1, 1.5, -0.0, 'é\\ud800', b'x', bytearray(b'y'), 2 + 3j]",
    "(1, (2, [3]), {4: (5,)}, {6}, frozenset({7}), range(1, 9, 2))",
    "[(1, 'a'), (2, 'b')]",
    "[[1, 2], [3, 4]]",
    "10 ** 6000",
    "{(1, 2): {'x': None}}",
    "float('inf')",
    "decimal.Decimal('1.10')",
    "fractions.Fraction(1, 3)",
    "collections.OrderedDict(a=1, b=2)",
    "collections.Counter('aab')",
    "collections.deque([1, 2], maxlen=3)",
    "datetime.datetime(2020, 2, 3, 4, 5)",
    "datetime.timedelta(days=1, microseconds=3)",
    "int",
]


@pytest.mark.parametrize("value", VALUES)
def test_values_arrive_equal_and_of_the_same_type(sandbox, program, value):
    imports = "import collections, datetime, decimal, fractions\n"
    back_and_forth = f"x = f({value})\nassert x == {value} and type(x) is type({value})"
    passes(sandbox, program, f"{imports}def f(x): return x", back_and_forth, setup=imports)
    made_there = f"x = f()\nassert x == {value} and type(x) is type({value})"
    passes(sandbox, program, f"{imports}def f(): return {value}", made_there, setup=imports)


def test_subclasses_decay_to_what_they_are_made_of(sandbox, program):
    solution = """
import collections, enum
class Int(int):
    def __eq__(self, other): return True
    __hash__ = int.__hash__
class List(list):
    def __eq__(self, other): return True
Point = collections.namedtuple("Point", "x y")
class Colour(enum.IntEnum):
    RED = 3
def f(kind):
    return {"int": Int(1), "list": List([1]), "point": Point(1, 2), "colour": Colour.RED}[kind]
"""
    passes(
        sandbox,
        program,
        solution,
        "assert type(f('int')) is int and f('int') != 2",
        "assert type(f('list')) is list and f('list') != [2]",
        "assert f('point') == (1, 2)",
        "assert f('colour') == 3",
    )


def test_views_and_iterators(sandbox, program):
    solution = """
def f(kind):
    d = {"a": 1, "b": 2}
    def count():
        n = 0
        while True:
            yield n
            n += 1
    return {"keys": d.keys(), "values": d.values(), "items": d.items(), "zip": zip("ab", [1, 2]),
            "endless": count(), "map": map(str, [1, 2])}[kind]
"""
    passes(
        sandbox,
        program,
        solution,
        "assert f('keys') == {'a', 'b'} and list(f('keys')) == ['a', 'b']",
        "assert list(f('values')) == [1, 2]",
        "assert set(f('items')) == {('a', 1), ('b', 2)}",
        "assert list(f('zip')) == [('a', 1), ('b', 2)]",
        "e = f('endless')\nassert [next(e), next(e), next(e)] == [0, 1, 2]",
        "assert f('map') != ['1', '2'] and list(f('map')) == ['1', '2']",
    )


def test_arguments_that_are_changed_in_place(sandbox, program):
    solution = """
def f(items, table=None):
    items.sort()
    if table is not None:
        table["n"] = len(items)
    return items
"""
    passes(
        sandbox,
        program,
        solution,
        "x = [3, 1]\nassert f(x) is x and x == [1, 3]",
        "x, t = [3, 1], {}\nf(x, t)\nassert t == {'n': 2}",
        "x = [1, 2]\nf(x)\nassert x == [1, 2]",
    )


def test_a_function_with_a_builtin_name(sandbox):
    task = Task(
        task_id="t",
        prompt='"""Add up the digits: sum(12) == 3"""\n',
        entry_point="sum",
        reference="def sum(n):\n    return n % 10 + (sum(n // 10) if n > 9 else 0)\n",
        tests=("assert sum(12) == 3", "assert sum(999) == 27"),  # pyright: ignore[reportArgumentType]
    )
    assert sandbox.execute(Program.of(task, task.reference)).passed


def test_types_functions_and_lambdas_as_arguments(sandbox, program):
    solution = """
def f(items, kind): return [item for item in items if isinstance(item, kind)]
def g(function, *args): return function(*args)
def h(function):
    try:
        return function()
    except ValueError as error:
        return str(error)
"""
    passes(
        sandbox,
        program,
        solution,
        "assert f([1, 'a', 2.0], int) == [1]",
        "assert f([1, 'a', 2.0], (str, float)) == ['a', 2.0]",
        "assert g(len, [1, 2]) == 2",
        "assert g(math.gcd, 4, 6) == 2",
        "assert g(lambda x: [x, x + offset], 1) == [1, 11]",
        "assert g(lambda x: f(x, int), [1, 'a']) == [1]",  # which calls back in turn
        "def bad(): raise ValueError('told')\nassert h(bad) == 'told'",
        setup="import math\noffset = 10",
    )


def test_names_that_tests_take_from_the_task(sandbox):
    task = Task(
        task_id="t",
        prompt="import math\n\ndef poly(xs, x):\n    return sum(c * x ** n for n, c in enumerate(xs))\n\n\n"
        "def root(xs):\n",
        entry_point="root",
        reference="    return -xs[0] / xs[1]\n",
        tests=("assert math.fabs(poly([2, 1], root([2, 1]))) < 1e-4",),  # pyright: ignore[reportArgumentType]
    )
    assert sandbox.execute(Program.of(task, task.reference)).passed
    cheat = "    return 0\ndef poly(xs, x): return 0\nclass math:\n    fabs = staticmethod(lambda x: 0)\n"
    assert sandbox.execute(Program.of(task, cheat)).verdict == "wrong"


def test_the_candidates_own_classes(sandbox, program):
    solution = """
class Pair:
    size = 2
    def __init__(self, a, b): self.a, self.b = a, b
    def total(self): return self.a + self.b
    def __getitem__(self, n): return (self.a, self.b)[n]
    def __len__(self): return 2
class Point:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return self.x == other.x
def f(pairs): return max(pair.b for pair in pairs)
def make(x): return Point(x)
def find(word): return __import__("re").search("a.c", word)
"""
    passes(
        sandbox,
        program,
        solution,
        "assert f([Pair(1, 2), Pair(3, 4)]) == 4",
        "p = Pair(1, 2)\np.b = 7\nassert p.total() == 8 and p[1] == 7 and len(p) == 2 and list(p) == [1, 7]",
        "assert Pair.size == 2",
        "assert find('xabcx') and not find('x')",
        "assert find('xabcx').group(0) == 'abc' and find('x') is None",
        "assert make(3).x == 3",
        "assert isinstance(make(3), Point) and not isinstance(3, Point)",
        "p = make(1)\nassert p == p and p in [p]",
    )
    result = sandbox.execute(program(solution, "assert make(3) == make(3)"))
    assert result.verdict == "undecidable"
    assert "Point" in result.error and "equality" in result.error


def test_operators_on_objects_are_not_the_candidates_to_decide(sandbox, program):
    solution = """
class Liar:
    def __sub__(self, other): return 0
    __rsub__ = __abs__ = __sub__
    def __lt__(self, other): return True
    __gt__ = __le__ = __ge__ = __lt__
    def __float__(self): return 0.0
    def __contains__(self, other): return True
    def __iter__(self): return iter([1])
def f(): return Liar()
"""
    for test in ("assert f() - 5 < 1e-6", "assert f() < 5", "assert 5 > f()", "assert 5 in f()"):
        result = sandbox.execute(program(solution, test))
        assert result.verdict in ("wrong", "exception", "undecidable"), test


def test_undecidable_cannot_be_caught(sandbox, program):
    solution = "class A:\n    def __eq__(self, other): return True\ndef f(): return A()"
    test = "try:\n    f() == 3\nexcept:\n    pass"
    assert sandbox.execute(program(solution, test)).verdict == "undecidable"
    gone = "import os\ndef f(): os._exit(0)"
    assert sandbox.execute(program(gone, "try:\n    f()\nexcept:\n    pass")).verdict == "exception"


def test_exceptions_are_caught_by_their_class(sandbox, program):
    solution = """
class Own(KeyError): pass
class Other(Exception): pass
def f(kind):
    if kind == "exit":
        raise SystemExit(3)
    raise {"value": ValueError("v"), "own": Own("o"), "other": Other("x"), "unicode": "é".encode}[kind] \\
        if kind != "unicode" else UnicodeDecodeError("utf-8", b"a", 0, 1, "why")
"""
    passes(
        sandbox,
        program,
        solution,
        "try:\n    f('value')\nexcept ValueError as error:\n    assert str(error) == 'v'",
        "try:\n    f('own')\nexcept KeyError as error:\n    assert type(error).__name__ == 'Own'",
        "try:\n    f('other')\nexcept Exception as error:\n    assert str(error) == 'x'",
        "try:\n    f('unicode')\nexcept Exception as error:\n    assert 'why' in str(error)",
        "try:\n    f('exit')\nexcept SystemExit:\n    pass",
    )
    library = "import statistics\ndef f(): return statistics.mean([])"
    passes(
        sandbox,
        program,
        library,
        "try:\n    f()\nexcept statistics.StatisticsError:\n    pass",
        setup="import statistics",
    )
    (test,) = sandbox.execute(program(library, "f()")).tests
    assert test.error_type == "statistics.StatisticsError"
    result = sandbox.execute(program(solution, "f('own')", "f('nothing')"))
    assert [(test.error_type, test.message, test.line) for test in result.tests] == [
        ("Own", "'o'", 7),
        ("KeyError", "'nothing'", 7),
    ]


def test_what_cannot_cross_is_said(sandbox, program):
    result = sandbox.execute(program("def f(x): return x", "assert f(Thing())", setup="class Thing: pass"))
    assert result.verdict == "undecidable"
    assert result.error == "the tests pass a Thing, which is not data"


def test_a_long_answer_is_compared_by_its_hash(sandbox, program):
    solution = "def f(n): return [(i, str(i)) for i in range(n)]\ndef g(n): return f(n)[:-1]"
    expected = "[(i, str(i)) for i in range(1500000)]"
    result = sandbox.execute(
        program(
            solution,
            f"assert f(1500000) == {expected}",
            f"assert {expected} == f(1500000)",
            f"assert g(1500000) == {expected}",
            "assert len(f(1500000)) == 1500000 and f(1500000)[7] == (7, '7')",
            cpu_seconds=60,
        )
    )
    assert [test.verdict for test in result.tests] == ["pass", "pass", "wrong", "pass"]


def test_the_first_failure_is_explained_as_it_was(sandbox, program):
    """The answer is not asked for a second time, when a program with a memory might give another."""
    solution = "answers = [5, 7]\ndef f(x): return answers.pop(0)"
    result = sandbox.execute(program(solution, "assert f(1) == 6"))
    (test,) = result.tests
    assert (test.call, test.actual, test.expected) == ("f(1)", "5", "6")


def test_what_the_tests_print_is_not_the_programs_output(sandbox, program):
    result = sandbox.execute(program("print('mine')\ndef f(): print('again')", "print('theirs')\nf()"))
    assert result.output == "mine\nagain\n"


def test_in_process_by_name_and_marked(program):
    with Sandbox(SandboxConfig(verdict="in-process"), workers=1) as sandbox:
        result = sandbox.execute(program("def f(x): return [x]", "assert f(1) == [1]", "assert f(2) == 3"))
        assert result.sandbox.startswith("in-process verdict, tier ")
        assert (result.verdict, result.tests[1].actual) == ("wrong", "[2]")
        class_of_tests = program("def f(x): return x.n", "assert f(Thing()) == 5", setup="class Thing: n = 5")
        assert sandbox.execute(class_of_tests).passed


def test_programs_that_the_sandbox_fails_on_stay_owed(program, monkeypatch):
    task_set = TasksConfig.model_validate({"source": "pocket", "split": "validation", "count": 4}).load()
    completions = [Completion(task_id=task.task_id, sample=0, text=task.reference) for task in task_set.tasks]
    monkeypatch.setattr("codestill.sandbox.sandbox._PAUSES", (0.0,))
    with Sandbox(SandboxConfig(), workers=1) as sandbox:
        assert [a.result.verdict for a in execute(sandbox, task_set, completions)] == ["pass"] * 4

        def broken():
            yield completions[0]
            for worker in sandbox._pool._workers:
                worker.kill()
            monkeypatch.setattr("sys.executable", "/nonexistent/python")
            yield from completions[1:3]

        attempts = execute(sandbox, task_set, broken())
        with pytest.raises(SandboxError, match="could not be executed"):
            for attempt in attempts:
                assert attempt.result.passed
