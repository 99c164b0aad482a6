"""What a task's own text defines for its tests, so that no completion can give it another value.

Taken from prompt and reference, and executed by the judge when a test asks for a name: imports (also within
``try`` and ``if``), constants, lambdas and complete functions. The candidate keeps what is its own by nature:
the entry point; classes, whose instances its functions must recognise, unless the tests alone use them; and
state, which functions of the text change.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from codestill.languages import bound_names, parse_python
from codestill.types import Test

_CHANGES = frozenset(
    (
        *("add", "append", "appendleft", "clear", "difference_update", "discard", "extend", "extendleft"),
        *("insert", "intersection_update", "move_to_end", "pop", "popitem", "popleft", "remove", "reverse"),
        *("rotate", "setdefault", "sort", "subtract", "symmetric_difference_update", "update", "write"),
    )
)
# What has another value in each process, and what makes classes and marks, which are the candidate's.
_OF_A_PROCESS = frozenset(
    (
        *("input", "open", "random", "secrets", "time", "uuid", "object", "type", "namedtuple", "NamedTuple"),
        *(
            "Enum",
            "IntEnum",
            "StrEnum",
            "Flag",
            "IntFlag",
            "make_dataclass",
            "TypedDict",
            "NewType",
            "TypeVar",
        ),
    )
)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)


@dataclass(frozen=True)
class Support:
    """Trusted source, and the names that it defines; ``*`` among them stands for those of a star import."""

    source: str = ""
    names: tuple[str, ...] = ()
    of_reference: tuple[str, ...] = ()
    """Those that the prompt does not have, so that a completion may have its own."""


@lru_cache(maxsize=4096)
def support(
    prompt: str, reference: str, entry_point: str, test_setup: str = "", tests: tuple[Test, ...] = ()
) -> Support:
    """What the tests may use besides the candidate; no more than they name. Empty where nothing parses."""
    try:
        module = parse_python(prompt + reference)
    except ValueError:
        return Support()
    return _Text(
        module, len(prompt.splitlines()), entry_point, [test_setup, *(test.code for test in tests)]
    ).kept()


class _Text:
    """The statements of a task's text, and which of them are the task's."""

    def __init__(self, module: ast.Module, prompt_lines: int, entry_point: str, tests: list[str]) -> None:
        self.prompt_lines, self.entry_point, self.tests = prompt_lines, entry_point, tests
        self.statements = [node for node in module.body if not _is_left_out(node)]
        self.bound = {node: tuple(bound_names([node])) for node in self.statements}
        self.state = self._state()

    def kept(self) -> Support:
        trusted = self._trusted()
        definers: dict[str, list[ast.stmt]] = {}
        for node in trusted:
            changed = () if isinstance(node, _DEFINITIONS) else _changed(node)
            for name in (*self.bound[node], *changed):
                definers.setdefault(name, []).append(node)
        wanted = [
            name for name in definers if name == "*" or any(_mentions(text, name) for text in self.tests)
        ]
        needed: set[ast.stmt] = set()
        while wanted:
            for node in definers.get(wanted.pop(), ()):
                if node not in needed:
                    needed.add(node)
                    wanted += [name for name in _loaded(node) if name in definers]
        chosen = [node for node in trusted if node in needed]
        names = dict.fromkeys(name for node in chosen for name in self.bound[node])
        own = {
            name
            for node in chosen
            if self._in_prompt(node) or isinstance(node, _IMPORTS)
            for name in self.bound[node]
        }
        return Support(
            source="\n".join(map(_guarded, chosen)),
            names=tuple(names),
            of_reference=tuple(name for name in names if name not in own),
        )

    def _in_prompt(self, node: ast.stmt) -> bool:
        return (node.end_lineno or 0) <= self.prompt_lines

    def _trusted(self) -> list[ast.stmt]:
        """In order, what the judge can execute: it needs nothing but what is trusted, or in every program."""
        others = {self.entry_point, *self.state}
        for node in self.statements:
            begun = node.lineno <= self.prompt_lines < (node.end_lineno or 0)
            if begun or (isinstance(node, ast.ClassDef) and not self._is_of_tests(node)):
                others.update(self.bound[node])
        while True:
            rejected = [node for node in self.statements if not self._fits(node, others)]
            more = {name for node in rejected for name in self.bound[node]} - others
            if not more:
                return [node for node in self.statements if node not in rejected]
            others |= more

    def _fits(self, node: ast.stmt, others: set[str]) -> bool:
        if not others.isdisjoint(self.bound[node]):
            return False
        if isinstance(node, _IMPORTS):
            return True
        if isinstance(node, ast.ClassDef):
            return True
        loaded = set(_loaded(node))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if any(isinstance(part, ast.Global) for part in ast.walk(node)):
                return False
            # A function of the prompt is the same in every program; one of the reference's may be built on
            # what another program does not have.
            return self._in_prompt(node) or loaded.isdisjoint(others - {self.entry_point})
        parts = list(ast.walk(node))
        late = any(
            isinstance(part, ast.Lambda) for part in parts
        )  # it asks for the candidate when it is called
        alias = isinstance(node, ast.Assign) and isinstance(node.value, ast.Name)
        if not loaded.isdisjoint(others - {self.entry_point} if late or alias else others):
            return False
        guarded_import = any(isinstance(part, _IMPORTS) for part in parts)
        attributes = {part.attr for part in parts if isinstance(part, ast.Attribute)}
        return guarded_import or (loaded | attributes).isdisjoint(_OF_A_PROCESS)

    def _state(self) -> set[str]:
        """Names that functions of the text, or the tests, give another value or change in place."""
        found: set[str] = set()
        for function in (item for node in self.statements for item in _outermost(node)):
            own = _local(function)
            found.update(name for name in _changed(function) if name not in own)
            parts = [part for part in ast.walk(function) if isinstance(part, ast.Global)]
            found.update(name for part in parts for name in part.names)
        others = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef)
        nodes = [node for node in self.statements if not isinstance(node, others)]
        assigned = {name for node in nodes for name in self.bound[node]} - {self.entry_point}
        for text in self.tests:
            if any(_mentions(text, name) for name in assigned):
                found.update(_changed(_parsed(text)))
        return found & assigned

    def _is_of_tests(self, node: ast.ClassDef) -> bool:
        """Whether no instance of a class crosses: the tests only ask it something, and they alone use it or
        it holds nothing but constants."""
        plain = all(isinstance(item, ast.Assign | ast.AnnAssign | ast.Expr | ast.Pass) for item in node.body)
        if not plain or node.bases or node.keywords or node.decorator_list:
            for other in self.statements:
                if other is not node and node.name in _loaded(other):
                    return False
        mentioning = [text for text in self.tests if _mentions(text, node.name)]
        return bool(mentioning) and all(_only_asks(_parsed(text), node.name) for text in mentioning)


def _is_left_out(node: ast.stmt) -> bool:
    """What defines nothing, or is for the main program alone."""
    if isinstance(node, ast.ImportFrom) and node.module == "__future__":
        return True
    if isinstance(node, ast.If) and "__name__" in _loaded(node.test):
        return True
    return isinstance(node, ast.Expr) and not isinstance(node.value, ast.Call)


def _loaded(node: ast.AST) -> Iterator[str]:
    """Names that are read anywhere within."""
    return (
        part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)
    )


def _changed(node: ast.AST) -> Iterator[str]:
    """Names of objects that are changed in place anywhere within."""
    for part in ast.walk(node):
        target: ast.AST | None = None
        if isinstance(part, ast.Attribute | ast.Subscript) and isinstance(part.ctx, ast.Store | ast.Del):
            target = part
        elif isinstance(part, ast.AugAssign):
            target = part.target
        elif (
            isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr in _CHANGES
        ):
            target = part.func.value
        while isinstance(target, ast.Attribute | ast.Subscript):
            target = target.value
        if isinstance(target, ast.Name):
            yield target.id


def _outermost(node: ast.AST) -> Iterator[ast.AST]:
    """The functions within a statement that are in no other function."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        yield node
    else:
        for child in ast.iter_child_nodes(node):
            yield from _outermost(child)


