"""How personal a refinement is: close to the student's attempt, or the teacher's own solution once more.

A refinement is the teacher's repair of an attempt that failed (PERsD, arXiv:2310.18628). In the released
examples a quarter of them are the teacher's earlier solution, token by token.
"""

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from difflib import SequenceMatcher
from statistics import fmean, median

from codestill.types import Record

_HEADER = "def _():\n"
_LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
# Python 3.12 takes f-strings apart, 3.14 template strings too; here they are one token on every Python.
_OPENING = {getattr(tokenize, name, -1) for name in ("FSTRING_START", "TSTRING_START")}
_CLOSING = {getattr(tokenize, name, -1) for name in ("FSTRING_END", "TSTRING_END")}
_TOKEN = re.compile(
    r"""
      (?P<layout> \s+ | \#[^\n]* | \\\n )
    | (?P<string> (?i:[bfrtu]{0,2}) (?:
          '''(?:\\.|(?!''').)*(?:'''|\Z) | \"""(?:\\.|(?!\""").)*(?:\"""|\Z)
        | '(?:\\.|[^'\\\n])*'? | "(?:\\.|[^"\\\n])*"?
      ) )
    | (?i: 0x[\da-f_]+ | 0[bo][\d_]+ | (?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*) (?:e[+-]?\d[\d_]*)? j? )
    | \w+
    | \*\*= | //= | <<= | >>= | \.\.\. | \*\* | // | << | >> | -> | := | [-+*/%&|^@=<>!]= | .
    """,
    re.VERBOSE | re.DOTALL,
)
_LINE_END = re.compile(r"[ \t]*(?:[#;\n]|\Z)")


class Similarity(Record):
    """How alike attempt, refinement and solution are, in pairs: similarities from 0 to 1."""

    attempt_tokens: int
    """How many tokens the attempt has."""
    attempt_refinement: float
    refinement_solution: float
    attempt_solution: float
    attempt_refinement_tree: float | None = None
    """The same of their syntax trees; None where one of the two does not parse."""
    refinement_solution_tree: float | None = None
    attempt_solution_tree: float | None = None
    attempt_refinement_embedding: float | None = None
    """Cosine of their embeddings; None without an embedder."""
    refinement_solution_embedding: float | None = None
    attempt_solution_embedding: float | None = None

    @property
    def empty(self) -> bool:
        """The attempt has no code, so that nothing can be close to it."""
        return self.attempt_tokens == 0

    @property
    def copied(self) -> bool:
        """The refinement has the tokens of the solution, and no others."""
        return self.refinement_solution == 1.0

    @property
    def nearer_to_attempt(self) -> bool:
        """The refinement is nearer to the attempt than to the solution."""
        return self.attempt_refinement > self.refinement_solution

    @property
    def nearer_to_solution(self) -> bool:
        """The opposite; neither holds where both are as near."""
        return self.attempt_refinement < self.refinement_solution

    @property
    def personal(self) -> bool:
        """The refinement is nearer to the attempt than the solution is."""
        return self.attempt_refinement > self.attempt_solution


class Average(Record):
    """Of one similarity."""

    count: int
    """Refinements averaged over; fewer for trees, where some code does not parse."""
    mean: float
    median: float


class SimilaritySummary(Record):
    """How personal many refinements are, those of empty attempts left out."""

    count: int
    empty: int
    """Refinements left out: no number here is about them."""
    attempt_refinement: Average
    refinement_solution: Average
    attempt_solution: Average
    attempt_refinement_tree: Average | None = None
    """None where no pair parses."""
    refinement_solution_tree: Average | None = None
    attempt_solution_tree: Average | None = None
    attempt_refinement_embedding: Average | None = None
    """None without an embedder."""
    refinement_solution_embedding: Average | None = None
    attempt_solution_embedding: Average | None = None
    copied: float
    """Shares of ``count``, as the properties of :class:`Similarity`."""
    nearer_to_solution: float
    personal: float


def code_tokens(code: str) -> list[str]:
    """The code's tokens without comments, docstrings and layout; a string is one token, an f-string too.

    The code is a program or the indented body of a function. Code that does not parse is read by a regular
    expression: a string that is not closed ends with its line, or with the code where it is triple-quoted.
    """
    code = _one_newline(code)
    try:
        header, tree = _parse(code)
        return _lexed(header + code, tree, header.count("\n"))
    except (SyntaxError, tokenize.TokenError):
        return _guessed(code)


def token_similarity(a: str, b: str) -> float:
    """Shared part of the tokens, 0 to 1: difflib's ratio, which may change with the order of the two.

    Two codes without tokens are alike. Time grows with the product of the lengths.
    """
    return _ratio(code_tokens(a), code_tokens(b))


def tree_similarity(a: str, b: str) -> float | None:
    """The same over the types of the syntax trees' nodes, in pre-order: names and constants do not count.

    None where either does not parse.
    """
    return _optional_ratio(_node_types(a), _node_types(b))


def similarity(attempt: str, refinement: str, solution: str) -> Similarity:
    """How near the three are to each other; all three of one form, programs or bodies."""
    a, r, s = (code_tokens(code) for code in (attempt, refinement, solution))
    a_tree, r_tree, s_tree = (_node_types(code) for code in (attempt, refinement, solution))
    return Similarity(
        attempt_tokens=len(a),
        attempt_refinement=_ratio(a, r),
        refinement_solution=_ratio(r, s),
        attempt_solution=_ratio(a, s),
        attempt_refinement_tree=_optional_ratio(a_tree, r_tree),
        refinement_solution_tree=_optional_ratio(r_tree, s_tree),
        attempt_solution_tree=_optional_ratio(a_tree, s_tree),
    )


