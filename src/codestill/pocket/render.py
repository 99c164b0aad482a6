"""A composition in English and in Python.

Descriptions are nested noun phrases ("the sum of the squares of xs") or a recipe of steps. A noun phrase
takes parentheses wherever a prefix and a postfix modifier would otherwise be ambiguous. Code comes in four
styles, as people write it.
"""

import ast
import random
from collections.abc import Sequence
from typing import Literal

from codestill.pocket.compositions import Composition
from codestill.pocket.operations import OPERATIONS

Style = Literal["steps", "functional", "loop", "nested"]
Constants = tuple[int | str | None, ...]
Rendering = tuple[Style, Sequence[str], str]
"""Style, names of intermediate values, loop variable."""

STYLES: tuple[Style, ...] = ("steps", "functional", "loop", "nested")
NAMINGS: tuple[tuple[str, ...], ...] = (("a", "b", "c", "d"), ("first", "second", "third", "fourth"))
LOOP_VARIABLES = ("x", "v")


def describe(composition: Composition, constants: Constants, parameter: str, rng: random.Random) -> str:
    """An English sentence that means exactly this composition."""
    if rng.random() < 1 / 3:
        return recipe(composition, constants, parameter)
    phrase, inner = parameter, "bare"
    for name, k in zip(composition, constants, strict=True):
        template = rng.choice(OPERATIONS[name].nouns)
        outer = _modifier(template)
        if inner != "bare" and not (outer == inner and outer in ("before", "after")):
            phrase = f"({phrase})"
        phrase, inner = template.format(x=phrase, k=k), outer
    return f"Return {phrase}."


def recipe(composition: Composition, constants: Constants, parameter: str) -> str:
    """The description by steps; a composition has exactly one."""
    return f"Start with {parameter}: {steps(composition, constants)}. Return the result."


def steps(composition: Composition, constants: Constants) -> str:
    """The operations as imperatives, in order."""
    imperatives = [OPERATIONS[name].step.format(k=k) for name, k in zip(composition, constants, strict=True)]
    return ", then ".join(imperatives)


def _modifier(template: str) -> str:
    """Where a noun phrase puts its words: before its argument, after it, or on both sides."""
    if template.endswith("{x}"):
        return "before"
    return "after" if template.startswith("{x}") else "around"


def body(
    composition: Composition,
    constants: Constants,
    parameter: str,
    style: Style = "steps",
    naming: Sequence[str] = NAMINGS[0],
    loop_variable: str = "x",
) -> str:
    """The function's body, indented by four spaces, ending with a return and a newline."""
    lines: list[str] = []
    value = parameter
    for index, (name, k) in enumerate(zip(composition, constants, strict=True)):
        operation, last = OPERATIONS[name], index == len(composition) - 1
        if style == "loop" and operation.loop:
            target = naming[index]
            lines += operation.loop.format(v=value, k=k, e=loop_variable, o=target).split("\n")
            value = target
            if last:
                lines.append(f"return {value}")
            continue
        idiom = operation.expressions[-1 if style == "functional" else 0]
        expression = idiom.format(v=value, k=k, e=loop_variable)
        if last:
            lines.append(f"return {expression}")
        elif style == "nested" and _fits_inside(composition[index + 1]):
            value = expression if _is_atom(expression) else f"({expression})"
        else:
            value = naming[index]
            lines.append(f"{value} = {expression}")
    return "".join(f"    {line}\n" for line in lines)


def _fits_inside(name: str) -> bool:
    """Whether the operation uses its argument only once, so that nesting repeats no work."""
    return OPERATIONS[name].expressions[0].count("{v}") == 1


def _is_atom(expression: str) -> bool:
    node = ast.parse(expression, mode="eval").body
    return isinstance(node, ast.Call | ast.Subscript | ast.ListComp | ast.Name)


def random_rendering(rng: random.Random) -> Rendering:
    """A random style, naming and loop variable."""
    style = rng.choices(STYLES, weights=(4, 2, 3, 2))[0]
    return style, rng.choice(NAMINGS), rng.choice(LOOP_VARIABLES)
