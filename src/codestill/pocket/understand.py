"""Parse a pocket prompt: from its description back to the composition.

The inverse of ``render.describe``. A description that a model generated is a task of this world if it has a
reading; one from the grammar has exactly one, the composition that it describes.
"""

import re
from collections.abc import Iterator
from functools import cache

from codestill.pocket.compositions import SOURCES, Composition
from codestill.pocket.operations import ANNOTATIONS, OPERATIONS, Kind, Operation
from codestill.pocket.render import Constants

Reading = tuple[Composition, Constants]

_KINDS: dict[str, Kind] = {ANNOTATIONS[kind]: kind for kind in SOURCES}
HEADER = re.compile(r"def (\w+)\((\w+): ([\w\[\]]+)\) -> ([\w\[\]]+):\n {4}\"\"\"(.+)\n {4}\"\"\"\n")
_STEPS = re.compile(r"Start with (\w+): (.+)\. Return the result\.")


def understand(prompt: str) -> tuple[Kind, set[Reading]] | None:
    """The kind of the prompt's argument, and every composition with constants that the prompt may mean.

    None if the prompt is not a header with a description, or has no reading that fits its types.
    """
    matched = HEADER.fullmatch(prompt)
    if matched is None:
        return None
    _, parameter, takes, gives, description = matched.groups()
    if takes not in _KINDS:
        return None
    source = _KINDS[takes]
    fitting = {
        reading
        for reading in readings(description, parameter, source)
        if reading[0] and ANNOTATIONS[OPERATIONS[reading[0][-1]].gives] == gives
    }
    return (source, fitting) if fitting else None


def readings(description: str, parameter: str, source: Kind) -> Iterator[Reading]:
    """Every way to read a description of a function of ``parameter``, of kind ``source``."""
    steps = _STEPS.fullmatch(description)
    if steps is not None and steps[1] == parameter:
        yield from _in_steps(steps[2].split(", then "), source)
    elif description.startswith("Return ") and description.endswith("."):
        for composition, constants, _ in _in_nouns(description[7:-1], parameter, source):
            yield composition, constants


def _in_steps(steps: list[str], kind: Kind) -> Iterator[Reading]:
    if not steps:
        yield (), ()
        return
    for operation, pattern in _step_patterns():
        matched = pattern.fullmatch(steps[0])
        if matched is None or operation.takes != kind:
            continue
        for constant in _constant(operation, matched):
            for composition, constants in _in_steps(steps[1:], operation.gives):
                yield (operation.name, *composition), (constant, *constants)


def _in_nouns(phrase: str, parameter: str, source: Kind) -> Iterator[tuple[Composition, Constants, Kind]]:
    if phrase == parameter:
        yield (), (), source
    for operation, pattern in _noun_patterns():
        matched = pattern.fullmatch(phrase)
        if matched is None:
            continue
        for constant in _constant(operation, matched):
            for composition, constants, kind in _in_nouns(_bare(matched["x"]), parameter, source):
                if kind == operation.takes:
                    yield (*composition, operation.name), (*constants, constant), operation.gives


def _constant(operation: Operation, matched: re.Match[str]) -> Iterator[int | str | None]:
    if not operation.constants:
        yield None
    else:
        yield from (constant for constant in operation.constants if str(constant) == matched["k"])


def _bare(phrase: str) -> str:
    """Without the parentheses around all of it."""
    if not (phrase.startswith("(") and phrase.endswith(")")):
        return phrase
    depth = 0
    for place, letter in enumerate(phrase):
        depth += (letter == "(") - (letter == ")")
        if depth == 0 and place < len(phrase) - 1:
            return phrase
    return phrase[1:-1]


@cache
def _noun_patterns() -> tuple[tuple[Operation, re.Pattern[str]], ...]:
    return tuple(
        (operation, _pattern(template)) for operation in OPERATIONS.values() for template in operation.nouns
    )


@cache
def _step_patterns() -> tuple[tuple[Operation, re.Pattern[str]], ...]:
    return tuple((operation, _pattern(operation.step)) for operation in OPERATIONS.values())


def _pattern(template: str) -> re.Pattern[str]:
    escaped = re.escape(template).replace(r"\{x\}", "(?P<x>.+)")
    head, *rest = escaped.split(r"\{k\}")
    return re.compile(
        head + "".join(("(?P<k>.+?)" if n == 0 else "(?P=k)") + part for n, part in enumerate(rest))
    )
