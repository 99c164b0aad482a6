"""Functions: what is kept of one, how programs are taken apart, and what is read of one to find it."""

import ast
import builtins
import io
import re
import tokenize
import warnings
from collections.abc import Iterable, Sequence
from typing import Literal

from codestill.embeddings import split_name
from codestill.serialize import fingerprint
from codestill.types import Record

Part = Literal["name", "signature", "types", "description", "code"]
"""What of a function is read to find it; ``types`` are a signature's annotations alone."""


class Function(Record):
    """A function of a library. Without code it is a module: what a decomposition asks for."""

    name: str
    signature: str
    """From the parenthesis on: ``(xs: list[int]) -> int``."""
    description: str
    """Its docstring."""
    code: str = ""
    """Source that runs alone: imports and helper functions before it, where it needs them."""
    tests: tuple[str, ...] = ()
    """Assertions that it passes."""
    origin: str = ""
    """Where it comes from: ``seed``, or the instruction whose answer held it, and whose tests they are."""

    @property
    def key(self) -> str:
        """Name, and six digits that tell functions of one name apart."""
        return f"{self.name}-{fingerprint([self.signature, self.description, self.code])[:6]}"

    @property
    def header(self) -> str:
        """The prompt that asks for it: header and docstring."""
        said = self.description.replace("\n", "\n    ")
        return f'def {self.name}{self.signature}:\n    """{said}\n    """\n'

    def text(self, parts: Sequence[Part]) -> str:
        """What an embedder reads of it.

        With ``types`` and without ``signature`` the names of parameters are left out of the description, too.
        """
        said = self.description
        if "types" in parts and "signature" not in parts:
            said = _without(said, _parameters(self.signature))
        kept = {
            "name": " ".join(split_name(self.name)),
            "signature": self.signature,
            "types": _types(self.signature),
            "description": said,
            "code": self.code,
        }
        return "\n".join(kept[part] for part in parts)


def read_functions(program: str, origin: str = "") -> list[Function]:
    """The functions at a program's top level, each with the imports, helpers and constants that it needs.

    Raises SyntaxError where it is no Python.
    """
    lines = program.split("\n")
    tree = parse(program)
    owner: dict[str, ast.stmt] = {}
    for node in tree.body:
        for name in _defined(node):
            owner[name] = node
    made = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and owner[node.name] is node:
            needed = _needed(node, owner)
            kept = [one for one in tree.body if one in needed]
            plain = [one for one in kept if not isinstance(one, ast.FunctionDef)]
            helpers = [one for one in kept if isinstance(one, ast.FunctionDef) and one is not node]
            blocks = [_source(one, lines) for one in plain], [_source(one, lines) for one in [*helpers, node]]
            code = "\n\n\n".join([*(["\n".join(blocks[0])] if plain else []), *blocks[1]])
            made.append(_function(node, f"{code}\n", origin))
    return made


def read_headers(program: str) -> list[Function]:
    """The functions of a program that holds headers with docstrings alone, in its order.

    Raises ValueError, saying why, where it is no Python, has anything else at its top level, a function
    twice, or one without docstring or with a parameter that has no type.
    """
    try:
        tree = parse(program)
    except SyntaxError as error:
        raise ValueError(f"no Python: {error.msg}") from error
    made: dict[str, Function] = {}
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if not isinstance(node, ast.FunctionDef):
            raise ValueError(f"something that is no function: {ast.unparse(node)[:40]!r}")
        described = ast.get_docstring(node)
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        if not described:
            raise ValueError(f"{node.name} is not described")
        if any(one.annotation is None for one in arguments) or node.returns is None:
            raise ValueError(f"{node.name} does not say what it takes and gives")
        if node.name in made:
            raise ValueError(f"{node.name} stands there twice")
        made[node.name] = _function(node, "", "")
    return list(made.values())


