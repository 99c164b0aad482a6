"""The text is PERsD's on PERsD's rows, says more in its full form, and exists for every result."""

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codestill.sandbox import Program, Sandbox, SandboxConfig, feedback
from codestill.sandbox.feedback import Form
from codestill.types import ExecutionResult, Test, TestResult, Verdict

released = [
    pytest.mark.data,
    pytest.mark.skipif("CODESTILL_DATA" not in os.environ, reason="CODESTILL_DATA is not set"),
]
FORMS: tuple[Form, ...] = ("persd", "full")
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

# Every class in the released rows: how many rows have it, and a program of that class. numpy has
# moved its class since.
CLASSES = {
    "AssertionError": (2509, "def f(): return 1", "assert f() == 2"),
    "SyntaxError": (232, "def f(: pass", "f()"),
    "NameError": (122, "def f(): return helper()", "f()"),
    "TypeError": (101, "def f(): return 'a' - 'b'", "f()"),
    "IndentationError": (85, "def f():\nreturn 1", "f()"),
    "RecursionError": (49, "def f(): return f()", "f()"),
    "IndexError": (44, "def f(): return [][0]", "f()"),
    "AttributeError": (33, "def f(): return [].split()", "f()"),
    "ValueError": (30, "def f(): return int('h')", "f()"),
    "KeyError": (14, "def f(): return {}['cost']", "f()"),
    "Exit code": (11, "def f():\n    while True: pass", "f()"),
    "ModuleNotFoundError": (3, "import no_such_module", "1"),
    "RuntimeError": (3, "def f():\n    d = {1: 1}\n    for key in d: d[-key] = 1", "f()"),
    "ZeroDivisionError": (2, "def f(): return 1 / 0", "f()"),
    "UnboundLocalError": (2, "def f():\n    value += 1", "f()"),
    "statistics.StatisticsError": (1, "import statistics\ndef f(): return statistics.mode([])", "f()"),
    "Exception": (1, "def f(): raise Exception('Timeout')", "f()"),
    "ImportError": (1, "from math import no_such_name", "1"),
    "numpy.AxisError": (1, "import numpy\ndef f(): return numpy.sum(numpy.ones(3), axis=1)", "f()"),
}


def class_name(text: str) -> str:
    return text.split("\n")[0].split(":")[0].strip()


@pytest.mark.parametrize("name", CLASSES)
def test_a_program_of_each_class_gets_its_name(sandbox, program, name):
    if name.startswith("numpy."):
        pytest.importorskip("numpy")
    _, solution, test = CLASSES[name]
    result = sandbox.execute(program(solution, test, cpu_seconds=10 if "numpy" in name else None))
    assert not result.passed
    name = name.replace("numpy.AxisError", "numpy.exceptions.AxisError")
    assert class_name(feedback(result)) == name
    assert name in feedback(result, form="full") or "LIMIT: " in feedback(result, form="full")


def test_the_line_is_told_where_the_program_raised(sandbox, program):
    result = sandbox.execute(program("def f(x):\n    y = []\n    return y[x]", "f(1)"))
    assert feedback(result, form="full").endswith("ERROR: IndexError: list index out of range\nLINE: 3")


def test_the_first_of_several_failures_is_told(sandbox, program):
    result = sandbox.execute(
        program("def f(x): return 1 / x", "assert f(1) == 1", "assert f(2) == 4", "assert f(0) == 5")
    )
    assert feedback(result) == "AssertionError\nINPUT: (2)\nOUTPUT: 0.5\nEXPECTED: 4"
    assert "number 2 of 3 is the first not to pass; 1 pass" in feedback(result, form="full")


def test_an_error_of_the_set_up_has_its_class_too(sandbox, program):
    result = sandbox.execute(program("def f(): return 1", "f()", setup="tree = Tree()"))
    assert feedback(result).startswith("NameError: name 'Tree' is not defined")
    assert "ERROR: test set-up: NameError: name 'Tree'" in feedback(result, form="full")


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, str]]:
    """``(attempt, error text)`` of each released row."""
    name = "finetuning_data_gold_rectification_nochatgpt.jsonl"
    lines = (Path(os.environ["CODESTILL_DATA"]) / "persd_release" / name).read_text().splitlines()
    found = []
    for prompt in (json.loads(line)["finetuning_prompt"] for line in lines):
        before, after = prompt.split("\nERROR: \n")
        _, task, attempt = before.split("TASK: \n", 1)[1].split('"""', 2)
        found.append((attempt, after.split(f'\n\n"""{task}"""', 1)[0]))
    return found


