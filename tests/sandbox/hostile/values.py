"""Programs whose values would mislead the tests that compare them, and whose names would replace theirs."""

from tests.sandbox.hostile.program import Hostile

_ALL_EQUAL = """
def yes(*_): return True
def zero(*_): return 0
METHODS = dict.fromkeys(
    ("__eq__", "__lt__", "__le__", "__gt__", "__ge__", "__contains__", "__bool__", "__instancecheck__"), yes
) | dict.fromkeys(("__hash__", "__sub__", "__rsub__", "__abs__", "__index__", "__int__", "__len__"), zero)
METHODS["__ne__"] = METHODS["__xor__"] = lambda *_: False
METHODS["__float__"] = lambda self: 4.0
METHODS["__iter__"] = lambda self: iter([self] * 3)
METHODS["__getitem__"] = lambda self, key: self
METHODS["__repr__"] = METHODS["__str__"] = lambda self: "4"
def like(*bases, **more): return type("Yes", bases, METHODS | more)
"""
_TESTS = {
    "equality": ("undecidable", "assert f() == 'TOKEN'"),
    "equality from the right": ("undecidable", "assert 'TOKEN' == f()"),
    "no inequality": ("undecidable", "assert not f() != 'TOKEN'"),
    "nearness": ("undecidable", "assert abs(f() - 4) < 1e-6"),
    "closeness": ("undecidable", "import math\nassert math.isclose(f(), 4.0)"),
    "membership": ("undecidable", "assert f() in ['TOKEN']"),
    "membership in a set": ("undecidable", "assert f() in {'TOKEN'}"),
    "containing": ("undecidable", "assert 'TOKEN' in f()"),
    "a list of it": ("undecidable", "assert [f()] == ['TOKEN']"),
    "a list made of it": ("undecidable", "assert list(f()) == ['TOKEN'] * 3"),
    "sorting": ("undecidable", "assert sorted([f(), 5]) == [4, 5]"),
    "an index": ("undecidable", "assert [1, 2][f()] == 1"),
    "order": ("undecidable", "assert f() > 3 and f() < 5"),
    "a set of it": ("undecidable", "assert set([f(), 'TOKEN']) == {'TOKEN'}"),
    "a dictionary": ("undecidable", "assert {'TOKEN': 1}[f()] == 1"),
    "a copy": ("undecidable", "import copy\nassert copy.deepcopy(f()) == 'TOKEN'"),
    "the class": ("wrong", "assert isinstance(f(), str) and f() == 'TOKEN'"),
    "a sum": ("exception TypeError", "assert sum(f()) == 'TOKEN'"),
    "a type": ("undecidable", "assert type(f()) == type('TOKEN')"),
}
_SUBCLASSES = [
    ("int", "int", "", "wrong", "assert f() == 42"),
    ("float", "float", "", "wrong", "assert abs(f() - 42.0) < 1e-6"),
    ("complex", "complex", "", "wrong", "assert f() == 42j"),
    ("str", "str", "", "wrong", "assert f() == 'TOKEN'"),
    ("bytes", "bytes", "", "wrong", "assert f() == b'TOKEN'"),
    ("list", "list", "", "wrong", "assert f() == ['TOKEN']"),
    ("sorted list", "list", "", "wrong", "assert sorted(f()) == ['TOKEN']"),
    ("tuple", "tuple", "", "wrong", "assert f() == ('TOKEN',)"),
    ("dict", "dict", "", "wrong", "assert f() == {'TOKEN': 1}"),
    ("set", "set", "", "wrong", "assert f() == {'TOKEN'}"),
    ("frozenset", "frozenset", "", "wrong", "assert f() == frozenset(['TOKEN'])"),
    ("OrderedDict", "__import__('collections').OrderedDict", "", "wrong", "assert f() == {'TOKEN': 1}"),
    ("Counter", "__import__('collections').Counter", "", "wrong", "assert f() == {'TOKEN': 1}"),
    ("deque", "__import__('collections').deque", "", "wrong", "assert list(f()) == ['TOKEN']"),
    ("Decimal", "__import__('decimal').Decimal", "0", "undecidable", "assert f() == 42"),
    ("Fraction", "__import__('fractions').Fraction", "0", "undecidable", "assert f() == 42"),
    ("date", "__import__('datetime').date", "1, 1, 1", "wrong", "assert str(f()) == 'TOKEN'"),
]

