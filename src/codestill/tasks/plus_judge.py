"""Compares a candidate with the reference, input by input, by EvalPlus's rules.

The *source* of this module goes into the test program of every EvalPlus task, so it imports nothing but
the standard library. What it computes agrees with EvalPlus 0.3 (``evalplus/eval``): exact equality; a
tolerance where the task sets one or the reference returns floats; and an oracle per task for those with
more than one correct answer.
"""

import base64
import copy
import itertools
import json
import marshal
import math
import re
import time
from collections.abc import Callable
from typing import Any

FLOAT_TOLERANCE = 1e-6
RELATIVE_TOLERANCE = 1e-7
# CPU time per input; EvalPlus applies them to the wall clock.
MINIMUM_SECONDS = 4.0
TIME_FACTOR = 4.0

KEPT_BYTES = 8 << 20
"""Of the reference's values for one task; larger ones are recomputed for every candidate, one at a time."""

Expectations = dict[str, list[tuple[Any, float]]]
"""For each input of each group: the reference's value, and the CPU seconds it took."""


def make_check(
    task: dict[str, Any], memo: Callable[[Callable[[], str]], str]
) -> Callable[[Callable[..., Any], str], None]:
    """``check(candidate, group)``, which raises AssertionError at the first input whose values differ, and
    TimeoutError at the first that takes too long.

    Of ``task``, ``reference`` is the source of the whole reference program, run in a namespace of its own,
    and ``entry_point`` its function; ``inputs`` is JSON, group -> list of argument lists, and ``shape`` names
    in SHAPES what JSON could not represent of them; ``oracle`` is a name in ORACLES, ``tolerance`` a float.
    ``memo`` is the sandbox's ``__memo__``, which keeps the values that the reference returns.
    """
    entry_point: str = task["entry_point"]
    groups: dict[str, list[Any]] = json.loads(task["inputs"])
    reshape, agrees = SHAPES[task["shape"]], ORACLES[task["oracle"]]
    namespace: dict[str, Any] = {"__name__": "reference"}
    exec(task["reference"], namespace)
    reference = namespace[entry_point]

    def compute() -> str:
        known: Expectations = {group: [] for group in groups}
        size = 0
        for group, rows in groups.items():
            for raw in rows:
                value, seconds = timed(reference, reshape(raw))
                if isinstance(value, re.Match):
                    value = True  # only whether there is a match is compared
                try:
                    size += len(marshal.dumps(value))
                except ValueError:
                    return ""
                if size > KEPT_BYTES:
                    return ""
                known[group].append((value, seconds))
        return base64.b85encode(marshal.dumps(known)).decode()

    text = memo(compute)
    known: Expectations | None = marshal.loads(base64.b85decode(text)) if text else None

    def check(candidate: Callable[..., Any], group: str) -> None:
        limit = task["tolerance"]
        for place, raw in enumerate(groups[group]):
            arguments = reshape(raw)
            expected, seconds = known[group][place] if known else timed(reference, arguments)
            actual, taken = timed(candidate, arguments)
            if taken > max(MINIMUM_SECONDS, TIME_FACTOR * seconds):
                call = show_call(entry_point, arguments)
                raise TimeoutError(f"{call} took {taken:.1f} s of CPU time, the reference {seconds:.1f} s")
            # As in EvalPlus, one float answer puts the tolerance on all later inputs of the group.
            limit = limit or (FLOAT_TOLERANCE if is_floats(expected) else 0)
            try:
                correct = bool(agrees(actual, expected, arguments, limit))
            except Exception:
                correct = False
            if not correct:
                call, value, wanted = show_call(entry_point, arguments), show(actual), show(expected)
                error = AssertionError(f"{call} returned {value}, expected {wanted}")
                error.explained = (call, value, wanted)  # pyright: ignore[reportAttributeAccessIssue]
                raise error

    return check


def timed(function: Callable[..., Any], arguments: list[Any]) -> tuple[Any, float]:
    """The function's value for a copy of the arguments, and the CPU seconds it took."""
    own = copy.deepcopy(arguments)
    clock = getattr(function, "cpu_clock", time.process_time)  # a candidate in another process has one
    start = clock()
    value = function(*own)
    return value, clock() - start


def show_call(name: str, arguments: list[Any]) -> str:
    return capped(f"{name}({', '.join(map(show, arguments))})")


def show(value: Any) -> str:
    try:
        return capped(repr(value))
    except ValueError:  # an int with more digits than repr gives
        return f"<{type(value).__name__}>"


