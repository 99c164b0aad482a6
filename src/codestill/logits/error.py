"""How much the cache loses: against the forward KL over the whole vocabulary, in value and gradient."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from codestill.logits.manifest import CaptureSpec, MeasuredError
from codestill.logits.rows import REST, Rows, SparseRows, target
from codestill.logits.shard import roundtrip
from codestill.types import TailRule

CHUNK_ELEMENTS = 2**20

UNIGRAM = "unigram"


def measure(
    teacher_logits_NV: NDArray[np.floating],
    rows: Rows,
    student_logits_NV: NDArray[np.floating],
    spec: CaptureSpec,
    student: str,
) -> tuple[MeasuredError, ...]:
    """The error at every temperature under every tail rule that the cache can serve.

    ``rows`` are of the same N positions, and go through the bytes of the format first. ``student`` names the
    reference whose logits are given; without one give :func:`unigram_logits` and ``UNIGRAM``.
    """
    measured = []
    for temperature in spec.temperatures:
        decoded = roundtrip(rows, spec, temperature)
        for rule in spec.tail_rules:
            value, kl_error, gradient_error = errors(
                teacher_logits_NV[:, : spec.vocabulary],
                decoded,
                student_logits_NV[:, : spec.vocabulary],
                rule,
            )
            measured.append(
                MeasuredError(
                    temperature=temperature,
                    rule=rule,
                    student=student,
                    positions=len(rows),
                    kl=value,
                    kl_error=kl_error,
                    gradient_error=gradient_error,
                )
            )
    return tuple(measured)


def errors(
    teacher_logits_NV: NDArray[np.floating],
    rows: SparseRows,
    student_logits_NV: NDArray[np.floating],
    rule: TailRule,
) -> tuple[float, float, float]:
    """(mean KL over the whole vocabulary, absolute error of the mean, relative error of the gradient).

    KL in nats at the rows' temperature; gradients with respect to the student's logits, Frobenius norms over
    all positions. In float64, a chunk of positions at a time.
    """
    outcomes = target(rows, rule)
    width = teacher_logits_NV.shape[1]
    step = max(1, CHUNK_ELEMENTS // width)
    kl = kl_cached = squared = squared_error = 0.0
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        log_p = _log_softmax(teacher_logits_NV[part] / rows.temperature)
        log_q = _log_softmax(student_logits_NV[part] / rows.temperature)
        p, q = np.exp(log_p), np.exp(log_q)
        kl += float(_weighted(p, log_p - log_q).sum())
        value, gradient = sparse_kl(outcomes.ids_NO[part], outcomes.log_probabilities_NO[part], log_q)
        kl_cached += value
        squared += float(np.square(q - p).sum())
        squared_error += float(np.square(q - p - gradient).sum())
    kl, kl_cached = kl / len(rows), kl_cached / len(rows)
    return kl, abs(kl - kl_cached), float(np.sqrt(squared_error / max(squared, np.finfo(float).tiny)))


def sparse_kl(
    ids_NO: NDArray[np.integer], log_probabilities_NO: NDArray[np.floating], log_q_NV: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Sum over positions of sum_o p_o log(p_o / q_o), and its gradient [N, V] in the student's logits.

    The gradient is the one at temperature 1 of logits that are scaled already: both sides of a comparison
    lack the same 1/T. For outcome REST, q is the student's mass on all tokens that are not listed.
    """
    log_p = log_probabilities_NO.astype(np.float64)
    rest_NO = ids_NO == REST
    ids = np.where(rest_NO, 0, ids_NO)
    q_NV = np.exp(log_q_NV)
    listed_NO = ~rest_NO & np.isfinite(log_p)
    rows_NO = np.broadcast_to(np.arange(len(ids))[:, None], ids.shape)

    others_NV = q_NV.copy()
    others_NV[rows_NO[listed_NO], ids[listed_NO]] = 0
    others_N1 = np.maximum(others_NV.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    log_q = np.where(rest_NO, np.log(others_N1), np.take_along_axis(log_q_NV, ids, axis=1))
    value = float(_weighted(np.exp(log_p), log_p - log_q).sum())

    p_NO = np.exp(log_p)
    gradient = p_NO.sum(axis=1, keepdims=True) * q_NV
    gradient -= (p_NO * rest_NO).sum(axis=1, keepdims=True) / others_N1 * others_NV
    np.subtract.at(gradient, (rows_NO[listed_NO], ids[listed_NO]), p_NO[listed_NO])
    return value, gradient


def unigram_logits(tokens: Sequence[int], vocabulary: int, positions: int) -> NDArray[np.float64]:
    """A reference where no student is at hand: add-one smoothed frequencies of ``tokens``; a view [N, V]."""
    counts_V = np.bincount(np.asarray(tokens, dtype=np.int64), minlength=vocabulary)[:vocabulary] + 1
    return np.broadcast_to(np.log(counts_V / counts_V.sum()), (positions, vocabulary))


def _log_softmax(logits_NV: NDArray[np.floating]) -> NDArray[np.float64]:
    wide = logits_NV.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))


def _weighted(p: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """p times values, where zero times infinity is zero."""
    with np.errstate(invalid="ignore"):
        return np.where(p > 0, p * values, 0.0)
