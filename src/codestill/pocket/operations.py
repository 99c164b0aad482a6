"""The pocket world's vocabulary: small operations on lists, strings, words and integers.

An operation is described in English (as noun phrases around ``{x}``, and as an imperative step) and written
in Python (as an expression of ``{v}``, in one or two idioms, and as a loop that assigns its value to
``{o}``). ``{k}`` is a constant, ``{e}`` a loop variable.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["ints", "str", "words", "int", "bool"]

ANNOTATIONS: dict[Kind, str] = {
    "ints": "list[int]",
    "str": "str",
    "words": "list[str]",
    "int": "int",
    "bool": "bool",
}


@dataclass(frozen=True)
class Operation:
    """One step of a composition, from a value of kind ``takes`` to one of kind ``gives``."""

    name: str
    takes: Kind
    gives: Kind
    nouns: tuple[str, ...]
    step: str
    expressions: tuple[str, ...]
    """The plain idiom first, then the functional one if there is one."""
    loop: str | None = None
    constants: tuple[int | str, ...] = ()
    opens: bool = False
    """Whether it may only be the first operation of a composition."""


OPERATIONS: dict[str, Operation] = {}

SMALL = (2, 3, 4, 5, 6, 7, 8, 9)
FEW = (2, 3, 4, 5)
LETTERS = ("a", "e", "o", "t", "s", "n")
UNIQUE_LOOP = "{o} = []\nfor {e} in {v}:\n    if {e} not in {o}:\n        {o}.append({e})"


def add(
    name: str,
    takes: Kind,
    gives: Kind,
    nouns: list[str],
    step: str,
    *expressions: str,
    loop: str | None = None,
    constants: tuple[int | str, ...] = (),
    opens: bool = False,
) -> None:
    """Register an operation; see :class:`Operation`."""
    OPERATIONS[name] = Operation(name, takes, gives, tuple(nouns), step, expressions, loop, constants, opens)


def add_filter(
    name: str,
    kind: Kind,
    condition: str,
    nouns: list[str],
    step: str,
    constants: tuple[int | str, ...] = (),
) -> None:
    """Register one that keeps the elements ``{e}`` for which ``condition`` holds."""
    add(
        name,
        kind,
        kind,
        nouns,
        step,
        f"[{{e}} for {{e}} in {{v}} if {condition}]",
        f"list(filter(lambda {{e}}: {condition}, {{v}}))",
        loop=f"{{o}} = []\nfor {{e}} in {{v}}:\n    if {condition}:\n        {{o}}.append({{e}})",
        constants=constants,
    )


def add_map(
    name: str,
    takes: Kind,
    gives: Kind,
    value: str,
    nouns: list[str],
    step: str,
    constants: tuple[int | str, ...] = (),
) -> None:
    """Register one that replaces each element ``{e}`` by ``value``."""
    add(
        name,
        takes,
        gives,
        nouns,
        step,
        f"[{value} for {{e}} in {{v}}]",
        f"list(map(lambda {{e}}: {value}, {{v}}))",
        loop=f"{{o}} = []\nfor {{e}} in {{v}}:\n    {{o}}.append({value})",
        constants=constants,
    )
