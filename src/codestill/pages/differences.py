"""Two programs line by line: what was taken out, what was put in, and what stands opposite what."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest


@dataclass(frozen=True)
class Line:
    """A line of one program, in runs of characters."""

    runs: tuple[tuple[str, bool], ...]
    """Text, and whether a similar line opposite has it otherwise; of lines that are not similar, nothing is
    marked."""

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.runs)


@dataclass(frozen=True)
class Pair:
    """What stands beside each other; None where one side has no such line."""

    before: Line | None
    after: Line | None
    changed: bool


ALIKE = 0.5
"""Similarity of two lines from which on their changed characters are marked, not only the lines."""


def side_by_side(before: str, after: str) -> list[Pair]:
    """The lines of two programs, equal ones beside each other."""
    old, new = before.splitlines(), after.splitlines()
    pairs: list[Pair] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            pairs += [Pair(_plain(line), _plain(line), False) for line in old[a:b]]
        else:
            pairs += [_opposite(*lines) for lines in zip_longest(old[a:b], new[c:d])]
    return pairs


def _plain(line: str) -> Line:
    return Line(((line, False),))


def _opposite(old: str | None, new: str | None) -> Pair:
    if old is not None and new is not None:
        matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
        if matcher.ratio() >= ALIKE:
            codes = matcher.get_opcodes()
            before = _runs((old[a:b], kind != "equal") for kind, a, b, _, _ in codes)
            after = _runs((new[c:d], kind != "equal") for kind, _, _, c, d in codes)
            return Pair(Line(tuple(before)), Line(tuple(after)), True)
    return Pair(None if old is None else _plain(old), None if new is None else _plain(new), True)


def _runs(runs: Iterator[tuple[str, bool]]) -> Iterator[tuple[str, bool]]:
    return ((text, changed) for text, changed in runs if text)