class TestReleasedRows:
    pytestmark = released

    def test_no_class_is_missing(self, rows):
        counts = Counter(class_name(error) for _, error in rows)
        assert counts == {name: count for name, (count, _, _) in CLASSES.items()}

    def test_the_layout_is_theirs(self, rows):
        """What each row says, put into a result, comes out as the row has it, less its trailing colon."""
        for _, error in rows:
            parts = re.split(r"\n(?:INPUT|OUTPUT|EXPECTED): ", error)
            if len(parts) == 4:
                name, arguments, actual, expected = parts
                whole = arguments.endswith(")")  # not cut in the row itself
                call = "f" + arguments if whole else arguments
                test = TestResult(
                    verdict="wrong", error_type=name, call=call, actual=actual, expected=expected
                )
            elif error.startswith("Exit code: "):
                test = TestResult(verdict="cpu_timeout")
            else:
                name, _, message = error.removesuffix(" : ").partition(": ")
                test = TestResult(verdict="exception", error_type=name, message=message)
            result = ExecutionResult(verdict=test.verdict, tests=(test,))
            assert feedback(result) == error.removesuffix(" : ")

    def test_attempts_that_do_not_parse_get_the_same_class_again(self, rows):
        unparsable = ("SyntaxError", "IndentationError")
        broken = [(code, name) for code, error in rows if (name := class_name(error)) in unparsable]
        programs = [Program(solution=code, entry_point="f", tests=(Test(code="1"),)) for code, _ in broken]
        with Sandbox(SandboxConfig(), workers=2) as sandbox:
            told = [class_name(feedback(result)) for result in sandbox.run(programs)]
        assert len(told) == 317
        assert told == [name for _, name in broken]


def result_of(verdict: str, *tests: dict[str, Any], **fields: Any) -> ExecutionResult:
    results = tuple(TestResult.model_construct(None, **{"verdict": "pass", **test}) for test in tests)
    return ExecutionResult.model_construct(verdict=verdict, tests=results, **fields)


WRONG = {
    "verdict": "wrong",
    "error_type": "AssertionError",
    "message": "sum",
    "call": "f(2, 3)",
    "actual": "5",
    "expected": "6",
}


@pytest.mark.parametrize(
    ("result", "persd", "full"),
    [
        (result_of("pass", {}), "", ""),
        (
            result_of("wrong", {}, WRONG, {}, output="adding 2\nand 3\n"),
            "AssertionError\nINPUT: (2, 3)\nOUTPUT: 5\nEXPECTED: 6",
            "VERDICT: an assertion of the tests failed\n"
            "TESTS: number 2 of 3 is the first not to pass; 2 pass\n"
            "CALL: f(2, 3)\nVALUE: 5\nEXPECTED: 6\nERROR: AssertionError: sum\nPRINTED: adding 2\nand 3",
        ),
        (
            result_of("wrong", {"verdict": "wrong"}),
            "AssertionError",
            "VERDICT: an assertion of the tests failed\n"
            "TESTS: number 1 of 1 is the first not to pass; 0 pass",
        ),
        (
            result_of("exception", error="SyntaxError: invalid syntax (line 1)"),
            "SyntaxError: invalid syntax (line 1)",
            "VERDICT: an exception was raised\nTESTS: none has a result\n"
            "ERROR: SyntaxError: invalid syntax (line 1)",
        ),
        (
            result_of(
                "exception",
                {},
                {
                    "verdict": "exception",
                    "error_type": "KeyError",
                    "message": "'a'",
                    "call": "f({})",
                    "line": 3,
                },
                error="more than 1 s of CPU time",
            ),
            "KeyError: 'a'",
            "VERDICT: an exception was raised\n"
            "TESTS: number 2 of the 2 that have a result is the first not to pass; 1 pass\n"
            "CALL: f({})\nERROR: KeyError: 'a'\nLINE: 3\nAFTERWARDS: more than 1 s of CPU time",
        ),
        (
            result_of("cpu_timeout", {}, {}, error="more than 1 s of CPU time"),
            "Exit code: None : more than 1 s of CPU time",
            "VERDICT: stopped, it computed for longer than allowed\n"
            "TESTS: 2 pass, no other has a result\nLIMIT: more than 1 s of CPU time",
        ),
        (
            result_of(
                "wall_timeout", {"verdict": "wall_timeout", "call": "f()"}, error="more than 6 s of wall time"
            ),
            "Exit code: None : more than 6 s of wall time",
            "VERDICT: stopped, it waited for longer than allowed\n"
            "TESTS: number 1 of the 1 that have a result is the first not to pass; 0 pass\n"
            "CALL: f()\nLIMIT: more than 6 s of wall time",
        ),
        (
            result_of("memory", {"verdict": "memory", "error_type": "MemoryError"}),
            "MemoryError",
            "VERDICT: it asked for more memory than allowed\n"
            "TESTS: number 1 of 1 is the first not to pass; 0 pass\nERROR: MemoryError",
        ),
        (
            result_of("memory", error="more than 1024 MiB"),
            "MemoryError: more than 1024 MiB",
            "VERDICT: it asked for more memory than allowed\nTESTS: none has a result\n"
            "ERROR: more than 1024 MiB",
        ),
        (
            result_of("killed", error="killed by SIGSEGV"),
            "Exit code: -11 : killed by SIGSEGV",
            "VERDICT: the process was killed\nTESTS: none has a result\nERROR: killed by SIGSEGV",
        ),
        (
            result_of("output_limit", error="more than 10 kB of output", output="la la la la la la"),
            "Exit code: None : more than 10 kB of output",
            "VERDICT: stopped, it printed more than allowed\nTESTS: none has a result\n"
            "LIMIT: more than 10 kB of output\nPRINTED: la la la la la la",
        ),
        (
            result_of("undecidable", {"verdict": "undecidable", "message": "it compares a Point"}),
            "undecidable: it compares a Point",
            "VERDICT: none, its answer cannot be compared with the one expected\n"
            "TESTS: number 1 of 1 is the first not to pass; 0 pass\nERROR: it compares a Point",
        ),
        (
            result_of("undecidable", {}, {"verdict": "undecidable"}, error="it compares a Point"),
            "undecidable: it compares a Point",
            "VERDICT: none, its answer cannot be compared with the one expected\n"
            "TESTS: number 2 of the 2 that have a result is the first not to pass; 1 pass\n"
            "ERROR: it compares a Point",
        ),
        (
            result_of("infra_error"),
            "infra_error",
            "VERDICT: none, the sandbox failed; the program may be right\nTESTS: none has a result",
        ),
    ],
)
def test_text_of_each_verdict(result, persd, full):
    assert feedback(result) == persd
    assert feedback(result, form="full") == full


