"""Where the tokens of an answer are those of the text that is trained on.

A program is taken out of an answer and put into another form, so the two texts share runs of lines. There, a
token of the one and a token of the other are compared by the bytes that they cover.
"""

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from codestill.logits.alignment import ABSENT


class Shared(NamedTuple):
    """Bytes that stand in both texts."""

    start: int
    """In the one that is trained on."""
    answered: int
    """In the answer."""
    length: int


def shared_runs(trained: bytes, answer: bytes) -> list[Shared]:
    """The runs of whole lines that both texts have, in order; the longest ones first decide."""
    ours, theirs = trained.split(b"\n"), answer.split(b"\n")
    starts, answered = _starts(ours), _starts(theirs)
    blocks = SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks()
    runs: list[Shared] = []
    for a, b, count in blocks:
        if count:
            start, begun = starts[a], answered[b]
            end, ended = starts[a + count], answered[b + count]
            # The line end behind the last line belongs to it where both texts go on.
            last = 1 if a + count == len(ours) or b + count == len(theirs) else 0
            runs.append(Shared(start, begun, min(end - start, ended - begun) - last))
    return [run for run in runs if run.length > 0]


def _starts(lines: Sequence[bytes]) -> list[int]:
    """Where each line begins, and what would follow the last."""
    return np.cumsum([0, *(len(line) + 1 for line in lines)]).tolist()


def match(
    trained: Sequence[bytes], generated: Sequence[bytes], answer: bytes
) -> tuple[NDArray[np.int64], int | None] | None:
    """For each token that is trained on, the generated one with the same bytes at the same place of the same
    run of lines, or ABSENT; and, where the trained text ends as the answer does, the position behind its last
    token. None where the generated tokens do not spell the answer: before and behind it there may be others,
    as of a thought.
    """
    spelled = b"".join(generated)
    at = spelled.rfind(answer)
    if at < 0 or not answer:
        return None
    starts = np.cumsum([0, *map(len, generated)]) - at
    position = {
        (int(start), int(start) + len(token)): place
        for place, (start, token) in enumerate(zip(starts, generated, strict=False))
        if token
    }
    text = b"".join(trained)
    runs = shared_runs(text, answer)
    found_N, end = np.full(len(trained), ABSENT, dtype=np.int64), 0
    for number, token in enumerate(trained):
        start, end = end, end + len(token)
        for run in runs:
            if run.start <= start and end <= run.start + run.length:
                shift = run.answered - run.start
                found_N[number] = position.get((start + shift, end + shift), ABSENT)
    last = runs[-1] if runs else Shared(0, 0, 0)
    ends = (last.start + last.length, last.answered + last.length) == (len(text), len(answer))
    behind = np.flatnonzero(starts[:-1] == len(answer))
    return found_N, int(behind[0]) if ends and len(behind) else None
