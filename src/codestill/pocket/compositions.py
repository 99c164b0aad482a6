"""Which operations may follow each other, and which compositions are held out.

Every adjacent pair of operations is hashed into train, validation or test. A training composition holds
training pairs only, a test composition at least one test pair and no validation pair. So no test task is a
training task with other constants or wording, and the split needs no stored list.
"""

import hashlib
from functools import cache
from itertools import pairwise
from typing import Literal

from codestill.pocket import integers, text  # noqa: F401  (they fill OPERATIONS)
from codestill.pocket.operations import OPERATIONS, Kind

Composition = tuple[str, ...]
HeldOut = Literal["train", "validation", "test"]

SOURCES: tuple[Kind, ...] = ("ints", "str", "words", "int")

_ORDERS = {"ascending", "descending", "reverse"}
_ORDER_BLIND = {"ascending", "descending", "sum", "largest", "smallest", "count", "kinds", "occurrences"}
_CASES = {"upper", "lower"}


@cache
def pair_split(first: str, second: str) -> HeldOut:
    """The split of an adjacent pair: 80% train, 5% validation, 15% test."""
    bucket = hashlib.sha256(f"{first}>{second}".encode()).digest()[0] % 20
    return "test" if bucket < 3 else "validation" if bucket == 3 else "train"


def split_of(composition: Composition) -> HeldOut | None:
    """The split of a composition; None for one that mixes validation and test pairs, which is not used."""
    splits = {pair_split(*pair) for pair in pairwise(composition)}
    if splits <= {"train"}:
        return "train"
    if "test" in splits:
        return None if "validation" in splits else "test"
    return "validation"


def _sensible(first: str, second: str) -> bool:
    """Whether neither operation undoes or ignores the other."""
    if first == second:
        return False
    if first in _ORDERS and second in _ORDER_BLIND:
        return False
    if first in _CASES and second in _CASES:
        return False
    # Arithmetic on arithmetic adds nothing to depth one.
    return not (OPERATIONS[first].takes == "int" == OPERATIONS[first].gives == OPERATIONS[second].gives)


def _opening(source: Kind) -> list[str]:
    """The operations that a composition may begin with."""
    return [
        operation.name
        for operation in OPERATIONS.values()
        if operation.takes == source and (source != "int" or operation.opens)
    ]


@cache
def _following(name: str, split: HeldOut) -> list[str]:
    """The operations that may follow another in a composition of a split."""
    return [
        operation.name
        for operation in OPERATIONS.values()
        if operation.takes == OPERATIONS[name].gives
        and not operation.opens
        and _sensible(name, operation.name)
        and pair_split(name, operation.name) in ("train", split)
    ]


@cache
def compositions(split: HeldOut, depth: int, source: Kind) -> tuple[Composition, ...]:
    """All compositions of ``depth`` operations on an argument of kind ``source``."""
    found: list[Composition] = [(name,) for name in _opening(source)]
    for _ in range(depth - 1):
        found = [(*before, name) for before in found for name in _following(before[-1], split)]
    return tuple(found if split == "train" else (c for c in found if split_of(c) == split))
