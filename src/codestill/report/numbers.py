"""Numbers as a reader wants them: percent, points, and at most three figures without an exponent."""

import math
from collections.abc import Sequence

from codestill.types import Interval


def percent(value: float) -> str:
    """``38.1%`` of a share of 0.381."""
    return f"{100 * value:.1f}%"


def points(value: float) -> str:
    """``+6.2`` of a difference of 0.062 between two shares, in percentage points, with a true minus sign."""
    return minus(f"{100 * value:+.1f}")


def signed(value: float) -> str:
    """``+0.062``, with a true minus sign."""
    return minus(f"{value:+.3f}")


def minus(text: str) -> str:
    return text.replace("-", "−")


def bounds(interval: Interval) -> str:
    """The ends of a share's interval, in percent: ``[38.1, 46.6]``."""
    return f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def point_bounds(interval: Interval) -> str:
    """The ends of a difference's interval, in points: ``[+2.5, +10.1]``."""
    return f"[{points(interval.low)}, {points(interval.high)}]"


def plain_bounds(interval: Interval) -> str:
    """The ends of the interval of a number that is no share: ``[0.381, 0.466]``."""
    return f"[{interval.low:.3f}, {interval.high:.3f}]"


def each_seed(values: Sequence[float]) -> str:
    """``+8.1, +11.2`` points."""
    return ", ".join(map(points, values))


def significant(value: float) -> str:
    """Three figures, more where a number is large, and no exponent: ``0.00123``, ``12.3``, ``1,390``."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = 2 - math.floor(math.log10(abs(value)))
    return f"{value:,.{min(max(places, 0), 12)}f}"


def amount(value: int | float | str) -> str:
    """What an accounting holds: counts whole, other numbers with up to three decimals, or three figures."""
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    text = f"{value:,.3f}" if abs(value) >= 1 else significant(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def counted(count: int, noun: str) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)
