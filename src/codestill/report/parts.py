"""Rounds and other parts of a run: their order, and how a page names them."""

import re


def part_order(part: str) -> tuple[int, list[tuple[int, str]]]:
    """What comes before the rounds, the rounds by number, and what belongs to the whole run last."""
    pieces = re.split(r"(\d+)", part)
    rank = 2 if not part else 1 if len(pieces) > 1 else 0
    return rank, [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces]


def part_name(part: str) -> str:
    """``round 1`` for ``round-1``; ``warm-up`` stays."""
    return re.sub(r"-(\d+)", r" \1", part)