def summarise(items: Iterable[Similarity]) -> SimilaritySummary:
    """Means, medians and shares over the attempts that have code.

    Raises ValueError where none has.
    """
    every = list(items)
    kept = [item for item in every if not item.empty]
    if not kept:
        raise ValueError(f"nearness needs an attempt with code; there is none in {len(every)}")
    return SimilaritySummary(
        count=len(kept),
        empty=len(every) - len(kept),
        attempt_refinement=_average([item.attempt_refinement for item in kept]),
        refinement_solution=_average([item.refinement_solution for item in kept]),
        attempt_solution=_average([item.attempt_solution for item in kept]),
        attempt_refinement_tree=_optional_average([item.attempt_refinement_tree for item in kept]),
        refinement_solution_tree=_optional_average([item.refinement_solution_tree for item in kept]),
        attempt_solution_tree=_optional_average([item.attempt_solution_tree for item in kept]),
        attempt_refinement_embedding=_optional_average([item.attempt_refinement_embedding for item in kept]),
        refinement_solution_embedding=_optional_average(
            [item.refinement_solution_embedding for item in kept]
        ),
        attempt_solution_embedding=_optional_average([item.attempt_solution_embedding for item in kept]),
        copied=fmean(item.copied for item in kept),
        nearer_to_solution=fmean(item.nearer_to_solution for item in kept),
        personal=fmean(item.personal for item in kept),
    )


def _parse(code: str) -> tuple[str, ast.Module]:
    """The header that makes the code a program, empty where it is one; and its tree, without that header.

    Raises SyntaxError.
    """
    with warnings.catch_warnings():
        # Models write "\w" in plain strings, which newer Pythons only warn about.
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        for header in ("", _HEADER):
            with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
                return header, _without(header, ast.parse(header + code))
    raise SyntaxError("neither a program nor the body of a function")


def _without(header: str, tree: ast.Module) -> ast.Module:
    if not header:
        return tree
    function, *rest = tree.body
    assert isinstance(function, ast.FunctionDef)
    return ast.Module(body=[*function.body, *rest], type_ignores=[])


def _docstrings(tree: ast.Module) -> list[ast.stmt]:
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, owners)]
    return [node.body[0] for node in nodes if ast.get_docstring(node, clean=False) is not None]


def _lexed(source: str, tree: ast.Module, skipped: int) -> list[str]:
    """Tokens after the first ``skipped`` lines of a source that parses. Raises SyntaxError or TokenError."""
    lines = source.split("\n")

    def at(line: int, column: int) -> tuple[int, int]:
        return line, len(lines[line - 1].encode()[:column].decode())  # syntax trees count bytes

    docstrings = [
        (at(node.lineno, node.col_offset), at(node.end_lineno or 0, node.end_col_offset or 0))
        for node in _docstrings(tree)
    ]
    found: list[str] = []
    open_strings: list[tuple[int, int]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        text = token.string
        if token.type in _OPENING:
            open_strings.append(token.start)
        if token.type in _CLOSING:
            text = _between(lines, open_strings.pop(), token.end)
        if open_strings or token.type in _LAYOUT or token.start[0] <= skipped:
            continue
        if not any(start <= token.start and token.end <= end for start, end in docstrings):
            found.append(text)
    return found


def _between(lines: Sequence[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    rows = list(lines[start[0] - 1 : end[0]])
    rows[-1] = rows[-1][: end[1]]
    rows[0] = rows[0][start[1] :]
    return "\n".join(rows)


def _guessed(code: str) -> list[str]:
    """Tokens of any text; a docstring is a string on its own line that opens the text or follows a colon."""
    found: list[str] = []
    line_start = True
    for token in _TOKEN.finditer(code):
        if token["layout"]:
            line_start = line_start or "\n" in token["layout"]
            continue
        alone = line_start and _LINE_END.match(code, token.end())
        if not (token["string"] and alone and (not found or found[-1] == ":")):
            found.append(token[0])
        line_start = False
    return found


def _node_types(code: str) -> list[str] | None:
    try:
        _, tree = _parse(_one_newline(code))
    except SyntaxError:
        return None
    docstrings = set(_docstrings(tree))
    found: list[str] = []
    left: list[ast.AST] = [*reversed(tree.body)]
    while left:  # no recursion: a long sum is a deep tree
        node = left.pop()
        if node in docstrings or isinstance(node, ast.expr_context):
            continue
        found.append(type(node).__name__)
        left.extend(reversed([*ast.iter_child_nodes(node)]))
    return found


def _one_newline(code: str) -> str:
    return re.sub(r"\r\n?", "\n", code)


def _ratio(a: Sequence[str], b: Sequence[str]) -> float:
    return SequenceMatcher(None, a, b, autojunk=False).ratio()


def _optional_ratio(a: Sequence[str] | None, b: Sequence[str] | None) -> float | None:
    return None if a is None or b is None else _ratio(a, b)


def _average(values: Sequence[float]) -> Average:
    return Average(count=len(values), mean=fmean(values), median=median(values))


def _optional_average(values: Iterable[float | None]) -> Average | None:
    known = [value for value in values if value is not None]
    return _average(known) if known else None
