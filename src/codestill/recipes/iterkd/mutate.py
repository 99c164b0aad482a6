"""Mutants of correct programs: one change of a comparison, an operation, a constant or a statement.

Whether a mutant is faulty is left to execution: some are equivalent to the original.
"""

import ast
import random
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from codestill.files.serialize import seed_for
from codestill.languages import UNPARSABLE

_REPLACEMENTS = {
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
    """At most ``count`` mutated completions that parse, sampled by the seed and the program alone.

    Everything but the change keeps its formatting. A program that does not parse has no mutants.
    """
    try:
        tree = ast.parse(prompt + completion)
    except UNPARSABLE:
        return []
    lines = (prompt + completion).splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line.encode()))
    source = (prompt + completion).encode()
    first = len(prompt.encode())

    def at(line: Any, column: Any) -> int:
        return starts[line - 1] + column

    completions: dict[str, None] = {}
    for start, end, new in _changes(tree, source, at):
        if start >= first:
            text = (source[:start] + new.encode() + source[end:]).decode()[len(prompt) :]
            try:
                ast.parse(prompt + text)
            except UNPARSABLE:
                continue
            if text != completion:
                completions[text] = None
    sampler = random.Random(seed_for(seed, prompt + completion))
    return sampler.sample(list(completions), min(count, len(completions)))


def _changes(
    tree: ast.Module, source: bytes, at: Callable[[Any, Any], int]
) -> Iterator[tuple[int, int, str]]:
    """Start and end in bytes of the code to replace, and its replacement."""
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
                for statement in body[:-1]:
                    if isinstance(statement, ast.Assign | ast.AugAssign | ast.Expr | ast.If):
                        yield (
                            at(statement.lineno, statement.col_offset),
                            at(statement.end_lineno or statement.lineno, statement.end_col_offset or 0),
                            "pass",
                        )


def _between(
    parts: list[ast.expr], source: bytes, at: Callable[[Any, Any], int]
) -> Iterator[tuple[int, int, str]]:
    """The operators between adjacent expressions, each with its replacement."""
    for left, right in pairwise(parts):
        start = at(left.end_lineno, left.end_col_offset)
        gap = source[start : at(right.lineno, right.col_offset)].decode()
        operator = _OPERATOR.search(gap)
        if operator is not None:
            symbol = " ".join(operator[0].split())
            yield (
                start + len(gap[: operator.start()].encode()),
                start + len(gap[: operator.end()].encode()),
                _REPLACEMENTS[symbol],
            )
