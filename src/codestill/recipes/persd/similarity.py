"""How personalised a refinement is: close to the student's attempt, or a copy of the teacher's own solution.

A refinement is the teacher's repair of a failed attempt (PERsD, arXiv:2310.18628). A quarter of the paper's
released refinements equal the teacher's earlier solution token by token.
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
# Python 3.12 tokenizes inside f-strings, 3.14 inside t-strings; here each is one token on every Python.
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
    """Pairwise similarities, from 0 to 1, of attempt, refinement and solution."""

    attempt_tokens: int
    """Number of tokens of the attempt."""
    attempt_refinement: float
    refinement_solution: float
    attempt_solution: float
    attempt_refinement_tree: float | None = None
    """Similarity of their syntax trees; None if either does not parse."""
    refinement_solution_tree: float | None = None
    attempt_solution_tree: float | None = None
    attempt_refinement_embedding: float | None = None
    """Cosine of their embeddings; None without an embedder."""
    refinement_solution_embedding: float | None = None
    attempt_solution_embedding: float | None = None

    @property
    def empty(self) -> bool:
        """The attempt has no code, so nothing can be similar to it."""
        return self.attempt_tokens == 0

    @property
    def copied(self) -> bool:
        """The refinement equals the solution token by token."""
        return self.refinement_solution == 1.0

    @property
    def nearer_to_attempt(self) -> bool:
        """The refinement is nearer to the attempt than to the solution."""
        return self.attempt_refinement > self.refinement_solution

    @property
    def nearer_to_solution(self) -> bool:
        """The refinement is nearer to the solution than to the attempt; on a tie, neither holds."""
        return self.attempt_refinement < self.refinement_solution

    @property
    def personal(self) -> bool:
        """The refinement is nearer to the attempt than the solution is."""
        return self.attempt_refinement > self.attempt_solution


class Average(Record):
    """Mean and median of one similarity."""

    count: int
    """Number of refinements; fewer for trees if some code does not parse."""
    mean: float
    median: float


class SimilaritySummary(Record):
    """How personalised a set of refinements is; those of empty attempts are left out."""

    count: int
    empty: int
    """Number of refinements left out: their attempts have no code."""
    attempt_refinement: Average
    refinement_solution: Average
    attempt_solution: Average
    attempt_refinement_tree: Average | None = None
    """None if no pair parses."""
    refinement_solution_tree: Average | None = None
    attempt_solution_tree: Average | None = None
    attempt_refinement_embedding: Average | None = None
    """None without an embedder."""
    refinement_solution_embedding: Average | None = None
    attempt_solution_embedding: Average | None = None
    copied: float
    """Share of ``count`` with this property of :class:`Similarity`, like the next two."""
    nearer_to_solution: float
    personal: float


def code_tokens(code: str) -> list[str]:
    """The code's tokens without comments, docstrings and whitespace; a string is one token, an f-string too.

    The code is a program or the indented body of a function. Code that does not parse is tokenized by a
    regular expression: an unclosed string ends with its line, a triple-quoted one with the code.
    """
    code = _one_newline(code)
    try:
        header, tree = _parse(code)
        return _lexed(header + code, tree, header.count("\n"))
    except (SyntaxError, tokenize.TokenError):
        return _regex_tokens(code)


def token_similarity(a: str, b: str) -> float:
    """Similarity of the tokens, 0 to 1: difflib's ratio, which may depend on the order of the arguments.

    It is 1 if neither has tokens. Time grows with the product of the lengths.
    """
    return _ratio(code_tokens(a), code_tokens(b))


def tree_similarity(a: str, b: str) -> float | None:
    """The same ratio over the node types of the syntax trees in pre-order, which ignores names and constants.

    None if either does not parse.
    """
    return _optional_ratio(_node_types(a), _node_types(b))


def similarity(attempt: str, refinement: str, solution: str) -> Similarity:
    """Pairwise similarities of the three, all programs or all function bodies."""
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
    """Means, medians and shares over the attempts that have code. Raises ValueError if none has."""
    every = list(items)
    kept = [item for item in every if not item.empty]
    if not kept:
        raise ValueError(f"similarity needs an attempt with code; there is none in {len(every)}")
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
    """The header that makes the code a program, empty if it is one; and its tree without that header.

    Raises SyntaxError if the code is neither a program nor a function body.
    """
    with warnings.catch_warnings():
        # Models generate "\w" in plain strings, about which newer Pythons only warn.
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
    """Tokens after the first ``skipped`` lines of source that parses. Raises SyntaxError or TokenError."""
    lines = source.split("\n")

    def at(line: int, column: int) -> tuple[int, int]:
        return line, len(lines[line - 1].encode()[:column].decode())  # syntax trees count bytes

    docstrings = [
        (at(node.lineno, node.col_offset), at(node.end_lineno or 0, node.end_col_offset or 0))
        for node in _docstrings(tree)
    ]
    tokens: list[str] = []
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
            tokens.append(text)
    return tokens


def _between(lines: Sequence[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    rows = list(lines[start[0] - 1 : end[0]])
    rows[-1] = rows[-1][: end[1]]
    rows[0] = rows[0][start[1] :]
    return "\n".join(rows)


def _regex_tokens(code: str) -> list[str]:
    """Tokens of any text; a docstring is a string on its own line that opens the text or follows a colon."""
    tokens: list[str] = []
    line_start = True
    for token in _TOKEN.finditer(code):
        if token["layout"]:
            line_start = line_start or "\n" in token["layout"]
            continue
        alone = line_start and _LINE_END.match(code, token.end())
        if not (token["string"] and alone and (not tokens or tokens[-1] == ":")):
            tokens.append(token[0])
        line_start = False
    return tokens


def _node_types(code: str) -> list[str] | None:
    try:
        _, tree = _parse(_one_newline(code))
    except SyntaxError:
        return None
    docstrings = set(_docstrings(tree))
    types: list[str] = []
    stack: list[ast.AST] = [*reversed(tree.body)]
    while stack:  # no recursion: a long sum is a deep tree
        node = stack.pop()
        if node in docstrings or isinstance(node, ast.expr_context):
            continue
        types.append(type(node).__name__)
        stack.extend(reversed([*ast.iter_child_nodes(node)]))
    return types


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
