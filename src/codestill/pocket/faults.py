"""Wrong solutions of known kinds, from which a model learns to repair and to judge.

A fault of composition is a correct program for another task (an operation exchanged, left out, moved, given
another constant, or several of these at once, as a weak student errs). A slip is a program with a mechanical
error (an undefined name, a missing return, a bracket too few or too many).
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from codestill.pocket.compositions import Composition, compositions, split_of
from codestill.pocket.generate import Sketch
from codestill.pocket.operations import OPERATIONS, Operation
from codestill.pocket.render import LOOP_VARIABLES, Constants, Rendering, body, random_rendering

Spoil = Callable[[str, Rendering, random.Random], str | None]
"""A body and its rendering -> the body with a slip; None where it has no place for one."""


@dataclass(frozen=True)
class PlantedFault:
    """A wrong body for a sketch."""

    kind: str
    """Of composition: ``exchanged``, ``left out``, ``moved``, ``constant``, ``another``, ``careless``. Slips:
    ``name``, ``return``, ``syntax``."""
    body: str
    composition: Composition
    constants: Constants
    """What the body does; for a slip, what it was meant to do."""
    rendering: Rendering
    """How it is written: style, names, loop variable."""


def plant_fault(sketch: Sketch, rng: random.Random) -> PlantedFault:
    """A body that is not the sketch's solution, in a random style. It may still pass its tests.

    Its composition is held out only if the sketch's is: a model that trains on faults of training tasks sees
    no held-out composition.
    """
    makers = list(_MAKERS)
    weights = [_MAKERS[maker] for maker in makers]
    allowed = ("train", split_of(sketch.composition))
    while True:
        planted = rng.choices(makers, weights)[0](sketch, rng)
        if planted is not None and split_of(planted.composition) in allowed:
            return planted


def _other(
    sketch: Sketch, kind: str, composition: Composition, constants: Constants, rng: random.Random
) -> PlantedFault:
    rendering = random_rendering(rng)
    text = body(composition, constants, sketch.parameter, *rendering)
    return PlantedFault(kind, text, composition, constants, rendering)


def _constant(operation: Operation, rng: random.Random) -> int | str | None:
    return rng.choice(operation.constants) if operation.constants else None


def _exchanged(sketch: Sketch, rng: random.Random) -> PlantedFault | None:
    place = rng.randrange(len(sketch.composition))
    present = OPERATIONS[sketch.composition[place]]
    others = [
        operation
        for operation in OPERATIONS.values()
        if (operation.takes, operation.gives) == (present.takes, present.gives)
        and operation.name != present.name
        and (place == 0 or not operation.opens)
    ]
    if not others:
        return None
    chosen = rng.choice(others)
    composition, constants = list(sketch.composition), list(sketch.constants)
    composition[place], constants[place] = chosen.name, _constant(chosen, rng)
    return _other(sketch, "exchanged", tuple(composition), tuple(constants), rng)


def _left_out(sketch: Sketch, rng: random.Random) -> PlantedFault | None:
    if not sketch.removable:
        return None
    return _other(sketch, "left out", *sketch.without(rng.choice(sketch.removable)), rng)


def _moved(sketch: Sketch, rng: random.Random) -> PlantedFault | None:
    """Two adjacent operations exchanged, where the types allow."""
    places = [
        place
        for place in range(len(sketch.composition) - 1)
        if len({*_kinds(sketch.composition[place]), *_kinds(sketch.composition[place + 1])}) == 1
        and not OPERATIONS[sketch.composition[place + 1]].opens
        and not OPERATIONS[sketch.composition[place]].opens
    ]
    if not places:
        return None
    place = rng.choice(places)
    composition, constants = list(sketch.composition), list(sketch.constants)
    composition[place : place + 2] = reversed(composition[place : place + 2])
    constants[place : place + 2] = reversed(constants[place : place + 2])
    return _other(sketch, "moved", tuple(composition), tuple(constants), rng)


def _kinds(name: str) -> tuple[str, str]:
    return OPERATIONS[name].takes, OPERATIONS[name].gives


def _wrong_constant(sketch: Sketch, rng: random.Random) -> PlantedFault | None:
    places = [place for place, name in enumerate(sketch.composition) if len(OPERATIONS[name].constants) > 1]
    if not places:
        return None
    place = rng.choice(places)
    constants = list(sketch.constants)
    values = [value for value in OPERATIONS[sketch.composition[place]].constants if value != constants[place]]
    constants[place] = rng.choice(values)
    return _other(sketch, "constant", sketch.composition, tuple(constants), rng)


def _another(sketch: Sketch, rng: random.Random) -> PlantedFault | None:
    """Another training composition between the same kinds."""
    depth = max(1, len(sketch.composition) - rng.randrange(2))
    pool = [c for c in compositions("train", depth, sketch.source) if OPERATIONS[c[-1]].gives == sketch.gives]
    if not pool:
        return None
    composition = rng.choice(pool)
    if composition == sketch.composition:
        return None
    constants = tuple(_constant(OPERATIONS[name], rng) for name in composition)
    return _other(sketch, "another", composition, constants, rng)


def _careless(sketch: Sketch, rng: random.Random) -> PlantedFault | None:
    """Several errors at once: operations of the task in another order, twice, exchanged or missing at the
    end, with constants mixed up."""
    own = dict(zip(sketch.composition, sketch.constants, strict=True))
    composition: list[str] = []
    constants: list[int | str | None] = []
    kind = sketch.source
    for place in range(max(1, len(sketch.composition) - rng.choice((0, 0, 0, 1)))):
        fitting = [o for o in OPERATIONS.values() if o.takes == kind and not (place and o.opens)]
        wanted = [operation for operation in fitting if operation.name in own]
        due = [operation for operation in wanted if operation.name == sketch.composition[place]]
        again = [operation for operation in fitting if composition and operation.name == composition[-1]]
        pool = rng.choices((due, wanted, again, fitting), (8, 4, 3, 5))[0] or fitting
        if not pool:
            break
        chosen = rng.choice(pool)
        composition.append(chosen.name)
        kept = chosen.name in own and rng.random() < 0.6
        constants.append(own[chosen.name] if kept else _constant(chosen, rng))
        kind = chosen.gives
    if (tuple(composition), tuple(constants)) == (sketch.composition, sketch.constants):
        return None
    return _other(sketch, "careless", tuple(composition), tuple(constants), rng)


def _slip(kind: str, spoil: Spoil) -> Callable[[Sketch, random.Random], PlantedFault | None]:
    def maker(sketch: Sketch, rng: random.Random) -> PlantedFault | None:
        """A slip in a correct program, or in one that also has faults of composition."""
        careless = _careless(sketch, rng) if rng.random() < 0.5 else None
        composition, constants = sketch.composition, sketch.constants
        if careless is not None:
            composition, constants = careless.composition, careless.constants
        rendering = random_rendering(rng)
        spoilt = spoil(body(composition, constants, sketch.parameter, *rendering), rendering, rng)
        return None if spoilt is None else PlantedFault(kind, spoilt, composition, constants, rendering)

    return maker


def _spoil_name(text: str, _: Rendering, rng: random.Random) -> str | None:
    """A variable is used under a name that is not defined."""
    reads = list(re.finditer(r"(?<=[ (\[])(a|b|c|first|second|third)(?=[\[\]).:, ]|$)", text))
    return _replaced(text, rng.choice(reads), rng.choice(("result", "value", "d"))) if reads else None


def _spoil_loop(text: str, rendering: Rendering, rng: random.Random) -> str | None:
    """A loop variable under two names."""
    variable = rendering[2]
    uses = list(re.finditer(rf"\b{variable}\b(?! in )", text))
    other = next(name for name in LOOP_VARIABLES if name != variable)
    return _replaced(text, rng.choice(uses), other) if uses else None


def _lose_line(text: str, _: Rendering, rng: random.Random) -> str | None:
    """A line is missing, so a value is used before it is computed."""
    lines = list(re.finditer(r"^    \w+ = .*\n", text, re.MULTILINE))
    return _replaced(text, rng.choice(lines), "") if lines else None


def _spoil_return(text: str, _: Rendering, __: random.Random) -> str | None:
    """The last value is computed but not returned."""
    head, separator, tail = text.rpartition("    return ")
    return f"{head}    result = {tail}" if separator else None


def _spoil_syntax(text: str, _: Rendering, rng: random.Random) -> str | None:
    """A bracket or a colon is missing, or a closing bracket is doubled or of the other kind."""
    marks = list(re.finditer(r"[()\[\]]|:(?=\n)", text))
    if not marks:
        return None
    mark = rng.choice(marks)
    others = {")": ("", "))", "]"), "]": ("", "]]", ")")}
    return _replaced(text, mark, rng.choice(others.get(mark[0], ("",))))


def _replaced(text: str, match: re.Match[str], by: str) -> str:
    return text[: match.start()] + by + text[match.end() :]


_MAKERS: dict[Callable[[Sketch, random.Random], PlantedFault | None], float] = {
    _exchanged: 4,
    _left_out: 3,
    _moved: 2,
    _wrong_constant: 2,
    _another: 4,
    _careless: 9,
    _slip("name", _spoil_name): 0.7,
    _slip("name", _spoil_loop): 0.7,
    _slip("name", _lose_line): 0.6,
    _slip("return", _spoil_return): 1,
    _slip("syntax", _spoil_syntax): 1.5,
}
