"""Stop rules: where a completion ends.

A base model does not stop after its answer: it continues with calls, prints and further problems. The rule
that cuts them off is part of a score, so it has a name and is stored with the score.
"""

import ast
import builtins
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator

from codestill.assembly import used_names
from codestill.languages import LANGUAGES, bound_names, parse_python, parses
from codestill.plugins import suggestion


@dataclass(frozen=True)
class StopRule:
    """A named rule: cut at the first of ``strings``; ``definitions`` parses the program instead."""

    name: str
    strings: tuple[str, ...] = ()


STOP_RULES: Mapping[str, StopRule] = MappingProxyType(
    {
        "definitions": StopRule("definitions"),
        # The five strings of the Codex paper (arXiv 2107.03374, section 3.2).
        "human-eval": StopRule("human-eval", ("\nclass", "\ndef", "\n#", "\nif", "\nprint")),
        # EvalPlus, direct completion.
        "evalplus": StopRule(
            "evalplus",
            (
                "\ndef ",
                "\nclass ",
                "\nimport ",
                "\nfrom ",
                "\nassert ",
                "\nif __name__",
                "\nprint(",
            ),
        ),
        # bigcode-evaluation-harness, MBPP.
        "mbpp": StopRule("mbpp", ("\nclass", "\nassert", '\n"""', "\nprint", "\nif", "\n<|/", "\n```")),
        # Of a gap of one line, whose other side is given: the editor asks for no more.
        "line": StopRule("line"),
        "none": StopRule("none"),
    }
)
"""The rules for Python. A language with stop strings (``codestill.languages``) has one of its own name."""


def stop_rule(name: str) -> StopRule:
    """The rule of that name, a language's included. Raises ValueError where there is none."""
    if name in STOP_RULES:
        return STOP_RULES[name]
    if name in LANGUAGES and LANGUAGES[name].stop:
        return StopRule(name, LANGUAGES[name].stop)
    known = f"known are {', '.join(_stop_names())}"
    raise ValueError(f"no stop rule {name!r}. {suggestion(name, _stop_names(), known)}")


def _stop_names() -> tuple[str, ...]:
    return (*STOP_RULES, *(name for name, language in LANGUAGES.items() if language.stop))


if TYPE_CHECKING:
    StopName = str
else:
    # The Literal is for --help, which lists its choices.
    StopName = Annotated[Literal[_stop_names()] | str, AfterValidator(lambda name: stop_rule(name).name)]

_LINE = re.compile(r"\s*\S[^\n]*\n")
_DEFINITION = re.compile(r"(?:async[ \t]+)?def\b|class\b|@")
_IMPORT = re.compile(r"(?:import|from)\b")
_CONTINUES = re.compile(r"(?:else|elif|except|finally)\b")
_ENDS = re.compile(
    r"(?:(?:assert|raise|del|return|print|pass|global|yield|await|else|elif|except|finally)\b"
    r"|if[ \t(]+__name__\b)"
    r"(?!\Z)"  # `print` at the end of the text may become `printer`
)
_LOOP = re.compile(r"(?:for|while)\b(?!\Z)")
_MAY_BIND = re.compile(r"[^\W\d]|[([*\"'#@\\]")
"""How a statement begins that may bind a name, or may be the beginning of a word that starts one."""

# Enough of Python's grammar to tell which newlines end a top-level line. An unclosed string extends to the
# end of the text (triple quotes) or of its line.
_TOKEN = re.compile(
    r"""
      (?P<skip> \#[^\n]* | \\\r?\n
        | \"{3} (?: [^"\\] | \\. | "(?!"") )*+ (?: \"{3} | \\?\Z )
        | '{3}  (?: [^'\\] | \\. | '(?!'') )*+ (?: '{3}  | \\?\Z )
        | " (?: [^"\\\n] | \\. )*+ (?: " | \\?\Z )?
        | ' (?: [^'\\\n] | \\. )*+ (?: ' | \\?\Z )?
      )
    | (?P<open> [(\[{] ) | (?P<close> [)\]}] ) | (?P<newline> \n )
    """,
    re.VERBOSE | re.DOTALL,
)


def cut(text: str, rule: StopRule) -> str:
    """The completion up to where ``rule`` ends it. ``cut(cut(text)) == cut(text)``.

    ``definitions`` keeps what a program is made of: the first line (it continues the prompt), indented
    lines, top-level functions, classes, imports and decorators, everything that binds a name before the
    first definition, and of later assignments, aliases, ``try`` and ``if`` those that a kept definition uses.
    It cuts at the first other statement at column 0, together with the comments before it. A last definition
    that does not parse, usually cut by the token limit, is dropped as well: it would make a correct answer
    fail.

    ``line`` keeps the first line that is not blank, with its end. Strings of other rules count from the first
    definition on, where the prompt leaves that to the completion: a constant or a class before it is part of
    the answer.
    """
    if rule.name == "definitions":
        return _definitions(text)
    if rule.name == "line":
        line = _LINE.match(text)
        return line[0] if line else text
    begin = _first_definition(text)
    ends = [at for at in (text.find(string, begin) for string in rule.strings) if at >= 0]
    return text[: min(ends)] if ends else text