@pytest.mark.parametrize(
    ("call", "shown"),
    [
        ("f(2, (3))", "(2, (3))"),
        ("module.f('\n')", "('\n')"),
        ("f([1, 2, 3, ...", "([1, 2, 3, ..."),  # the sandbox cut it
        ("len(x) > 3", "len(x) > 3"),
        ("x", "x"),
    ],
)
def test_arguments_of_a_call(call, shown):
    result = result_of("wrong", WRONG | {"call": call})
    assert feedback(result).split("\nOUTPUT")[0] == f"AssertionError\nINPUT: {shown}"
    assert f"CALL: {call}\n" in feedback(result, form="full")


def test_full_cuts_columns_and_blocks_and_the_rows_do_not():
    result = result_of("wrong", WRONG | {"actual": "a\nb\nc", "expected": "x" * 100})
    assert feedback(result, max_words=2).endswith("OUTPUT: a\nb\nc\nEXPECTED: " + "x" * 100)
    full = feedback(result, max_words=2, form="full")
    assert f"VALUE: a\nb ...\nEXPECTED: {'x' * 40} ...\n" in full


_TESTS = st.builds(
    TestResult.model_construct,
    verdict=st.sampled_from([*VERDICTS, "a verdict of tomorrow"]),
    error_type=st.sampled_from(["", "AssertionError", "ValueError"]) | st.text(),
    line=st.none() | st.integers(),
    message=st.text(),
    call=st.text() | st.sampled_from(["f(", "f()", "f(SIGSEGV)"]),
    actual=st.text(),
    expected=st.text(),
)
_RESULTS = st.builds(
    ExecutionResult.model_construct,
    verdict=st.sampled_from([*VERDICTS, "a verdict of tomorrow"]),
    tests=st.lists(_TESTS, max_size=4).map(tuple),
    error=st.text() | st.sampled_from(["killed by SIGSEGV", "killed by SIGNOT", "status 9"]),
    output=st.text(),
)


@given(_RESULTS, st.integers(1, 5), st.sampled_from(FORMS))
def test_every_result_has_a_text(result, max_words, form):
    text = feedback(result, max_words, form)
    assert bool(text) == (result.verdict != "pass")
    again = ExecutionResult.model_construct(**dict(result))
    assert feedback(again, max_words, form) == text


@given(
    st.sampled_from(VERDICTS[1:]),
    st.booleans(),
    st.lists(st.integers(0, 12), min_size=6, max_size=6),
    st.integers(1, 9),
    st.sampled_from(FORMS),
)
def test_each_part_keeps_to_the_words_it_may_have(verdict, in_a_test, lengths, max_words, form):
    marks = ["Ä", "Ö", "Ü", "Æ", "Ø", "Å"]  # in no word of the text's own
    message, call, actual, expected, error, output = (
        " ".join([mark] * length) for mark, length in zip(marks, lengths, strict=True)
    )
    test = {"verdict": verdict, "message": message, "call": call, "actual": actual, "expected": expected}
    result = result_of(verdict, *[test] * in_a_test, error=error, output=output)
    words = feedback(result, max_words, form).split()
    for mark, length in zip(marks, lengths, strict=True):
        assert words.count(mark) in (0, min(length, max_words))
    assert ("..." in words) <= (max(lengths) > max_words)
