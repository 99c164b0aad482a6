"""Faulty programs from right ones: one change of a comparison, an operation, a constant or a line.

What a change makes of the program is for execution to say: some leave it right.
"""

import ast
import random
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from codestill.serialize import seed_for

_OTHERS = {
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "==": "!=",
    "!=": "==",
    "in": "not in",
    "not in": "in",
    "+": "-",
    "-": "+",
    "*": "+",
    "/": "//",
    "//": "*",
    "%": "//",
    "**": "*",
    "and": "or",
    "or": "and",
}
_OPERATOR = re.compile(r"not\s+in|and|or|in|\*\*|//|[<>=!]=|[<>+\-*/%]")


def mutants(prompt: str, completion: str, seed: int, count: int) -> list[str]:
    """At most ``count`` changed completions that parse, drawn at random by the seed and the program alone.

    Everything but the change stays as it was written. A program that does not parse has none.
    """
    try:
        tree = ast.parse(prompt + completion)
    except SyntaxError:
        return []
    lines = (prompt + completion).splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line.encode()))
    source = (prompt + completion).encode()
    first = len(prompt.encode())

    def at(line: Any, column: Any) -> int:
        return starts[line - 1] + column

    found: dict[str, None] = {}
    for start, end, new in _changes(tree, source, at):
        if start >= first:
            text = (source[:start] + new.encode() + source[end:]).decode()[len(prompt) :]
            try:
                ast.parse(prompt + text)
            except SyntaxError:
                continue
            if text != completion:
                found[text] = None
    return random.Random(seed_for(seed, prompt + completion)).sample(list(found), min(count, len(found)))


def _changes(
    tree: ast.Module, source: bytes, at: Callable[[Any, Any], int]
) -> Iterator[tuple[int, int, str]]:
    """Start and end in bytes, and what comes there instead."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            yield from _between([node.left, *node.comparators], source, at)
        elif isinstance(node, ast.BinOp):
            yield from _between([node.left, node.right], source, at)
        elif isinstance(node, ast.BoolOp):
            yield from _between(node.values, source, at)
        elif isinstance(node, ast.Constant) and isinstance(node.value, int):
            place = at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset)
            for value in (
                [not node.value] if isinstance(node.value, bool) else [node.value + 1, node.value - 1]
            ):
                yield *place, repr(value)
        for body in (getattr(node, "body", None), getattr(node, "orelse", None)):
            if isinstance(body, list) and len(body) > 1 and not isinstance(node, ast.Module):
                for one in body[:-1]:
                    if isinstance(one, ast.Assign | ast.AugAssign | ast.Expr | ast.If):
                        yield (
                            at(one.lineno, one.col_offset),
                            at(one.end_lineno or one.lineno, one.end_col_offset or 0),
                            "pass",
                        )


def _between(
    parts: list[ast.expr], source: bytes, at: Callable[[Any, Any], int]
) -> Iterator[tuple[int, int, str]]:
    """The operator between two expressions, exchanged."""
    for left, right in pairwise(parts):
        start = at(left.end_lineno, left.end_col_offset)
        gap = source[start : at(right.lineno, right.col_offset)].decode()
        operator = _OPERATOR.search(gap)
        if operator is not None:
            written = " ".join(operator[0].split())
            yield (
                start + len(gap[: operator.start()].encode()),
                start + len(gap[: operator.end()].encode()),
                _OTHERS[written],
            )
