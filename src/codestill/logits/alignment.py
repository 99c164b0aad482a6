"""Rows of one tokenizer read at the tokens of another: where both cut a text alike, and what becomes of a
row's ids there."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from codestill.logits.rows import SparseRows

ABSENT = -1
"""Instead of a row or an id, where there is none."""


class Alignment(NamedTuple):
    """One text in N tokens of a student and M of a teacher."""

    rows_N: NDArray[np.int64]
    """For each of the student's tokens the teacher's that has the same bytes at the same place; ABSENT where
    there is none."""
    shared_N: NDArray[np.bool_]
    """Whether a token of the teacher's ends where the student's ends."""


def align(student: Sequence[int], teacher: Sequence[int]) -> Alignment:
    """The alignment of tokens with these numbers of bytes, from the beginning of the same text."""
    widths_N, widths_M = np.array(student, dtype=np.int64), np.array(teacher, dtype=np.int64)
    ends_N, ends_M = widths_N.cumsum(), widths_M.cumsum()
    # The first token that ends there: one without bytes ends where its predecessor does.
    found_N = np.searchsorted(ends_M, ends_N).clip(max=max(len(ends_M) - 1, 0))
    shared_N = ends_M[found_N] == ends_N
    same_N = shared_N & (widths_M[found_N] == widths_N) & (widths_N > 0)
    return Alignment(np.where(same_N, found_N, ABSENT), shared_N)


def unaligned(count: int) -> Alignment:
    """Of ``count`` tokens, none of which has a counterpart."""
    return Alignment(np.full(count, ABSENT, dtype=np.int64), np.zeros(count, dtype=np.bool_))


def reindex(rows: SparseRows, sources_N: NDArray[np.int64], ids_V: NDArray[np.int64]) -> SparseRows:
    """The rows ``sources_N``, in other ids: ``ids_V`` gives one for each, or ABSENT.

    The mass of ids without a counterpart joins the tail's. A position without a source lists nothing: its
    tail has all the mass, which under the rule ``bucket`` neither costs nor teaches anything.
    """
    present_N = sources_N != ABSENT
    width = max(rows.ids_NK.shape[1], 1)
    ids_NK = np.zeros((len(sources_N), width), dtype=np.int64)
    log_p_NK = np.full((len(sources_N), width), -np.inf, dtype=np.float32)
    log_tail_N = np.zeros(len(sources_N), dtype=np.float32)
    taken = sources_N[present_N]
    if len(taken):
        mapped, log_p = ids_V[rows.ids_NK[taken]], rows.log_probabilities_NK[taken]
        lacking = np.nonzero(mapped == ABSENT)
        lost = np.bincount(lacking[0], np.exp(log_p[lacking]), len(taken))
        mapped[lacking], log_p[lacking] = 0, -np.inf
        ids_NK[present_N], log_p_NK[present_N] = mapped, log_p
        with np.errstate(divide="ignore"):
            log_tail_N[present_N] = np.logaddexp(rows.log_tail_N[taken], np.log(lost))
    return SparseRows(rows.temperature, ids_NK, log_p_NK, log_tail_N, None)
