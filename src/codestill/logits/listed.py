"""Checks of what a server lists at one position: is it part of a distribution?"""

import math
from collections.abc import Hashable, Iterable
from typing import Any

ROUNDING = 0.01
"""By which a probability may exceed one: servers compute in bfloat16."""
_LEAST = -3.5e38
"""Below any float32, which some servers give for a probability of zero."""


def log_probability(value: Any, where: str, token: object) -> float:
    """The number. Raises ValueError, naming the position, where it is no log-probability."""
    if not (type(value) in (int, float) and _LEAST < value <= ROUNDING):
        raise ValueError(f"{where} gives token {token} the log-probability {str(value)[:20]}")
    return float(value)


def require_distribution(entries: Iterable[tuple[Hashable, float]], where: str) -> None:
    """Raise ValueError, naming the position, where these (token, log-probability) exceed 1 together."""
    mass = sum(math.exp(log_p) for _, log_p in entries)
    if mass > 1 + ROUNDING:
        raise ValueError(f"{where} gives its tokens the probability {mass:.4g} together")
