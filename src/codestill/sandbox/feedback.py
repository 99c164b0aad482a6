"""Execution feedback: the description of a failed program that a refining model gets."""

import re
import signal
from typing import Literal

from codestill.types import ExecutionResult, TestResult

Form = Literal["persd", "full"]
"""``persd``: the first failure in the format of PERsD's released data; ``full``: with its context."""

_MEANING: dict[str, str] = {
    "wrong": "an assertion of the tests failed",
    "exception": "an exception was raised",
    "cpu_timeout": "stopped, it computed for longer than allowed",
    "wall_timeout": "stopped, it waited for longer than allowed",
    "memory": "it asked for more memory than allowed",
    "killed": "the process was killed",
    "output_limit": "stopped, it printed more than allowed",
    "undecidable": "none, its answer cannot be compared with the one expected",
    "infra_error": "none, the sandbox failed; the program may be right",
}
_CLASSES: dict[str, str] = {"wrong": "AssertionError", "exception": "Exception", "memory": "MemoryError"}
_LIMITS = ("cpu_timeout", "wall_timeout", "output_limit")
_SPACE = r"\s+"
_WORD_CHARACTERS = 20
_ENDED = (*_LIMITS, "killed")  # where PERsD's process ended without an exception: it has an exit code only


def feedback(result: ExecutionResult, max_words: int = 50, form: Form = "persd") -> str:
    """Feedback on a failed program for a model that repairs it; empty for a program that passed.

    ``persd`` is the first failure as in PERsD's released data (arXiv:2310.18628): for a failed assertion the
    class, the arguments, the value and the expected value; for any other exception the class and message;
    for a process that was stopped ``Exit code: None``, here with the limit that it exceeded. ``full`` adds
    the verdict in plain text, how many tests passed, the call by name, the line of the program (prompt and
    completion) that raised, and what the program printed. Every value, message and output is cut to
    ``max_words`` words (at least 1), marked by ``...``. The text depends only on the arguments, and every
    result has one.
    """
    if result.passed:
        return ""
    number = next((n for n, test in enumerate(result.tests, 1) if test.verdict != "pass"), 0)
    failed = result.tests[number - 1] if number else None
    if form == "full":
        return _full(result, failed, number, max_words)
    return _persd(result, failed, max_words)


def error_class(result: ExecutionResult) -> str:
    """Class of the first failure, e.g. ``AssertionError`` or ``cpu_timeout``; ``pass`` for a program that
    passed."""
    if result.verdict not in ("wrong", "exception"):
        return result.verdict
    return re.split(r"[:\n]", feedback(result), maxsplit=1)[0].strip() or result.verdict


def _persd(result: ExecutionResult, failed: TestResult | None, max_words: int) -> str:
    verdict: str = failed.verdict if failed else result.verdict
    if failed and verdict == "wrong" and (failed.call or failed.actual or failed.expected):
        values = {"INPUT": _arguments(failed.call), "OUTPUT": failed.actual, "EXPECTED": failed.expected}
        lines = [f"{key}: {_cut(value, max_words)}" for key, value in values.items()]
        return "\n".join([failed.error_type or _CLASSES[verdict], *lines])
    error = _error(result, failed, max_words).removeprefix("test set-up: ")
    if verdict in _ENDED:
        return _joined(f"Exit code: {_exit_code(error)}", error, " : ")
    if verdict in ("memory", "undecidable", "infra_error"):
        name = _CLASSES.get(verdict, verdict)
        return error if error.startswith(name) else _joined(name, error)
    return error or _CLASSES.get(verdict, verdict)


def _full(result: ExecutionResult, failed: TestResult | None, number: int, max_words: int) -> str:
    verdict: str = failed.verdict if failed else result.verdict
    count, passed = len(result.tests), sum(test.verdict == "pass" for test in result.tests)
    if failed:
        known = f"the {count} that have a result" if result.error else f"{count}"  # else these are all
        tests = f"number {number} of {known} is the first not to pass; {passed} pass"
    else:
        tests = f"{passed} pass, no other has a result" if count else "none has a result"
    error = _error(result, failed, max_words, _SPACE)
    afterwards = _cut(result.error, max_words, _SPACE) if failed else ""
    lines = {
        "VERDICT": _MEANING.get(verdict, verdict),
        "TESTS": tests,
        "CALL": _cut(failed.call, max_words, _SPACE) if failed else "",
        "VALUE": _cut(failed.actual, max_words, _SPACE) if failed else "",
        "EXPECTED": _cut(failed.expected, max_words, _SPACE) if failed else "",
        "LIMIT" if verdict in _LIMITS else "ERROR": error,
        "LINE": str(failed.line or "") if failed else "",
        "AFTERWARDS": afterwards if afterwards != error else "",
        "PRINTED": _cut(result.output.strip(), max_words, _SPACE),
    }
    return "\n".join(f"{key}: {value}" for key, value in lines.items() if value)


def _error(result: ExecutionResult, failed: TestResult | None, max_words: int, gap: str = " ") -> str:
    """``Class: message``, or what is known instead; empty where nothing is."""
    if failed is None:
        return _cut(result.error, max_words, gap)
    error = _joined(failed.error_type, _cut(failed.message, max_words, gap))
    if error or failed.verdict in ("wrong", "exception"):
        return error
    return _cut(result.error, max_words, gap)  # this test is where the process ended


def _arguments(call: str) -> str:
    """``(3, 4)`` of ``f(3, 4)``; anything that is not a call unchanged."""
    match = re.fullmatch(r"[\w.]+(\(.*(?:\)|\.\.\.))", call, re.DOTALL)
    return match[1] if match else call


def _exit_code(error: str) -> int | None:
    """Of a process ended by a signal; PERsD's data has none for a process that was stopped."""
    name = re.search(r"\bSIG[A-Z0-9]+\b", error)
    number = signal.Signals.__members__.get(name[0]) if name else None
    return -number if number else None


def _joined(name: str, text: str, separator: str = ": ") -> str:
    return f"{name}{separator}{text}" if name and text else name or text


def _cut(text: str, max_words: int, gap: str = " ") -> str:
    """At most ``max_words`` words, with ``gap`` between them.

    PERsD counts what single spaces separate, however long. With any other gap, the text may also have at most
    ``_WORD_CHARACTERS`` per word, so that neither a column nor a block of characters is kept whole.
    """
    pieces = re.split(f"({gap})", text)  # words at even places, gaps at odd ones
    kept = text if len(pieces) < 2 * max_words else "".join(pieces[: 2 * max_words - 1])
    if gap != " ":
        kept = kept[: max_words * _WORD_CHARACTERS]
    return kept if kept == text else kept + " ..."