def _local(function: ast.AST) -> set[str]:
    """Parameters and variables of a function, and of those within it."""
    parts = list(ast.walk(function))
    found = {part.arg for part in parts if isinstance(part, ast.arg)}
    found.update(part.id for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store))
    return found - {name for part in parts if isinstance(part, ast.Global) for name in part.names}


def _only_asks(tree: ast.AST, name: str) -> bool:
    """Whether a class, and the variables that hold what it makes, are used for their attributes alone."""
    held = {name}
    while True:
        parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        more: set[str] = set()
        for part in ast.walk(tree):
            if not (isinstance(part, ast.Name) and part.id in held):
                continue
            if isinstance(part.ctx, ast.Store):
                continue
            above = parents[part]
            if part.id == name and isinstance(above, ast.Call) and above.func is part:
                part, above = above, parents[above]  # an instance
            if isinstance(above, ast.Attribute):
                continue
            if not (
                isinstance(above, ast.Assign) and all(isinstance(item, ast.Name) for item in above.targets)
            ):
                return False
            more.update(item.id for item in above.targets if isinstance(item, ast.Name))
        if more <= held:
            return True
        held |= more


def _parsed(text: str) -> ast.AST:
    try:
        return parse_python(text)
    except ValueError:
        return ast.Module(body=[], type_ignores=[])


def _mentions(text: str, name: str) -> bool:
    return name in text and re.search(rf"(?<![\w.]){re.escape(name)}\b", text) is not None


def _guarded(node: ast.stmt) -> str:
    """A statement that leaves its names to the candidate where it fails."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.decorator_list:
        return ast.unparse(node)
    handler = ast.ExceptHandler(type=ast.Name("Exception", ast.Load()), name=None, body=[ast.Pass()])
    return ast.unparse(ast.Try(body=[node], handlers=[handler], orelse=[], finalbody=[]))
