"""Calls and values that stand in a teacher's answer."""

import ast

from codestill.languages import UNPARSABLE

UNKNOWN = "..."
"""What a call is compared with while its value is not known: Ellipsis, which no solution returns."""


def is_literal(text: str) -> bool:
    """Whether it is the whole repr of plain data: a value that was cut, or an object, is not."""
    try:
        return repr(ast.literal_eval(text)) == text
    except (*UNPARSABLE, TypeError):
        return False


def read_calls(function: str, answer: str) -> list[str]:
    """The calls of ``function`` with literal arguments that stand in an answer, a line each, none twice."""
    found: dict[str, None] = {}
    for line in answer.splitlines():
        try:
            call = ast.parse(line.strip().removeprefix("- ").strip("`"), mode="eval").body
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == function:
                for argument in [*call.args, *(keyword.value for keyword in call.keywords)]:
                    ast.literal_eval(argument)
                found[ast.unparse(call)] = None
        except (*UNPARSABLE, TypeError):
            continue
    return list(found)
