"""Parse judgements: the points of a rubric, checked against their range, or the pocket teacher's form."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from codestill.pocket.skills import MAX_SCORE
from codestill.pocket.skills import read_judgement as read_pocket


@dataclass(frozen=True)
class Rating:
    """A judge's rating of a program."""

    points: dict[str, float]
    share: float
    """Share of all possible points, 0 to 1."""
    clipped: int = 0
    """Points outside their range; they count as the nearest end."""
    fractions: int = 0
    """Fractional points. They are kept: they carry information, though the rubric has only whole points."""


def read_rubric(answer: str, rubric: Mapping[str, int]) -> Rating | None:
    """The last number after each criterion's name; None where a criterion has none.

    Of 98 judgements in IterKD's release 50 hold fractions, and 2 more cannot be read.
    """
    points: dict[str, float] = {}
    clipped = fractions = 0
    for name, most in rubric.items():
        mark = r"[*`\"'\s]*"
        numbers = re.findall(rf"{re.escape(name)}{mark}[:=]{mark}(-?\d+(?:\.\d+)?)", answer, re.IGNORECASE)
        if not numbers:
            return None
        value = float(numbers[-1])
        points[name] = min(max(value, 0.0), float(most))
        clipped += points[name] != value
        fractions += not points[name].is_integer()
    return Rating(points, sum(points.values()) / sum(rubric.values()), clipped, fractions)


def read_steps(answer: str) -> Rating | None:
    """The pocket teacher's score, and how far the task's steps and the code's agree in its answer."""
    judgement = read_pocket(answer)
    if judgement is None:
        return None
    points = {"score": judgement.score / MAX_SCORE, "agreement": judgement.agreement}
    return Rating(points, judgement.rating)
