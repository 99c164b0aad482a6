"""Functions taken out of programs, renamed, and put together again."""

import pytest

from codestill.embeddings import code_words, split_name
from codestill.recipes.amr_evol.library import Function, read_functions, renamed
from codestill.recipes.amr_evol.library.functions import adapted, read_headers, self_contained, undefined

PROGRAM = '''\
import math
from os import path

LIMIT = 3


def half(n: int) -> int:
    """Return half of n."""
    return n // 2


def rooted(n: int) -> float:
    """Return the root of half of n.

    At least LIMIT.
    """
    return max(math.sqrt(half(n)), LIMIT)


def alone():
    return 1
'''


def test_a_function_keeps_what_it_needs_and_nothing_else() -> None:
    half, rooted, alone = read_functions(PROGRAM, "here")
    assert half.code == 'def half(n: int) -> int:\n    """Return half of n."""\n    return n // 2\n'
    assert rooted.code.startswith("import math\nLIMIT = 3\n\n\ndef half(n: int)")
    assert "os" not in rooted.code and "alone" not in rooted.code
    space: dict = {}
    exec(rooted.code, space)
    assert space["rooted"](50) == 5.0
    assert (rooted.signature, rooted.description) == (
        "(n: int) -> float",
        "Return the root of half of n.\n\nAt least LIMIT.",
    )
    assert (alone.signature, alone.description, alone.origin) == ("()", "", "here")


def test_a_header_is_read_back() -> None:
    rooted = read_functions(PROGRAM)[1]
    again = read_headers(rooted.header)[0]
    assert (again.name, again.signature) == (rooted.name, rooted.signature)
    assert again.description == rooted.description


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("def f(x: int) -> int:\n    'a'\nprint(1)\n", "not a function"),
        ("def f(x: int) -> int:\n    return 1\n", "no docstring"),
        ("def f(x) -> int:\n    'a'\n", "lacks type annotations"),
        ("def f(x: int):\n    'a'\n", "lacks type annotations"),
        ("def f(x: int) -> int:\n    'a'\ndef f(x: int) -> int:\n    'b'\n", "twice"),
        ("def f(x: int) -> int:\n", "not valid Python"),
        ("def f(x: int) -> int:\n    'a\x00'\n", "not valid Python"),
    ],
)
def test_headers_are_read_strictly(program: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_headers(program)


def test_renaming_leaves_attributes_strings_and_comments() -> None:
    code = "def sum_of(x):  # sum_of\n    y.sum_of = 'sum_of'\n    return sum_of(x) + sum_of2(x)\n"
    wanted = "def a(x):  # sum_of\n    y.sum_of = 'sum_of'\n    return a(x) + sum_of2(x)\n"
    assert renamed(code, "sum_of", "a") == wanted
    assert renamed(wanted, "a", "sum_of") == code
    with pytest.raises(SyntaxError):
        renamed("def f(:\n", "f", "g")
    with pytest.raises(SyntaxError):
        renamed("def f():\n    return (1\n", "f", "g")


def test_a_function_takes_the_names_of_its_module() -> None:
    code = 'def f(nums: list[int], k: int):\n    """Join k of nums."""\n    return "nums".join(nums[:k])\n'
    function = read_functions(code)[0]
    module = Function(name="g_of", signature="(xs: list[int], n: int) -> str", description="Join them.")
    wanted = 'def g_of(xs: list[int], n: int):\n    """Join n of xs."""\n    return "nums".join(xs[:n])\n'
    assert adapted(function, module) == wanted
    # Not where they are not as many, are used already, or would change places.
    for signature in ("(xs: list[int]) -> str", "(join: list[int], n: int)", "(k: int, nums: int)"):
        other = module.model_copy(update={"signature": signature})
        assert adapted(function, other) == renamed(code, "f", "g_of")


def test_what_nothing_defines_is_found() -> None:
    assert undefined(PROGRAM) == set()
    assert undefined("def f(x):\n    return g(x) + y\n") == {"g", "y"}
    local = "def f(x, *a, **b):\n    import os\n    try:\n        c = [d for d in a]\n"
    local += "    except ValueError as e:\n        return e\n    return lambda z: (os, c, b, z, len)\n"
    assert undefined(local) == set()


def test_what_is_called_and_lacking_is_put_in() -> None:
    known = {"one": "    return two()", "two": "    return 2", "no": "    return 0"}
    codes = [(name, f"def {name}():\n{body}\n") for name, body in known.items()]
    program = self_contained("def f():\n    return one()\n", codes)
    space: dict = {}
    exec(program, space)
    assert space["f"]() == 2
    assert "no()" not in program
    own = "def f():\n    return one()\n\n\ndef one():\n    return 1\n"
    assert self_contained(own, codes) == own


def test_words_of_identifiers_and_code() -> None:
    assert split_name("readJSONFile_2") == ["read", "json", "file", "2"]
    found = code_words("def sumOf(xs): return xs[1:] >= 10")
    assert found == ["def", "sum", "of", "xs", "return", "xs", "1", ">=", "10"]


def test_without_names_of_parameters_two_wordings_are_one() -> None:
    a = Function(name="f", signature="(xs: list[int]) -> int", description="Sum up xs.")
    b = Function(name="g", signature="(numbers: list[int]) -> int", description="Sum up numbers.")
    assert a.text(("types", "description")) == b.text(("types", "description"))
    assert a.text(("signature", "description")) != b.text(("signature", "description"))
    assert a.key != b.key
