"""What programs and tests give each other under the split verdict: right, or without a verdict."""

from collections.abc import Iterator

import pytest
from tests.sandbox.crossing import CROSSES, LONG, UNDECIDABLE

from codestill.sandbox import Program, Sandbox, SandboxConfig
from codestill.types import ExecutionResult, Test


@pytest.fixture(scope="module")
def roomy() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(), workers=1) as box:
        yield box


def told(solution: str, *tests: str) -> Program:
    return Program(solution=solution, entry_point="f", tests=tuple(Test(code=test) for test in tests))


def ends(sandbox: Sandbox, rows: list[tuple[str, str]]) -> dict[tuple[str, str], ExecutionResult]:
    return dict(zip(rows, sandbox.run(told(*row) for row in rows), strict=True))


def test_what_crosses_is_what_it_was(roomy: Sandbox) -> None:
    found = ends(roomy, CROSSES)
    assert [(row, result) for row, result in found.items() if not result.passed] == []


def test_what_cannot_cross_makes_no_verdict_and_says_why(roomy: Sandbox) -> None:
    found = ends(roomy, UNDECIDABLE)
    assert [(row, result) for row, result in found.items() if result.verdict != "undecidable"] == []
    assert all(result.error for result in found.values())


@pytest.mark.slow
def test_long_values_cross_or_are_asked_for_in_parts(roomy: Sandbox) -> None:
    found = ends(roomy, LONG)
    assert {result.verdict for result in found.values()} <= {"pass", "undecidable"}, found


@pytest.mark.slow
def test_all_of_them_pass_in_one_process() -> None:
    """Else they would show nothing."""
    with Sandbox(SandboxConfig(verdict="in-process"), workers=1) as box:
        found = ends(box, CROSSES + UNDECIDABLE)
    assert [(row, result) for row, result in found.items() if not result.passed] == []


@pytest.mark.parametrize(
    ("solution", "test", "verdict"),
    [
        ("def f(x): x[0] = 0", "x = [1]\nf([x])\nassert x == [1]", "pass"),
        ("def f(x): x[0].append(0)", "x = [1]\nf([x])\nassert x == [1]", "wrong"),
        ("def f(x): pass", "x = [1]\nf([x])\nassert x == [9]", "wrong"),
        ("def f(x): return x[:]", "x = [1]\nassert f(x) is x", "undecidable"),
        (
            "def f(): print('no')",
            "import contextlib, io\nb = io.StringIO()\nwith contextlib.redirect_stdout(b):\n    f()\n"
            "assert b.getvalue() == 'yes\\n'",
            "wrong",
        ),
        ("def f(): return float('nan')", "assert f() == 1", "wrong"),
        ("def f(x): return x.upper()", "assert f(3) == 'A'", "exception"),
    ],
)
def test_a_wrong_program_is_wrong(roomy: Sandbox, solution: str, test: str, verdict: str) -> None:
    assert roomy.execute(told(solution, test)).verdict == verdict


def test_tests_after_one_that_cannot_be_decided_are_decided(roomy: Sandbox) -> None:
    solution = "def f(x): return x.name if hasattr(x, 'name') else x"
    doubtful = "from enum import IntEnum\nclass Own(IntEnum):\n    A = 1\nassert f(Own.A) == 'A'"
    result = roomy.execute(told(solution, "assert f(2) == 2", doubtful, "assert f(3) == 3"))
    assert [test.verdict for test in result.tests] == ["pass", "undecidable", "pass"]
    assert result.error == "the tests pass a Own, of which the program gets a part"
    assert result.tests[1].message == result.error


def test_output_with_escapes_is_kept_as_it_is_and_breaks_nothing(roomy: Sandbox) -> None:
    odd = "\\x1b[2J\\x1b]0;title\\x07\\u202e\\x00\\r\\x08"
    solution = f"print('{odd}')\ndef f(x):\n    raise ValueError('{odd}' * 5000)"
    result = roomy.execute(told(solution, "f(1)"))
    assert (result.verdict, result.tests[0].error_type) == ("exception", "ValueError")
    assert len(result.tests[0].message) <= 2000 and len(result.output) <= 4000
