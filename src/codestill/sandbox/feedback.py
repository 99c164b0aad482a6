"""Execution feedback: what a refining model is told about a failed program."""

from codestill.types import ExecutionResult


def feedback(result: ExecutionResult, max_words: int = 50) -> str:
    """The first failure in the form of PERsD (arXiv:2310.18628); empty for a program that passed.

    A failed assertion gives its error type and the call, its value and the value expected, each cut to
    ``max_words`` words. Anything else gives the error's type and message, or the limit that was exceeded.
    """
    failed = next((test for test in result.tests if test.verdict != "pass"), None)
    if failed is None:
        return _cut(result.error, max_words)
    if failed.verdict == "wrong" and failed.call:
        parts = {"INPUT": failed.call, "OUTPUT": failed.actual, "EXPECTED": failed.expected}
        return "\n".join(
            [failed.error_type, *(f"{key}: {_cut(value, max_words)}" for key, value in parts.items())]
        )
    message = _cut(failed.message, max_words)
    return f"{failed.error_type}: {message}" if message else failed.error_type


def _cut(text: str, max_words: int) -> str:
    words = text.split(" ")
    return text if len(words) <= max_words else " ".join(words[:max_words]) + " ..."