def parse(program: str) -> ast.Module:
    """As ``ast.parse``; whatever is wrong is a SyntaxError, and nothing is warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # published code holds "\w" in plain strings
        try:
            return ast.parse(program)
        except (ValueError, RecursionError, MemoryError) as error:
            raise SyntaxError(str(error)) from error


def renamed(code: str, old: str, new: str) -> str:
    """Code in which the function ``old`` is called ``new``; attributes, strings and comments stay.

    Raises SyntaxError where it is no Python."""
    if old == new:
        return code
    parse(code)
    lines = code.split("\n")
    before = ""
    found: list[tuple[int, int]] = []
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.NAME and token.string == old and before != ".":
            found.append(token.start)
        before = token.string
    for row, column in reversed(found):
        line = lines[row - 1]
        lines[row - 1] = line[:column] + new + line[column + len(old) :]
    return "\n".join(lines)


def adapted(function: Function, module: Function) -> str:
    """The function's code under the module's name, and with the module's names of parameters where they
    are as many and mean nothing else there."""
    code = renamed(function.code, function.name, module.name)
    old, new = _parameters(function.signature), _parameters(module.signature)
    used = {token.string for token in tokenize.generate_tokens(io.StringIO(code).readline)}
    if len(old) != len(new) or used.intersection(set(new) - set(old)) or len(set(new)) < len(new):
        return code
    if set(old) & set(new) and old != new:
        return code  # two would change places
    for before, after in zip(old, new, strict=True):
        code = renamed(code, before, after)
        lines = code.split("\n")
        for node in parse(code).body:
            if isinstance(node, ast.FunctionDef) and node.name == module.name and ast.get_docstring(node):
                said = node.body[0]
                for row in range(said.lineno - 1, said.end_lineno or said.lineno):
                    lines[row] = re.sub(rf"\b{re.escape(before)}\b", after, lines[row])
        code = "\n".join(lines)
    return code


def undefined(program: str) -> set[str]:
    """Names that a program reads, and that nothing in it or in Python defines."""
    tree = parse(program)
    known = {name for node in ast.walk(tree) if isinstance(node, ast.stmt) for name in _defined(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            known.add(node.arg)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            known.add(node.id)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            known.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            known.add(node.rest)
        elif isinstance(node, ast.ImportFrom) and any(one.name == "*" for one in node.names):
            return set()
    return _loaded(tree) - known - set(dir(builtins)) - {"__file__", "__name__"}


def self_contained(program: str, known: Iterable[tuple[str, str]]) -> str:
    """The program, with those of the ``known`` functions (name, code) after it that it calls and lacks."""
    sources = dict(known)
    while True:
        tree = parse(program)
        defined = {name for node in tree.body for name in _defined(node)}
        missing = [name for name in sources if name in _loaded(tree) - defined]
        if not missing:
            return program
        for name in missing:
            program = f"{program.rstrip()}\n\n\n{sources.pop(name).strip()}\n"


def _function(node: ast.FunctionDef, code: str, origin: str) -> Function:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return Function(
        name=node.name,
        signature=f"({ast.unparse(node.args)}){returns}",
        description=(ast.get_docstring(node) or "").strip(),
        code=code,
        origin=origin,
    )


def _source(node: ast.stmt, lines: Sequence[str]) -> str:
    first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
    return "\n".join(lines[first - 1 : node.end_lineno])


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [one.asname or one.name.partition(".")[0] for one in node.names]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return [
            one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)
        ]
    return []


def _loaded(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)}


def _needed(node: ast.stmt, owner: dict[str, ast.stmt]) -> set[ast.stmt]:
    """The statement, and all at the top level that it needs."""
    found, waiting = {node}, [node]
    while waiting:
        for name in _loaded(waiting.pop()):
            other = owner.get(name)
            if other is not None and other not in found:
                found.add(other)
                waiting.append(other)
    return found


def _arguments(signature: str) -> tuple[list[ast.arg], ast.expr | None]:
    try:
        node = ast.parse(f"def f{signature}: pass").body[0]
    except SyntaxError:
        return [], None
    assert isinstance(node, ast.FunctionDef)
    starred = [one for one in (node.args.vararg, node.args.kwarg) if one is not None]
    return [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, *starred], node.returns


def _parameters(signature: str) -> list[str]:
    return [one.arg for one in _arguments(signature)[0]]


def _types(signature: str) -> str:
    arguments, returns = _arguments(signature)
    takes = [ast.unparse(one.annotation) if one.annotation else "" for one in arguments]
    return f"({', '.join(takes)}) -> {ast.unparse(returns) if returns else ''}"


def _without(text: str, names: Sequence[str]) -> str:
    return re.sub(rf"\b(?:{'|'.join(map(re.escape, names))})\b", "", text) if names else text