OBJECTS = [
    Hostile(
        f"an object that equals everything: {name}",
        _ALL_EQUAL + "def f(): return like(object)()",
        ends,
        tests=test,
    )
    for name, (ends, test) in _TESTS.items()
]
SUBCLASSES = [
    Hostile(
        f"a {name} that equals everything",
        f"{_ALL_EQUAL}def f(): return like({base})({own})",
        ends,
        tests=test,
    )
    for name, base, own, ends, test in _SUBCLASSES
]
OTHERS = [
    Hostile(name, _ALL_EQUAL + source, ends, tests=test)
    for name, source, ends, test in [
        (
            "a class that equals everything",
            "class Meta(type):\n    __eq__ = yes\n    __hash__ = zero\nclass Yes(metaclass=Meta): pass\n"
            "def f(): return Yes",
            "undecidable",
            "assert f() == 'TOKEN'",
        ),
        (
            "a class that names itself built in",
            "import builtins\nclass Yes: pass\nYes.__module__ = 'builtins'\nbuiltins.Yes = Yes\n"
            "def f(): return Yes",
            "undecidable",
            "assert f() == 'TOKEN'",
        ),
        (
            "an instance of a false class",
            "class Yes:\n    __class__ = property(lambda self: str)\n    __eq__ = yes\ndef f(): return Yes()",
            "exception TypeError",
            "assert f() == 'TOKEN'",
        ),
        (
            "what the standard library has to equal everything",
            "from unittest.mock import ANY\ndef f(): return ANY",
            "undecidable",
            "assert f() == 'TOKEN'",
        ),
        (
            "a mock",
            "from unittest.mock import MagicMock\nf = MagicMock()\nf.return_value.__eq__ = yes",
            "undecidable",
            "assert f(1) == 'TOKEN'",
        ),
        (
            "items that equal everything",
            "def f(): return [like(str)('x'), like(int)(0), like(object)()]",
            "wrong",
            "assert f() == ['TOKEN', 1, 2]",
        ),
        (
            "keys that equal everything",
            "def f(): return {like(object)(): 1}",
            "wrong",
            "assert f() == {'TOKEN': 1}",
        ),
        (
            "a generator of what equals everything",
            "def f():\n    for _ in range(3): yield like(object)()",
            "undecidable",
            "assert list(f()) == ['TOKEN'] * 3",
        ),
        ("not a number", "def f(): return float('nan')", "wrong", "assert abs(f() - 4) < 1e-6"),
        (
            "an argument emptied",
            "def f(values):\n    values.clear()\n    return []",
            "wrong",
            "x = [3, 1, 2]\ny = sorted(x)\nassert f(x) == y",
        ),
        (
            "an argument that is to equal everything",
            "def f(values):\n    values[:] = [like(object)()]\n    return values",
            "undecidable",
            "x = [3]\nassert f(x) == ['TOKEN'] and x == ['TOKEN']",
        ),
        (
            "a false handle",
            "def f():\n    say(['ok', {'h': [0, 'str', True, False, None]}])",
            "wrong",
            "assert f() == 'TOKEN'",
        ),
        (
            "a handle with a hash of its own",
            "import hashlib\ndef f():\n"
            "    say(['ok', {'h': [0, 'list', False, False, hashlib.sha256(b'').hexdigest()]}])",
            "wrong",
            "assert f() == ['TOKEN']",
        ),
        (
            "the argument itself",
            "def f(values):\n    say(['same', 0])",
            "wrong",
            "assert f([1]) == ['TOKEN']",
        ),
        (
            "a long list that is another",
            "def f(): return [0] * 1_000_001",
            "wrong",
            "assert f() == [1] * 1_000_001",
        ),
    ]
]

_STOPPED = "class Stop(StopIteration): pass\ndef f(*_): raise Stop"
EXCEPTIONS = [
    Hostile(name, source, ends, tests=test)
    for name, source, ends, test in [
        (
            "the tests' own exception",
            "def f(): raise AssertionError('passed')",
            "exception AssertionError",
            "assert f() == 1",
        ),
        (
            "an exception that ends processes",
            "def f(): raise SystemExit(0)",
            "exception SystemExit",
            "assert f() == 1",
        ),
        (
            "an interrupt",
            "def f(): raise KeyboardInterrupt",
            "exception KeyboardInterrupt",
            "assert f() == 1",
        ),
        (
            "the end of a generator",
            "def f(): raise GeneratorExit",
            "exception GeneratorExit",
            "assert f() == 1",
        ),
        (
            "a name of the sandbox's own",
            "class Undecidable(BaseException): pass\ndef f(): raise Undecidable('gone')",
            "exception Undecidable",
            "assert f() == 1",
        ),
        (
            "a group",
            "def f(): raise BaseExceptionGroup('x', [SystemExit()])",
            "exception BaseExceptionGroup",
            "assert f() == 1",
        ),
        (
            "an exception without a message",
            "class Error(Exception):\n    def __str__(self): raise self\ndef f(): raise Error",
            "exception Error",
            "assert f() == 1",
        ),
        (
            "a message that is no text",
            "class Text(str):\n    def __getitem__(self, key): raise KeyError\nclass Error(Exception):\n"
            "    def __str__(self): return Text('\\ud800\\0')\ndef f(): raise Error",
            "exception Error",
            "assert f() == 1",
        ),
        (
            "a name that is no text",
            "def f():\n    say(['raise', [['builtins', '\\ud800\\0']], '\\ud800\\0', 1])",
            "exception",
            "assert f() == 1",
        ),
        (
            "a line that is no number of one",
            "def f():\n    say(['raise', [['builtins', 'ValueError']], 'm', {'i': 'f' * 9999}])",
            "exception ValueError",
            "assert f() == 1",
        ),
        ("the end of an iteration, mapped", _STOPPED, "exception", "assert list(map(f, [1, 2])) == []"),
        ("the end of an iteration, of all", _STOPPED, "exception", "assert all(map(f, [1, 2, 3]))"),
        (
            "the end of an iteration, of pairs",
            _STOPPED,
            "exception",
            "for got, want in zip(map(f, [1, 2]), ['TOKEN', 2]):\n    assert got == want",
        ),
        (
            "the end of an iteration, forged",
            "def f(*_): say(['raise', [['builtins', 'StopIteration']], '', 1])",
            "exception",
            "assert all(map(f, [1, 2, 3]))",
        ),
    ]
]

