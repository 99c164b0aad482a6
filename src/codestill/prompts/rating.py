"""Judgements: points of a rubric in an answer, checked against their range, and the pocket teacher's form."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from codestill.pocket.skills import MAX_SCORE
from codestill.pocket.skills import read_judgement as read_pocket


@dataclass(frozen=True)
class Rating:
    """What a judge gave."""

    points: dict[str, float]
    share: float
    """Of all points that could be had, 0 to 1."""
    clipped: int = 0
    """Points out of their range; the nearest end counts."""
    fractions: int = 0
    """Points between whole ones. They are kept: they say something, though the rubric has no such points."""


def read_rubric(answer: str, rubric: Mapping[str, int]) -> Rating | None:
    """The last number after each criterion's name; None where one has none.

    Of 98 judgements in IterKD's release 50 hold fractions, and 2 more cannot be read.
    """
    points: dict[str, float] = {}
    clipped = fractions = 0
    for name, most in rubric.items():
        mark = r"[*`\"'\s]*"
        found = re.findall(rf"{re.escape(name)}{mark}[:=]{mark}(-?\d+(?:\.\d+)?)", answer, re.IGNORECASE)
        if not found:
            return None
        value = float(found[-1])
        points[name] = min(max(value, 0.0), float(most))
        clipped += points[name] != value
        fractions += not points[name].is_integer()
    return Rating(points, sum(points.values()) / sum(rubric.values()), clipped, fractions)


def read_steps(answer: str) -> Rating | None:
    """The pocket teacher's score, and how far the steps that it wants and finds agree."""
    found = read_pocket(answer)
    if found is None:
        return None
    return Rating({"score": found.score / MAX_SCORE, "agreement": found.agreement}, found.rating)
