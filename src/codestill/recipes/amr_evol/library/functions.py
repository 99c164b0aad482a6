"""Functions: their record, their extraction from programs, and the text that is embedded for retrieval."""

import ast
import builtins
import io
import re
import tokenize
import warnings
from collections.abc import Iterable, Sequence
from typing import Literal

from codestill.embeddings import split_name
from codestill.files.serialize import fingerprint
from codestill.languages import UNPARSABLE
from codestill.types import Record

Part = Literal["name", "signature", "types", "description", "code"]
"""A part of a function that can be embedded; ``types`` are a signature's annotations alone."""


class Function(Record):
    """A function of a library. Without code it is a module of a decomposition."""

    name: str
    signature: str
    """From the parenthesis on, as ``(xs: list[int]) -> int``."""
    description: str
    """Its docstring."""
    code: str = ""
    """Self-contained source: the imports and helper functions it needs, then the function."""
    tests: tuple[str, ...] = ()
    """Assertions that it passes."""
    origin: str = ""
    """Where it comes from: a seed task, or the instruction whose answer contained it."""

    @property
    def key(self) -> str:
        """Name, and six hexadecimal digits that tell functions of one name apart."""
        return f"{self.name}-{fingerprint([self.signature, self.description, self.code])[:6]}"

    @property
    def header(self) -> str:
        """Header and docstring, as a prompt for the function."""
        indented = self.description.replace("\n", "\n    ")
        return f'def {self.name}{self.signature}:\n    """{indented}\n    """\n'

    def text(self, parts: Sequence[Part]) -> str:
        """The text that is embedded.

        With ``types`` and without ``signature`` parameter names are left out of the description, too.
        """
        description = self.description
        if "types" in parts and "signature" not in parts:
            description = _without(description, _parameters(self.signature))
        texts = {
            "name": " ".join(split_name(self.name)),
            "signature": self.signature,
            "types": _types(self.signature),
            "description": description,
            "code": self.code,
        }
        return "\n".join(texts[part] for part in parts)


def read_functions(program: str, origin: str = "") -> list[Function]:
    """The functions at a program's top level, each with the imports, helpers and constants it needs.

    Raises SyntaxError if the program does not parse.
    """
    lines = program.split("\n")
    tree = parse(program)
    owner: dict[str, ast.stmt] = {}
    for node in tree.body:
        for name in _defined(node):
            owner[name] = node
    functions = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and owner[node.name] is node:
            needed = _needed(node, owner)
            statements = [other for other in tree.body if other in needed]
            plain = [other for other in statements if not isinstance(other, ast.FunctionDef)]
            helpers = [
                other for other in statements if isinstance(other, ast.FunctionDef) and other is not node
            ]
            preamble = ["\n".join(_source(other, lines) for other in plain)] if plain else []
            code = "\n\n\n".join([*preamble, *(_source(other, lines) for other in [*helpers, node])])
            functions.append(_function(node, f"{code}\n", origin))
    return functions


def read_headers(program: str, *, typed: bool = True) -> list[Function]:
    """The functions of a program that consists of headers with docstrings, in order.

    Raises ValueError with the reason if the program does not parse, has anything but functions and imports at
    its top level, defines a function twice, or has one without docstring or, if they must be ``typed``, with
    a missing annotation.
    """
    try:
        tree = parse(program)
    except SyntaxError as error:
        raise ValueError(f"not valid Python: {error.msg}") from error
    functions: dict[str, Function] = {}
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if not isinstance(node, ast.FunctionDef):
            raise ValueError(f"not a function: {ast.unparse(node)[:40]!r}")
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        if not ast.get_docstring(node):
            raise ValueError(f"{node.name} has no docstring")
        annotations = [node.returns, *(argument.annotation for argument in arguments)]
        if typed and None in annotations:
            raise ValueError(f"{node.name} lacks type annotations")
        if node.name in functions:
            raise ValueError(f"{node.name} is defined twice")
        functions[node.name] = _function(node, "", "")
    return list(functions.values())


_MAX_DEPTH = 150  # deeper trees parse, but cannot be printed