def stopped(text: str, rule: StopRule) -> bool:
    """True once no further text can change ``cut(text, rule)``: sampling may end."""
    if rule.name == "definitions":
        return any(statement.kind == "end" for statement in _statements(text, final=False))
    if rule.name == "line":
        return _LINE.match(text) is not None
    begin = _first_definition(text)
    return any(text.find(string, begin) >= 0 for string in rule.strings)


def _first_definition(text: str) -> int:
    """Offset in the line of the first top-level function; 0 where the text continues one, or has none yet
    to wait for."""
    if not re.match(r"\s*^(?:import|from|class|def|async|[A-Z_][A-Z0-9_]*[ \t]*=|[@#])", text, re.MULTILINE):
        return 0
    function = re.search(r"^(?:async[ \t]+)?def\b", text, re.MULTILINE)
    return function.end() if function else len(text)


_BUILTINS = frozenset(dir(builtins))

Kind = Literal["first", "definition", "import", "binding", "open", "end"]
Names = frozenset[str] | None


@dataclass(frozen=True)
class _Statement:
    """A top-level statement of a completion, its decorators included."""

    kind: Kind
    """``open``: what it becomes depends on text that is still to come; ``end``: no part of a program."""
    source: str
    start: int
    end: int
    """After its last line of code."""
    names: Names
    """What it binds; None: to be parsed for, which only a cut needs and sampling does not."""

    @property
    def binds(self) -> frozenset[str]:
        return _binds(self.source) if self.names is None else self.names


def _definitions(text: str) -> str:
    statements = list(_statements(text, final=True))
    kept = [statement for statement in statements if statement.kind != "end"]
    end = kept[-1].end if len(kept) < len(statements) and kept else len(text)
    uses = cache(_uses)
    while True:
        before = len(kept)
        while len(kept) > 1 and not parses(kept[-1].source):
            end = kept.pop().start
        unused = _first_unused(kept, uses)
        if unused < len(kept):
            kept, end = kept[:unused], kept[unused - 1].end
        if len(kept) == before:
            return text[:end]


def _first_unused(statements: list[_Statement], uses: Callable[[_Statement], frozenset[str]]) -> int:
    """Place of the first binding after a definition that no definition uses; their number if there is
    none."""
    used: set[str] | None = None
    seen_function = False
    defined: set[str] = set()
    for place, statement in enumerate(statements):
        if statement.kind == "binding" and seen_function and not _is_alias(statement.source, defined):
            if used is None:  # rarely needed, so only now
                used = set[str]().union(*(uses(each) for each in statements))
            if not statement.binds & used or _calls(statement.source) - defined - _BUILTINS:
                return place
        seen_function = seen_function or statement.kind in ("first", "definition")
        defined |= statement.binds
    return len(statements)


def _calls(source: str) -> set[str]:
    """Names that a statement calls. One that the completion does not define is the prompt's own function: its
    use is an example, whatever parameter of that function the example is named after."""
    calls = (node.func for node in ast.walk(parse_python(source)) if isinstance(node, ast.Call))
    return {function.id for function in calls if isinstance(function, ast.Name)}


def _uses(statement: _Statement) -> frozenset[str]:
    """Names of the module that a definition, a method's alias, or the rest of the prompt's function looks
    up."""
    if statement.kind == "definition" or (
        statement.kind == "binding" and re.search(r"=[ \t]*\w+\.\w+\s*\Z", statement.source)
    ):
        return frozenset(used_names(statement.source))
    if statement.kind != "first":
        return frozenset()
    for opened in ("", "def _():\n", "def _():\n if 1:\n  ", "class _:\n def _():\n"):
        if names := used_names(opened + statement.source):
            return frozenset(names)
    return frozenset()


def _is_alias(source: str, defined: set[str]) -> bool:
    """Whether a statement gives a function another name, or wraps it: ``g = f``, ``g = cache(f)``,
    ``g = A().method``."""
    try:
        node = parse_python(source).body[0]
    except (ValueError, IndexError):
        return False
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    if isinstance(value, ast.Lambda):
        return True
    if isinstance(value, ast.Attribute):  # a method of a class, of an instance
        value = value.value.func if isinstance(value.value, ast.Call) else value.value
    values = [value, *value.args] if isinstance(value, ast.Call) else [value]
    return any(isinstance(each, ast.Name) and each.id in defined for each in values)


