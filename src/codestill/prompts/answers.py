"""Parse answers: a program as a completion of its task's prompt, and the prompt of a proposed task."""

import ast
import re
import textwrap

from codestill.assembly import is_program, provided
from codestill.languages import parse_python
from codestill.types import Task

_FENCE = re.compile(r"[ \t>]*(`{3,}|~{3,})")
PROPOSAL = re.compile(
    r"""
      (?: ^(?:import|from)\ [^\n]*\n+ )*
      ^def\ \w+\(.*?\)[^\n]*:\n
      \s+ (\"{3}|'{3}) .*? \1 [^\n]*\n?
    """,
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)
"""A function's header with its docstring, and the imports before it."""
STATED = re.compile(
    r"^(\"{3}|'{3})(?:(?!\1).)*?^[ \t]*assert\b(?:(?!\1).)*\1[ \t]*$", re.DOTALL | re.MULTILINE
)
"""A task as MBPP states it: a text and an assertion, between quotes."""


def fenced_blocks(answer: str) -> list[str]:
    """What stands between fences, without the indentation of a list; the last may have no closing fence."""
    blocks: list[str] = []
    lines: list[str] | None = None
    mark = ""
    for line in answer.splitlines(keepends=True):
        fence = _FENCE.match(line)
        if lines is None and fence:
            lines, mark = [], fence[1]
        elif lines is not None and fence and line.strip().strip(mark[0]) == "" and len(fence[1]) >= len(mark):
            blocks.append(textwrap.dedent("".join(lines)))
            lines = None
        elif lines is not None:
            lines.append(line)
    if lines:
        blocks.append(textwrap.dedent("".join(lines)))
    return blocks


def as_completion(program: str, task: Task) -> str:
    """A program as a completion of the task's prompt.

    Where the prompt ends in the function's header and the program repeats that header, with the same
    parameters and nothing before it that the prompt lacks, the completion is what follows: the same program
    in fewer tokens. Any other program is returned as it is, and stands behind what the prompt provides
    (:func:`codestill.assembly.assemble`). Nothing is rewritten in either.
    """
    if task.language != "python" or not is_program(program, task.entry_point):
        return program
    try:
        rest = _rest(program, task)
        return program if rest is None or not _same(program, rest, task) else rest
    except (ValueError, RecursionError, IndexError):  # the prompt does not parse, or a tree is too deep
        return program


def _rest(program: str, task: Task) -> str | None:
    """The source behind the function's header and docstring; None where they share a line with its body."""
    lines = program.split("\n")
    function = _function(parse_python(program), task.entry_point)
    if function is None or len(function.body) == _has_docstring(function):
        return None
    last = function.body[0].end_lineno if _has_docstring(function) else _header_end(function)
    return "\n".join(lines[last or 0 :])


def _header_end(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The line before the first statement, comments excepted."""
    parts = (*ast.walk(function.args), *([function.returns] if function.returns else []))
    return max([function.lineno, *(getattr(part, "end_lineno", 0) or 0 for part in parts)])


def _same(program: str, rest: str, task: Task) -> bool:
    """Whether prompt and rest are the program, but for docstring, annotations, and what the prompt provides
    besides."""
    joined = parse_python(task.prompt + rest).body
    given = len(parse_python(provided(task.prompt, task.entry_point)).body)
    before = {ast.dump(node) for node in joined[:given]}
    written = parse_python(program).body
    own = [node for node in written if not (ast.dump(node) in before or _is_text(node))]
    return [_plain(node, task.entry_point) for node in own] == [
        _plain(node, task.entry_point) for node in joined[given:] if not _is_text(node)
    ]


def _plain(node: ast.stmt, entry_point: str) -> str:
    """The statement's tree as text; of the function to write, without docstring and annotations."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name != entry_point:
        return ast.dump(node)
    if _has_docstring(node):
        node.body = node.body[1:]
    node.returns = None
    for argument in ast.walk(node.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    return ast.dump(node)


def _function(tree: ast.Module, name: str) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    functions = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
    ]
    return functions[-1] if functions else None


def _has_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return bool(function.body) and _is_text(function.body[0])


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