_NAMES = """
def anything(*arguments, **options): return 0
abs = len = sum = max = min = round = sorted = set = list = tuple = str = int = float = repr = anything
all = any = isinstance = issubclass = hasattr = lambda *_: True
zip = enumerate = range = map = filter = lambda *_: []
AssertionError = Exception = KeyboardInterrupt
__import__ = __build_class__ = print = type = anything
class math:
    isclose = all
    inf = nan = pi = 0
    fabs = floor = ceil = sqrt = anything
numpy = np = check = candidate = EXPECTED = SETTLED = METADATA = math
__builtins__ = __name__ = __file__ = __doc__ = __debug_ = math
def f(*_): return 1
"""
NAMES = [
    Hostile(f"names of its own: {name}", _NAMES, "wrong", tests=test, setup=setup)
    for name, setup, test in [
        ("abs", "", "assert abs(f(2) - 4) < 1e-6"),
        ("len", "", "assert len([f(), f()]) == 0"),
        ("all and zip", "", "assert all(a == b for a, b in zip([f(), f()], [2, 3]))"),
        ("isinstance", "", "assert isinstance(f(), str)"),
        ("sorted", "", "assert sorted([f(), 3]) == [3, 1]"),
        ("round", "", "assert round(f(), 2) == 0"),
        ("math", "import math", "assert math.isclose(f(), 4)"),
        ("from math", "from math import isclose, fabs", "assert fabs(f() - 4) < 1e-6 and isclose(f(), 4)"),
        ("the expected value", "EXPECTED = 'TOKEN'", "assert f() == EXPECTED"),
        (
            "check",
            "def check(candidate):\n    for n in range(3):\n        assert candidate(n) == 'TOKEN'",
            "check(f)",
        ),
        ("a loop", "", "for n in range(2):\n    assert f(n) == 'TOKEN'"),
        ("AssertionError", "", "try:\n    assert f() == 'TOKEN'\nexcept AssertionError:\n    raise"),
        ("a class of the tests", "class Case:\n    def run(self): assert f() == 'TOKEN'", "Case().run()"),
    ]
] + [
    # HumanEval/32: its tests call the prompt's own ``poly``.
    Hostile(
        "a helper of the task's, redefined",
        "import math\ndef poly(xs, x): return 0\ndef f(xs): return 7.0",
        "wrong",
        tests="assert abs(poly([1, 2], f([1, 2]))) < 1e-4",
        support="import math\ndef poly(xs, x):\n    return sum(c * math.pow(x, i) for i, c in enumerate(xs))",
        support_names=("math", "poly"),
    ),
    Hostile(
        "what the helper uses, redefined",
        "class math:\n    pow = lambda *_: 0\ndef sum(*_): return 0\nenumerate = sum\ndef f(xs): return 7.0",
        "wrong",
        tests="assert abs(poly([1, 2], f([1, 2]))) < 1e-4",
        support="import math\ndef poly(xs, x):\n    return sum(c * math.pow(x, i) for i, c in enumerate(xs))",
        support_names=("math", "poly"),
    ),
    Hostile(
        "a module of the task's, redefined",
        "class math:\n    isclose = lambda *_: True\ndef f(x): return 7.0",
        "wrong",
        tests="assert math.isclose(f(2), 4)",
        support="import math",
        support_names=("math",),
    ),
]

PROGRAMS = OBJECTS + SUBCLASSES + OTHERS + EXCEPTIONS + NAMES
