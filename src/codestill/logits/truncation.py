"""Which tokens of a distribution are kept individually: the rules, and their application."""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from codestill.types import Settings

MAX_K = 256
"""Most tokens kept for one position: a row's count is one byte."""


class Threshold(Settings):
    """Keep a token while its probability at temperature 1 is above ``min_probability``.

    The most likely token is always kept. Of these rules it has the smallest error for its size.
    """

    type: Literal["threshold"] = "threshold"
    """Kind of truncation."""
    min_probability: float = Field(default=2e-5, gt=0, lt=1)
    """Tokens less likely than this belong to the tail."""
    max_k: int = Field(default=MAX_K, ge=1, le=MAX_K)
    """Most tokens kept for one position."""


class Mass(Settings):
    """Keep the most likely tokens until together they have ``mass`` at temperature 1."""

    type: Literal["mass"] = "mass"
    """Kind of truncation."""
    mass: float = Field(default=0.9995, gt=0, lt=1)
    """Probability that the kept tokens hold together, where ``max_k`` allows it."""
    max_k: int = Field(default=MAX_K, ge=1, le=MAX_K)
    """Most tokens kept for one position."""


class FixedK(Settings):
    """Keep exactly ``k`` tokens (all that are possible, where those are fewer)."""

    type: Literal["fixed"] = "fixed"
    """Kind of truncation."""
    k: int = Field(default=32, ge=1, le=MAX_K)
    """Tokens kept for every position."""

    @property
    def max_k(self) -> int:
        """Most tokens kept for one position."""
        return self.k


Truncation = Annotated[Threshold | Mass | FixedK, Field(discriminator="type")]


def keep_counts(log_probabilities_NK: NDArray[np.floating], truncation: Truncation) -> NDArray[np.int64]:
    """How many of each row's tokens to keep, from log-probabilities at temperature 1, descending.

    At least 1; none of zero probability beyond the first.
    """
    log_p = log_probabilities_NK[:, : truncation.max_k]
    if truncation.type == "threshold":
        kept = log_p > np.log(truncation.min_probability)
    elif truncation.type == "mass":
        before = np.cumsum(np.exp(log_p), axis=1) - np.exp(log_p)
        kept = before < truncation.mass
    else:
        kept = np.ones(log_p.shape, dtype=bool)
    return np.maximum((kept & np.isfinite(log_p)).sum(axis=1), 1)
