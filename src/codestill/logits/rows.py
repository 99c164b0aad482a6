"""Sparse next-token distributions: what a capture keeps of them, and what a reader gets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codestill.errors import LogitsError
from codestill.logits.truncation import Truncation, keep_counts


@dataclass(frozen=True)
class CapturedRows:
    """What a capture keeps of N positions: J temperatures, M tail samples, E entries in all."""

    counts_N: NDArray[np.int64]
    """Entries of each row, at least 1."""
    ids_E: NDArray[np.int64]
    """Kept token ids, row after row, the most likely first."""
    log_probabilities_E: NDArray[np.float32]
    """Their log-probabilities at temperature 1 over the shared vocabulary, descending within a row."""
    log_tails_NJ: NDArray[np.float32]
    """Log of the mass of all other tokens, at each temperature."""
    samples_NJM: NDArray[np.int64]
    """Token ids sampled from those, in proportion to their probability at that temperature."""

    def __len__(self) -> int:
        return len(self.counts_N)

    def split(self, lengths: Sequence[int]) -> Iterator["CapturedRows"]:
        """Consecutive pieces of these lengths, e.g. one per sequence of a batch."""
        ends = np.concatenate([[0], np.cumsum(self.counts_N)])
        start = 0
        for length in lengths:
            rows, entries = slice(start, start + length), slice(ends[start], ends[start + length])
            yield CapturedRows(
                self.counts_N[rows],
                self.ids_E[entries],
                self.log_probabilities_E[entries],
                self.log_tails_NJ[rows],
                self.samples_NJM[rows],
            )
            start += length


def join(pieces: Sequence[CapturedRows]) -> CapturedRows:
    """One after the other."""
    fields = ("counts_N", "ids_E", "log_probabilities_E", "log_tails_NJ", "samples_NJM")
    return CapturedRows(*(np.concatenate([getattr(piece, name) for piece in pieces]) for name in fields))


@dataclass(frozen=True)
class SparseRows:
    """What a reader gets: N positions at one temperature, padded to the longest row, K."""

    temperature: float
    """Divides the teacher's logits."""
    ids_NK: NDArray[np.int64]
    """Kept token ids, the most likely first; pads are 0."""
    log_probabilities_NK: NDArray[np.float32]
    """Log-probabilities at that temperature; pads are minus infinity. A row sums to one minus its tail."""
    log_tail_N: NDArray[np.float32]
    """Log of the mass of all other tokens; minus infinity where nothing is left."""
    samples_NM: NDArray[np.int64] | None
    """Token ids sampled from the tail, where the cache has them."""

    def __len__(self) -> int:
        return len(self.log_tail_N)


def rows_from_top(
    ids_NK: NDArray[np.integer], log_probabilities_NK: NDArray[np.floating], truncation: Truncation
) -> CapturedRows:
    """Rows from lists of likely tokens, as servers give them, in any order; -inf or NaN is an absent entry.

    The remaining mass is the tail's, at temperature 1. A sum that rounding puts above one is scaled down.
    Raises LogitsError for a position without any token.
    """
    log_p = np.where(np.isnan(log_probabilities_NK), -np.inf, log_probabilities_NK).astype(np.float64)
    order = np.argsort(-log_p, axis=1, kind="stable")
    ids = np.take_along_axis(np.asarray(ids_NK, dtype=np.int64), order, axis=1)
    log_p = np.take_along_axis(log_p, order, axis=1)
    if log_p.shape[1] == 0 or not np.isfinite(log_p[:, :1]).all():
        raise LogitsError(
            "a position has no token with a finite log-probability",
            next_step="Ask the server for the log-probabilities of every scored token.",
        )
    with np.errstate(divide="ignore"):
        log_p -= np.log(np.maximum(np.exp(log_p).sum(axis=1, keepdims=True), 1.0))
        counts = keep_counts(log_p, truncation)
        kept = np.arange(log_p.shape[1]) < counts[:, None]
        tails = np.log(np.maximum(1.0 - np.where(kept, np.exp(log_p), 0.0).sum(axis=1), 0.0))
    return CapturedRows(
        counts,
        ids[kept],
        log_p[kept].astype(np.float32),
        tails[:, None].astype(np.float32),
        np.zeros((len(counts), 1, 0), dtype=np.int64),
    )


def rows_where(
    present_N: NDArray[np.bool_],
    ids_NK: NDArray[np.integer],
    log_probabilities_NK: NDArray[np.floating],
    truncation: Truncation,
) -> CapturedRows:
    """:func:`rows_from_top` where there is a distribution; elsewhere rows without an event: their tail is all
    there is, and under the tail rule ``bucket`` they cost and teach nothing."""
    log_p_NK = np.array(log_probabilities_NK, dtype=np.float64)
    log_p_NK[~present_N] = -np.inf
    log_p_NK[~present_N, :1] = 0.0  # a row has an entry, even where it means nothing
    rows = rows_from_top(np.where(present_N[:, None], ids_NK, 0), log_p_NK, truncation)
    rows.log_tails_NJ[~present_N] = 0.0
    return rows
