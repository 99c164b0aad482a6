"""A plain numpy form of the tail rules and of forward KL, which the loss that trains is held to."""

from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from tests.logits.made import log_softmax

from codestill.logits import SparseRows
from codestill.types import TailRule

TAIL_RULES: tuple[TailRule, ...] = get_args(TailRule)

REST = -1
"""The id of the outcome "any token that is not listed"."""


@dataclass(frozen=True)
class Target:
    """N distributions over O outcomes: a token each, or REST."""

    ids_NO: NDArray[np.int64]
    """Token ids; REST (-1) is every token that is not listed before it. Pads and samples may repeat an id."""
    log_probabilities_NO: NDArray[np.float64]
    """Minus infinity is an outcome that cannot occur. Under `drop` a row sums to less than one."""


def target(rows: SparseRows, rule: TailRule) -> Target:
    """The distribution that a loss pulls the student to.

    O is K + 1 for `bucket`, K for `renormalise` and `drop`, K + M for `sampled` (Anshumann et al. 2025 draw
    from the whole distribution; here only the tail is sampled, which has the same mean and less variance).
    """
    ids, log_p, log_tail = rows.ids_NK, rows.log_probabilities_NK.astype(float), rows.log_tail_N.astype(float)
    if rule == "drop":
        return Target(ids, log_p)
    if rule == "renormalise":
        top_N1 = log_p[:, :1]
        kept_N1 = top_N1 + np.log(np.exp(log_p - top_N1).sum(axis=1, keepdims=True))
        return Target(ids, log_p - kept_N1)
    if rule == "bucket":
        rest_N1 = np.full((len(rows), 1), REST)
        return Target(np.hstack([ids, rest_N1]), np.hstack([log_p, log_tail[:, None]]))
    assert rows.samples_NM is not None
    samples = rows.samples_NM
    share_N1 = log_tail[:, None] - np.log(samples.shape[1])
    shares = np.broadcast_to(share_N1, samples.shape)
    return Target(np.hstack([ids, samples]), np.hstack([log_p, shares]))


def errors(
    teacher_logits_NV: NDArray[np.floating],
    rows: SparseRows,
    student_logits_NV: NDArray[np.floating],
    rule: TailRule,
) -> tuple[float, float, float]:
    """(mean KL over the whole vocabulary, absolute error of the mean, relative error of the gradient).

    KL in nats at the rows' temperature; gradients with respect to the student's logits, Frobenius norms over
    all positions, in float64.
    """
    outcomes = target(rows, rule)
    log_p = log_softmax(teacher_logits_NV.astype(np.float64) / rows.temperature)
    log_q = log_softmax(student_logits_NV.astype(np.float64) / rows.temperature)
    p, q = np.exp(log_p), np.exp(log_q)
    kl = float(_weighted(p, log_p - log_q).sum()) / len(rows)
    value, gradient = sparse_kl(outcomes.ids_NO, outcomes.log_probabilities_NO, log_q)
    relative = np.linalg.norm(q - p - gradient) / max(np.linalg.norm(q - p), np.finfo(float).tiny)
    return kl, abs(kl - value / len(rows)), float(relative)


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


def _weighted(p: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """p times values, where zero times infinity is zero."""
    with np.errstate(invalid="ignore"):
        return np.where(p > 0, p * values, 0.0)
