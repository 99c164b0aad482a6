"""Functions that an answer describes, as models write them: with bodies, in classes, as a list."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from codestill.prompts.answers import fenced_blocks
from codestill.recipes.amr_evol.library import Function
from codestill.recipes.amr_evol.library.functions import read_headers
from codestill.synthesis import closed
from codestill.tasks.extract import after_thought

_DEF = re.compile(r"^(?P<indent>[ \t]*)(?:async[ \t]+)?def[ \t]+(?P<name>\w+)[ \t]*(?=\()", re.MULTILINE)
_CLASS = re.compile(r"^(?P<indent>[ \t]*)class[ \t]+\w+", re.MULTILINE)
_LISTED = re.compile(
    r"^[ \t]*(?:[-*+•]|\d+[.)]|#+)[ \t]*(?:\d+[.)][ \t]*)?[*_`]*(?:def[ \t]+)?(?P<name>[a-zA-Z_]\w*)(?=\()",
    re.MULTILINE,
)
_TAIL = re.compile(
    r"[ \t]*(?:->[ \t]*(?P<type>[^\n]*?))?[ \t]*:[ \t]*(?P<rest>(?:#[^\n]*|\.\.\.|pass)?)"
    r"(?=[ \t]*(?:$|[rR]?[\"']))",
    re.MULTILINE,
)
"""What follows a header's parameters."""
_BARE = re.compile(r"[ \t]*(?:->[ \t]*(?P<type>[^\n:#]+?))?[ \t]*(?P<rest>(?:#[^\n]*)?)$", re.MULTILINE)
"""The same without a colon, as in a list of signatures."""
_RETURNS = re.compile(r"[ \t]*(?:->|→)[ \t]*")
_QUOTES = re.compile(r"\s*[rR]?(\"{3}|'{3}|\"|')")


@dataclass(frozen=True)
class _Header:
    name: str
    parameters: str
    """In parentheses."""
    returns: str
    description: str

    def function(self) -> Function:
        """As a function, without types where the header has none, as small models often write. Raises
        ValueError with the reason where it lacks a description."""
        if not self.description:
            raise ValueError(f"{self.name} has no docstring")
        parameters = re.sub(r"\(\s*(?:self|cls)\s*(?:,\s*|(?=\)))", "(", self.parameters, count=1)
        returns = f" -> {self.returns}" if self.returns else ""
        said = textwrap.indent(self.description.replace("\\", "\\\\").replace('"""', "'''"), "    ").strip()
        header = f'def {self.name}{parameters}{returns}:\n    """{said}\n    """\n'
        return read_headers(header, typed=False)[0]


def headers_in(answer: str) -> tuple[list[Function], list[str]]:
    """The functions with a description, each once, and why others are left out.

    In fenced blocks, or in the text where there is none: headers with docstrings or comments, whatever their
    bodies; methods as functions without ``self``. And in lists: ``- name(x: int) -> int: what it does``.
    """
    answer = after_thought(answer)
    blocks = [block for block in fenced_blocks(answer) if _DEF.search(block)] or [answer]
    headers = [header for block in blocks for header in _defined(block)]
    if len(headers) < 2:  # beside two and more, what is listed are remarks and calls
        headers += _listed(answer)
    functions: dict[str, Function] = {}
    refused: list[str] = []
    for header in headers:
        try:
            functions.setdefault(header.name, header.function())
        except ValueError as error:
            refused.append(str(error))
    return list(functions.values()), refused


def _defined(block: str) -> Iterator[_Header]:
    """Functions and methods of a block; none that stands in another's body."""
    lines = sorted([*_DEF.finditer(block), *_CLASS.finditer(block)], key=lambda match: match.start())
    inside: list[tuple[int, bool]] = []
    for match in lines:
        indent, is_class = len(match["indent"].expandtabs()), match.re is _CLASS
        inside = [outer for outer in inside if outer[0] < indent]
        if not any(not of_class for _, of_class in inside) and not is_class:
            yield from _header(block, match)
        inside.append((indent, is_class))


def _header(block: str, match: re.Match[str]) -> Iterator[_Header]:
    end = closed(block, match.end())
    if end is None:
        return
    tail = _TAIL.match(block, end) or _BARE.match(block, end)
    if tail is None:
        return
    said = (
        _docstring(block, tail.end())
        or _comments(block, tail.end(), tail["rest"], match["indent"])
        or _above(block, match.start())
    )
    yield _Header(match["name"], block[match.end() : end], (tail["type"] or "").strip(), said)


def _docstring(block: str, start: int) -> str:
    quote = _QUOTES.match(block, start)
    if not quote:
        return ""
    end = closed(block, quote.start(1))
    return "" if end is None else " ".join(block[quote.end() : end - len(quote[1])].split())


def _comments(block: str, start: int, beside: str, indent: str) -> str:
    """The comment behind a header, or those in the lines of its body that begin it."""
    below = re.match(rf"[ \t]*\n((?:{indent}[ \t]+#[^\n]*\n?)*)", block[start:])
    lines = [beside, *(below[1].splitlines() if below else [])]
    return " ".join(line.strip().lstrip("#").strip() for line in lines if line.strip().startswith("#"))


def _above(block: str, start: int) -> str:
    """The comments in the lines directly above."""
    lines: list[str] = []
    for line in reversed(block[:start].splitlines()):
        if not line.strip().startswith("#"):
            break
        lines.insert(0, line.strip().lstrip("#").strip())
    return " ".join(lines)


def _listed(text: str) -> Iterator[_Header]:
    for match in _LISTED.finditer(text):
        end = closed(text, match.end())
        if end is None:
            continue
        line_end = text.find("\n", end) if "\n" in text[end:] else len(text)
        rest = text[end:line_end]
        returns = ""
        if arrow := _RETURNS.match(rest):
            typed = re.match(r"[\w.|, \[\]\"']+?(?=\s*(?:[:`*]|$|[-–—]\s))", rest[arrow.end() :])
            returns, rest = (typed[0].strip(), rest[arrow.end() + typed.end() :]) if typed else ("", rest)
        said = re.sub(r"^[\s:`*_–—-]+", "", rest).strip()
        if not said:  # the description may stand below, indented
            below = re.match(r"\n[ \t]+[-*]?[ \t]*([^\n]+)", text[line_end:])
            said = below[1].strip() if below else ""
        yield _Header(match["name"], text[match.end() : end], returns, said)