def _statements(text: str, *, final: bool) -> Iterator[_Statement]:
    """The top-level statements up to the first that ends the program; ``final``: no text follows."""
    seen_function = False
    lines = list(logical_lines(text))
    place = 0
    while place < len(lines):
        start, end, is_whole = lines[place]
        source = text[start:end]
        is_first = start == 0
        if not is_first and (not source.strip() or source.startswith("#")):
            place += 1
            continue
        # The lines that belong to it: indented ones, `else` and its like, and what a decorator decorates.
        last, decorated = place, source.startswith("@")
        following = place + 1
        while following < len(lines):
            line = text[lines[following][0] : lines[following][1]]
            blank = not line.strip() or line.startswith("#")
            if not blank:
                continues = _CONTINUES.match(line) and (not is_first or _opens(source))
                if not (line[0].isspace() or decorated or continues):
                    break
                decorated = decorated and line.startswith("@")
                last = following
            following += 1
        settled = is_whole and not _opens(source)  # indented lines behind it are an error
        source = text[start : lines[last][1]]
        complete = final or following < len(lines) or settled
        kind, binds = _kind_of_first(source) if is_first else _kind(source, complete, settled, seen_function)
        yield _Statement(kind, source, start, lines[last][1], binds)
        if kind == "end":
            return
        seen_function = seen_function or kind in ("definition", "first")
        place = following


def _kind_of_first(source: str) -> tuple[Kind, Names]:
    """What the first statement is: it stays in any case, since the prompt may end within its line."""
    if _DEFINITION.match(source):
        return "definition", None
    if not source.strip() or source.startswith("#") or _IMPORT.match(source):
        return "import", frozenset()
    try:
        node = None if source[0].isspace() else parse_python(source).body[0]
    except (ValueError, IndexError):  # a lone backslash is a program without statements
        node = None
    return ("import" if node is not None and _prepares(node) else "first"), frozenset()


def _kind(source: str, complete: bool, settled: bool, seen_function: bool) -> tuple[Kind, Names]:
    """What a later statement is, and the names it binds."""
    if _DEFINITION.match(source):
        return "definition", None
    if seen_function and _LOOP.match(source):
        return "end", frozenset()
    if _ENDS.match(source) or not _MAY_BIND.match(source) or (seen_function and source[0] in "\"'"):
        return "end", frozenset()
    if not complete:
        return ("end" if _is_call(source) else "open"), frozenset()
    try:
        body = parse_python(source).body
    except ValueError:
        return ("end" if settled or source.endswith("\n") else "open"), frozenset()
    if not body:
        return "end", frozenset()
    if _IMPORT.match(source):
        return "import", frozenset(bound_names(body))
    names = frozenset(bound_names(body)) | _changed(body[0])
    if names and isinstance(body[0], ast.Assign | ast.AnnAssign | ast.If | ast.Try | ast.With):
        defines = re.search(r"^[ \t]+(?:async[ \t]+)?(?:def|class)\b", source, re.MULTILINE)
        return ("definition" if defines else "binding"), names
    if not seen_function and _prepares(body[0]):
        return "import", frozenset()
    return "end", frozenset()


def _changed(node: ast.stmt) -> frozenset[str]:
    """Names whose attributes or entries an assignment sets: ``f.calls = 0``, ``TABLE[0] = 1``."""
    targets = node.targets if isinstance(node, ast.Assign) else []
    roots = (to.value for to in targets if isinstance(to, ast.Attribute | ast.Subscript))
    return frozenset(root.id for root in roots if isinstance(root, ast.Name))


def _binds(source: str) -> frozenset[str]:
    try:
        return frozenset(bound_names(parse_python(source).body))
    except ValueError:
        return frozenset()


def _prepares(node: ast.stmt) -> bool:
    """Whether a statement before the first function may be part of the program: an assignment, a loop that
    fills a table, a call such as ``sys.setrecursionlimit(10000)``, or a docstring."""
    if isinstance(
        node,
        ast.AugAssign | ast.Assign | ast.AnnAssign | ast.If | ast.Try | ast.With | ast.For | ast.While,
    ):
        return True
    value = node.value if isinstance(node, ast.Expr) else None
    return (isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute)) or (
        isinstance(value, ast.Constant) and isinstance(value.value, str)
    )


def _is_call(source: str) -> bool:
    """Whether the beginning of a line is a call already: no further text makes it bind a name."""
    return re.match(r"[^\W\d]\w*\(", source) is not None


def _opens(source: str) -> bool:
    """Whether further lines may belong to a statement of one line."""
    return re.match(r"(?:try|if|with|match|for|while)\b", source) is not None


def logical_lines(text: str, start: int = 0) -> Iterator[tuple[int, int, bool]]:
    """Start and end of every line that no bracket or string continues, and whether its end is reached."""
    depth, line = 0, start
    for token in _TOKEN.finditer(text, start):
        if token["open"]:
            depth += 1
        elif token["close"]:
            depth = max(depth - 1, 0)
        elif token["newline"] and depth == 0:
            yield line, token.end(), True
            line = token.end()
    if line < len(text):
        yield line, len(text), False
