"""Divergences between the next-token distributions of a teacher and a student.

Each takes logits ``[N, V]`` and gives ``[N]``: one number per position, in nats, summed over the
vocabulary. With P the teacher's distribution softmax(teacher_logits / temperature) and Q the student's:

    forward_kl         KL(P || Q)
    reverse_kl         KL(Q || P)
    generalized_jsd    beta KL(P || M) + (1 - beta) KL(Q || M),  M = beta P + (1 - beta) Q
    skew_kl            KL(P || skew P + (1 - skew) Q)
    skew_reverse_kl    KL(Q || skew Q + (1 - skew) P)

No factor temperature^2 is in them. The gradient goes to the student alone. Computed in float32 whatever the
logits' dtype, in float64 where they are float64. A logit of minus infinity is a token that cannot occur; a
divergence is infinite exactly where its formula is.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from codestill.errors import ConfigError

_NEVER = -1e30  # a finite log-probability whose exponential is zero


def forward_kl(
    student_logits_NV: Float[Tensor, "N V"],
    teacher_logits_NV: Float[Tensor, "N V"],
    temperature: float = 1.0,
) -> Float[Tensor, "N"]:
    """KL(teacher || student) per position: mass-covering (Hinton et al. 2015)."""
    log_p, log_q = _log_probabilities(student_logits_NV, teacher_logits_NV, temperature)
    return _kl(log_p, log_q)


def reverse_kl(
    student_logits_NV: Float[Tensor, "N V"],
    teacher_logits_NV: Float[Tensor, "N V"],
    temperature: float = 1.0,
) -> Float[Tensor, "N"]:
    """KL(student || teacher) per position: mode-seeking (Gu et al. 2024, MiniLLM)."""
    log_p, log_q = _log_probabilities(student_logits_NV, teacher_logits_NV, temperature)
    return _kl(log_q, log_p)


def generalized_jsd(
    student_logits_NV: Float[Tensor, "N V"],
    teacher_logits_NV: Float[Tensor, "N V"],
    temperature: float = 1.0,
    beta: float = 0.5,
) -> Float[Tensor, "N"]:
    """Generalised Jensen-Shannon divergence per position (Agarwal et al. 2024, GKD, eq. 1).

    For 0 < beta < 1 it lies between 0 and the entropy of (beta, 1 - beta). By its formula it vanishes at both
    ends, JSD/beta tending to KL(teacher || student) and JSD/(1 - beta) to KL(student || teacher); so, as in
    GKD, ``beta`` 0 *means* forward_kl and 1 means reverse_kl, which is a jump in scale.

    Raises ConfigError for a ``beta`` outside [0, 1].
    """
    if not 0 <= beta <= 1:
        raise ConfigError(f"beta is {beta}", next_step="Choose beta from 0 (forward_kl) to 1 (reverse_kl).")
    log_p, log_q = _log_probabilities(student_logits_NV, teacher_logits_NV, temperature)
    if beta == 0:
        return _kl(log_p, log_q)
    if beta == 1:
        return _kl(log_q, log_p)
    log_m = _mixture(log_p, log_q, beta)
    return beta * _kl(log_p, log_m) + (1 - beta) * _kl(log_q, log_m)


def skew_kl(
    student_logits_NV: Float[Tensor, "N V"],
    teacher_logits_NV: Float[Tensor, "N V"],
    temperature: float = 1.0,
    skew: float = 0.1,
) -> Float[Tensor, "N"]:
    """KL(teacher || skew teacher + (1 - skew) student) per position (Ko et al. 2024, DistiLLM).

    ``skew`` 0 is forward_kl. Never above -log(skew). Raises ConfigError for a ``skew`` outside [0, 1).
    """
    log_p, log_q = _log_probabilities(student_logits_NV, teacher_logits_NV, temperature)
    return _kl(log_p, _skewed(log_p, log_q, skew))


def skew_reverse_kl(
    student_logits_NV: Float[Tensor, "N V"],
    teacher_logits_NV: Float[Tensor, "N V"],
    temperature: float = 1.0,
    skew: float = 0.1,
) -> Float[Tensor, "N"]:
    """KL(student || skew student + (1 - skew) teacher) per position (Ko et al. 2024, DistiLLM).

    ``skew`` 0 is reverse_kl. Never above -log(skew). Raises ConfigError for a ``skew`` outside [0, 1).
    """
    log_p, log_q = _log_probabilities(student_logits_NV, teacher_logits_NV, temperature)
    return _kl(log_q, _skewed(log_q, log_p, skew))


def widen(logits: Tensor) -> Tensor:
    """The logits in the precision that losses are computed in: float32, or float64 if they are that."""
    return logits if logits.dtype == torch.float64 else logits.float()


def _log_probabilities(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Teacher's (without gradient) and student's log-probabilities, in that order."""
    if not temperature > 0:
        raise ConfigError(
            f"temperature is {temperature}",
            next_step="Choose a temperature above 0; 1 leaves the logits as they are.",
        )
    teacher, student = widen(teacher_logits.detach()), widen(student_logits)
    if temperature != 1:
        teacher, student = teacher / temperature, student / temperature
    return torch.log_softmax(teacher, dim=-1), torch.log_softmax(student, dim=-1)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) over the last dimension; a token with p = 0 counts nothing, whatever its q."""
    p = log_p.exp()
    return (p * (log_p - log_q).masked_fill(p == 0, 0.0)).sum(dim=-1)


def _mixture(log_a: Tensor, log_b: Tensor, weight: float) -> Tensor:
    """log(weight a + (1 - weight) b), for 0 < weight < 1.

    logaddexp has no gradient where both are minus infinity, so one side is held above it.
    """
    return torch.logaddexp(log_a.clamp(min=_NEVER) + math.log(weight), log_b + math.log1p(-weight))


def _skewed(log_first: Tensor, log_second: Tensor, skew: float) -> Tensor:
    if not 0 <= skew < 1:
        raise ConfigError(
            f"skew is {skew}",
            next_step="Choose skew from 0 (no skew) to below 1, where the divergence is always 0.",
        )
    return log_second if skew == 0 else _mixture(log_first, log_second, skew)
