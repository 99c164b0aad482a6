"""Mutations: one change, in the completion alone, with everything else as it was written."""

import ast

import pytest

from codestill.recipes.iterkd.mutate import mutants

PROMPT = 'def f(xs, é=1):\n    """At least 3 < 4."""\n'
BODY = """\
    # größer
    total = 0
    for x in xs:
        if x  >= 2 and x not   in (7,):  # keep
            total += x * 2
    return total
"""


def test_every_mutant_parses_and_differs_in_one_line() -> None:
    found = mutants(PROMPT, BODY, seed=0, count=1000)
    assert len(found) == len(set(found)) > 10
    for one in found:
        ast.parse(PROMPT + one)
        old, new = BODY.splitlines(), one.splitlines()
        assert sum(a != b for a, b in zip(old, new, strict=True)) == 1
        assert "# größer" in one
    text = "\n".join(found)
    for change in (
        "x  > 2 and",
        "x  >= 3 and",
        "x  >= 2 or",
        "x in (7,)",
        "(8,)",
        "x + 2",
        "total = 1",
        "    pass\n    for x",
    ):
        assert change in text, change


@pytest.mark.parametrize("body", ["    return xs\n", "    return (\n", ""])
def test_some_programs_have_none(body: str) -> None:
    assert mutants("def f(xs):\n    pass\n" if not body else "def f(xs):\n", body, 0, 5) == []


def test_the_seed_and_the_program_decide() -> None:
    first = mutants(PROMPT, BODY, seed=0, count=3)
    assert first == mutants(PROMPT, BODY, seed=0, count=3) and len(first) == 3
    assert first != mutants(PROMPT, BODY, seed=1, count=3)
