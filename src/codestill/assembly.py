"""Assembly: how a completion and the prompt it answers become one program.

A completion either continues its prompt, or is a whole program of its own. Nothing in a whole program is
rewritten: it is executed as it stands, behind what the prompt provides before the function.
"""

import ast
import re
import symtable
from typing import TypeGuard

from codestill.languages import LANGUAGES, bound_names, parse_python, parses

_BOM = "\ufeff"
"""Python accepts it at the start of a source only."""


def assemble(prompt: str, completion: str, entry_point: str, language: str = "python") -> str:
    """The source of the program that a completion of ``prompt`` makes.

    A completion that is valid Python by itself and binds ``entry_point`` at top level replaces the prompt's
    unfinished function; any other continues the prompt's last line. ``from __future__`` imports move to the
    top, where alone Python accepts them. In other languages the header of the function tells a whole program.
    """
    spec = LANGUAGES[language]
    if not spec.is_python:
        if spec.defines_at(completion, entry_point) is None:
            return prompt + completion
        return prompt[: spec.defines_at(prompt, entry_point)] + completion
    prompt, completion = prompt.removeprefix(_BOM), completion.removeprefix(_BOM)
    if is_program(completion, entry_point):
        before = provided(prompt, entry_point)
        gap = "\n" if before and not before.endswith("\n") else ""
        return _hoisted(before + gap + completion)
    return _hoisted(prompt + completion)


def is_program(text: str, entry_point: str, language: str = "python") -> bool:
    """Whether the text is valid Python by itself and binds ``entry_point`` at top level; in other languages,
    whether it names it at all."""
    if entry_point not in text or not LANGUAGES[language].is_python:
        return entry_point in text
    try:
        return entry_point in bound_names(parse_python(text).body)
    except ValueError:
        return False


def provided(prompt: str, entry_point: str) -> str:
    """What a prompt gives before the function to complete: imports, constants, helper functions.

    A prompt that ends outside of any function, such as MBPP's docstring, is given whole; one that ends within
    something else than the function's definition gives nothing."""
    header = _header(prompt, entry_point)
    if header is not None:
        return prompt[:header]
    return "" if not parses(prompt) and _is_open(prompt) else prompt


def _is_open(prompt: str) -> bool:
    """Whether a deeper line makes the prompt valid."""
    last = prompt.rstrip().rpartition("\n")[2]
    indent = last[: len(last) - len(last.lstrip())]
    return parses(f"{prompt.rstrip()}\n{indent}    pass\n")


def _header(prompt: str, entry_point: str) -> int | None:
    """Offset of the last top-level definition of ``entry_point``, its decorators included."""
    name = re.escape(entry_point)
    pattern = rf"^(?:(?:async[ \t]+)?def|class)[ \t]+{name}\b"
    starts = [match.start() for match in re.finditer(pattern, prompt, re.MULTILINE)]
    if starts:
        return _with_decorators(prompt, starts[-1])
    # A method to complete: the class around it.
    classes = [match.start() for match in re.finditer(r"^class\b", prompt, re.MULTILINE)]
    inside = re.search(rf"^[ \t]+(?:async[ \t]+)?def[ \t]+{name}\b", prompt, re.MULTILINE)
    return classes[-1] if classes and inside else None


def _with_decorators(source: str, start: int) -> int:
    """Where the decorators of a definition begin; they may reach over several lines."""
    place = start
    while place > 0:
        begin = source.rfind("\n", 0, place - 1) + 1
        line = source[begin:place]
        if line.startswith("@"):
            start = begin
        elif line.strip() and line[0] not in " \t#)]}":
            break
        place = begin
    return start


def _hoisted(source: str) -> str:
    """The source with the ``__future__`` imports that stand behind other statements moved to its top."""
    if "__future__" not in source:
        return source
    try:
        body = parse_python(source).body
    except ValueError:
        return source
    start = 1 if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) else 0
    while start < len(body) and _is_future(body[start]):
        start += 1
    late = [node for node in body[start:] if _is_future(node)]
    if not late:
        return source
    data = source.encode(errors="surrogatepass").split(b"\n")  # columns count UTF-8 bytes
    for node in late:
        first, last = data[node.lineno - 1], data[(node.end_lineno or node.lineno) - 1]
        emptied = first[: node.col_offset] + b"pass" + last[node.end_col_offset :]
        data[node.lineno - 1 : node.end_lineno] = [emptied, *[b""] * ((node.end_lineno or 0) - node.lineno)]
    names = dict.fromkeys(alias.name for node in late for alias in node.names)
    rest = b"\n".join(data).decode(errors="surrogatepass")
    return f"from __future__ import {', '.join(names)}\n{rest}"


def _is_future(node: ast.stmt) -> TypeGuard[ast.ImportFrom]:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def used_names(source: str) -> set[str]:
    """Names that a program looks up in its module or among the builtins, wherever in it; empty where it does
    not compile."""
    try:
        table = symtable.symtable(source, "<program>", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    names: set[str] = set()
    waiting = [table]
    while waiting:
        scope = waiting.pop()
        waiting.extend(scope.get_children())
        names.update(
            symbol.get_name()
            for symbol in scope.get_symbols()
            if (symbol.is_referenced() or symbol.is_declared_global())
            and (scope is table or symbol.is_global())
        )
    return names
