"""Parse answers: a whole program as a completion, and the prompt of a proposed task."""

import ast
import re

from codestill.languages import UNPARSABLE
from codestill.types import Task

PROPOSAL = re.compile(
    r"""
      (?: ^(?:import|from)\ [^\n]*\n+ )*
      ^def\ \w+\(.*?\)[^\n]*:\n
      \s+ (\"{3}|'{3}) .*? \1 [^\n]*\n?
    """,
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)
"""A function's header with its docstring, and the imports before it."""


def as_completion(program: str, task: Task) -> str:
    """A whole program as a completion of the task's prompt: the body of its function, then everything else.

    A program that does not parse, or lacks the function, is returned as it is: its execution fails.
    """
    try:
        return _as_completion(program, task)
    except UNPARSABLE:
        return program


def _as_completion(program: str, task: Task) -> str:
    tree = ast.parse(program)
    lines = program.split("\n")
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == task.entry_point]
    if not functions:
        return program
    function = functions[-1]
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body or function.body[0].lineno == function.lineno:  # only a docstring, or all on one line
        indented = [f"    {ast.unparse(statement)}" for statement in body] or ["    pass"]
    else:
        # From the end of the statement before: comments in between stay.
        before = function.body[0].end_lineno if len(body) < len(function.body) else body[0].lineno - 1
        indented = lines[before or 0 : function.end_lineno]
    others = [
        "\n".join(lines[min([n.lineno, *_decorators(n)]) - 1 : n.end_lineno])
        for n in tree.body
        if n is not function
    ]
    return "\n".join(indented) + "\n" + "".join(f"\n\n{other}\n" for other in others)


def _decorators(node: ast.stmt) -> list[int]:
    return [decorator.lineno for decorator in getattr(node, "decorator_list", [])]
