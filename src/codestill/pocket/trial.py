"""Run a pocket program on its cases in this process: for programs from the grammar, and no others.

The result is the sandbox's for the same program and tests, at a thousandth of the cost.
"""

from typing import Any

from codestill.pocket.generate import Cases, Sketch
from codestill.types import ExecutionResult, TestResult, Verdict


def trial(sketch: Sketch, body: str, cases: Cases) -> ExecutionResult:
    """The result of executing a body as the completion of the sketch's prompt."""
    namespace: dict[str, Any] = {"__name__": "__solution__"}
    try:
        exec(compile(sketch.prompt + body, "<solution>", "exec"), namespace)
    except SyntaxError as error:
        name = type(error).__name__
        return ExecutionResult(verdict="exception", error=f"{name}: {error.msg} (line {error.lineno})")
    function = namespace[sketch.function]
    tests = tuple(
        _test(sketch.function, function, value, expected)
        for value, expected in zip(cases.inputs, cases.outputs, strict=True)
    )
    failed: list[Verdict] = [test.verdict for test in tests if test.verdict != "pass"]
    return ExecutionResult(verdict=failed[0] if failed else "pass", tests=tests)


def _test(name: str, function: Any, value: Any, expected: Any) -> TestResult:
    call = f"{name}({value!r})"
    try:
        actual = function(list(value) if isinstance(value, list) else value)
    except Exception as error:
        return TestResult(
            verdict="exception",
            error_type=type(error).__name__,
            message=str(error),
            line=_line(error),
            call=call,
        )
    if actual == expected:
        return TestResult(verdict="pass")
    return TestResult(
        verdict="wrong", error_type="AssertionError", call=call, actual=repr(actual), expected=repr(expected)
    )


def _line(error: Exception) -> int | None:
    line, entry = None, error.__traceback__
    while entry is not None:
        if entry.tb_frame.f_code.co_filename == "<solution>":
            line = entry.tb_lineno
        entry = entry.tb_next
    return line