def capped(text: str) -> str:
    return text if len(text) <= 200 else text[:197] + "..."


def is_floats(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(item, float) for item in value)
    return isinstance(value, float)


def equal(actual: Any, expected: Any, arguments: Any, limit: float) -> bool:
    if actual == expected:
        return True
    return limit != 0 and type(actual) is type(expected) and close(actual, expected, limit)


def close(actual: Any, expected: Any, limit: float) -> bool:
    """numpy.allclose with rtol 1e-7, over numbers and sequences of them of equal length."""
    if isinstance(actual, list | tuple) and isinstance(expected, list | tuple):
        return len(actual) == len(expected) and all(map(close, actual, expected, itertools.repeat(limit)))
    if isinstance(actual, int | float | complex) and isinstance(expected, int | float | complex):
        return actual == expected or abs(actual - expected) <= limit + RELATIVE_TOLERANCE * abs(expected)
    return False


def same_set(actual: Any, expected: Any, arguments: Any, limit: float) -> bool:
    return set(actual) == set(expected)


def truthy_match(actual: Any, expected: Any, arguments: Any, limit: float) -> bool:
    """The task asks whether there is a match, and answers may be the match itself."""
    matches = actual if isinstance(actual, bool) else actual is not None
    return matches == (expected is not None)


def anything(actual: Any, expected: Any, arguments: Any, limit: float) -> bool:
    """Mbpp/164 does not say what it compares: EvalPlus accepts whatever returns."""
    return True


def or_zero(actual: Any, expected: Any, arguments: Any, limit: float) -> bool:
    return equal(actual, expected, arguments, limit) or actual == 0


def pyramid_surface(actual: Any, expected: Any, arguments: Any, limit: float) -> bool:
    """Mbpp/581 may be read with ``height`` as the slant height or as the pyramid's own."""
    base, height = arguments
    surface = round(base**2 + 2 * base * math.hypot(base / 2, height))
    return equal(actual, expected, arguments, limit) or abs(actual - surface) <= limit


def digit_distance(actual: Any, expected: Any, arguments: Any, limit: float) -> bool:
    """Mbpp/558, also with the digits aligned on the right."""
    if equal(actual, expected, arguments, limit):
        return True
    pairs = itertools.zip_longest(*(reversed(str(number)) for number in arguments), fillvalue="0")
    return actual == sum(abs(int(a) - int(b)) for a, b in pairs)


def root(actual: Any, expected: Any, arguments: Any, limit: float) -> bool:
    """HumanEval/32: any zero of the polynomial is correct."""
    (coefficients,) = arguments
    return abs(sum(c * math.pow(actual, power) for power, c in enumerate(coefficients))) <= limit


ORACLES = {
    "equal": equal,
    "set": same_set,
    "match": truthy_match,
    "anything": anything,
    "or-zero": or_zero,
    "pyramid-surface": pyramid_surface,
    "digit-distance": digit_distance,
    "root": root,
}


def deep(levels: int) -> Callable[[Any], Any]:
    """Lists become tuples, ``levels`` deep (-1: all the way); other values stay."""

    def convert(value: Any, left: int = levels) -> Any:
        if left == 0 or not isinstance(value, list):
            return value
        return tuple(convert(item, left - 1) for item in value)

    return convert


def each(convert: Callable[[Any], Any]) -> Callable[[list[Any]], list[Any]]:
    return lambda arguments: [convert(argument) for argument in arguments]


def only(index: int, convert: Callable[[Any], Any]) -> Callable[[list[Any]], list[Any]]:
    return lambda arguments: [
        convert(argument) if at == index else argument for at, argument in enumerate(arguments)
    ]


def items(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: [convert(item) for item in value]


SHAPES: dict[str, Callable[[list[Any]], list[Any]]] = {
    "json": lambda arguments: arguments,
    "tuples": each(deep(1)),
    "tuples-of-tuples": each(deep(2)),
    "nested-tuples": each(deep(-1)),
    "lists-of-tuples": each(items(deep(1))),
    "first-list-of-tuples": only(0, items(deep(1))),
    "first-tuple": only(0, deep(1)),
    "second-tuple": only(1, deep(1)),
    "first-dict-of-tuples": only(0, lambda value: {key: tuple(item) for key, item in value.items()}),
    # An empty list stands for an empty dict there, not for an empty set.
    "first-list-of-sets": only(0, items(lambda item: set(item) if isinstance(item, list) and item else {})),
    "float-complex": lambda arguments: [float(arguments[0]), complex(arguments[1])],
    "complex": lambda arguments: [complex(arguments[0])],
}