def parse(program: str) -> ast.Module:
    """As ``ast.parse``, but without warnings, and with SyntaxError for every failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # published code has "\w" in plain strings
        try:
            tree = ast.parse(program)
        except UNPARSABLE as error:
            raise SyntaxError(str(error)) from error
    level, depth = [tree], 0
    while level:
        level, depth = [child for node in level for child in ast.iter_child_nodes(node)], depth + 1
    if depth > _MAX_DEPTH:
        raise SyntaxError(f"it is nested more than {_MAX_DEPTH} levels deep")
    return tree


def renamed(code: str, old: str, new: str) -> str:
    """The code with the name ``old`` replaced by ``new``; attributes, strings and comments stay.

    Raises SyntaxError if the code does not parse.
    """
    if old == new:
        return code
    parse(code)
    lines = code.split("\n")
    before = ""
    positions: list[tuple[int, int]] = []
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.NAME and token.string == old and before != ".":
            positions.append(token.start)
        before = token.string
    for row, column in reversed(positions):
        line = lines[row - 1]
        lines[row - 1] = line[:column] + new + line[column + len(old) :]
    return "\n".join(lines)


def adapted(function: Function, module: Function) -> str:
    """The function's code under the module's name, and with the module's parameter names if their number is
    the same and the code does not use them otherwise."""
    code = renamed(function.code, function.name, module.name)
    old, new = _parameters(function.signature), _parameters(module.signature)
    used = {token.string for token in tokenize.generate_tokens(io.StringIO(code).readline)}
    if len(old) != len(new) or used.intersection(set(new) - set(old)) or len(set(new)) < len(new):
        return code
    if set(old) & set(new) and old != new:
        return code  # two parameters could swap names
    for before, after in zip(old, new, strict=True):
        code = renamed(code, before, after)
        lines = code.split("\n")
        for node in parse(code).body:
            if isinstance(node, ast.FunctionDef) and node.name == module.name and ast.get_docstring(node):
                docstring = node.body[0]
                for row in range(docstring.lineno - 1, docstring.end_lineno or docstring.lineno):
                    lines[row] = re.sub(rf"\b{re.escape(before)}\b", after, lines[row])
        code = "\n".join(lines)
    return code


def undefined(program: str) -> set[str]:
    """Names that a program uses, and that neither it nor Python's builtins define."""
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
        elif isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            return set()
    return _loaded(tree) - known - set(dir(builtins)) - {"__file__", "__name__"}


def self_contained(program: str, known: Iterable[tuple[str, str]]) -> str:
    """The program, followed by those of the ``known`` functions (name, code) that it calls and lacks."""
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
    first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
    return "\n".join(lines[first - 1 : node.end_lineno])


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return [
            child.id
            for child in ast.walk(node)
            if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store)
        ]
    return []


def _loaded(node: ast.AST) -> set[str]:
    names = (child for child in ast.walk(node) if isinstance(child, ast.Name))
    return {name.id for name in names if isinstance(name.ctx, ast.Load)}


def _needed(node: ast.stmt, owner: dict[str, ast.stmt]) -> set[ast.stmt]:
    """The statement, and all top-level statements that it depends on."""
    needed, waiting = {node}, [node]
    while waiting:
        for name in _loaded(waiting.pop()):
            other = owner.get(name)
            if other is not None and other not in needed:
                needed.add(other)
                waiting.append(other)
    return needed


def _arguments(signature: str) -> tuple[list[ast.arg], ast.expr | None]:
    try:
        node = ast.parse(f"def f{signature}: pass").body[0]
    except UNPARSABLE:
        return [], None
    assert isinstance(node, ast.FunctionDef)
    starred = [argument for argument in (node.args.vararg, node.args.kwarg) if argument is not None]
    return [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, *starred], node.returns


def _parameters(signature: str) -> list[str]:
    return [argument.arg for argument in _arguments(signature)[0]]


def _types(signature: str) -> str:
    arguments, returns = _arguments(signature)
    annotations = [ast.unparse(argument.annotation) if argument.annotation else "" for argument in arguments]
    return f"({', '.join(annotations)}) -> {ast.unparse(returns) if returns else ''}"


def _without(text: str, names: Sequence[str]) -> str:
    return re.sub(rf"\b(?:{'|'.join(map(re.escape, names))})\b", "", text) if names else text
