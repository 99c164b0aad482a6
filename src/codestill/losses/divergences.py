"""Divergences between the next-token distributions of a teacher and a student.

Each takes logits ``[N, V]`` and gives ``[N]``: one number per position, in nats, summed over the
vocabulary. With P the teacher's distribution softmax(teacher_logits / temperature) and Q the student's:

    forward_kl         KL(P || Q)
    reverse_kl         KL(Q || P)
    generalized_jsd    beta KL(P || M) + (1 - beta) KL(Q || M),  M = beta P + (1 - beta) Q
    skew_kl            KL(P || skew P + (1 - skew) Q)
    skew_reverse_kl    KL(Q || skew Q + (1 - skew) P)
    total_variation    sum |P - Q| / 2

No factor temperature^2 is in them. The gradient goes to the student alone. Computed in float32 whatever the
logits' dtype, in float64 where they are float64. A logit of minus infinity is a token that cannot occur; a
divergence is infinite exactly where its formula is.

Each is written once, as an :data:`Integrand` over outcomes. The vocabulary's tokens are the outcomes here;
for a cached teacher they are the kept tokens and the rest together (``codestill.losses.chunks``).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from codestill.errors import ConfigError

Integrand = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(p, q, log p, log q) of every outcome -> its term f(p, q) of the divergence, and q df/dq.

``p`` may be written over."""


def forward_kl(
    student_logits_NV: Float[Tensor, "N V"],
    teacher_logits_NV: Float[Tensor, "N V"],
    temperature: float = 1.0,
) -> Float[Tensor, "N"]:
    """KL(teacher || student) per position: mass-covering (Hinton et al. 2015)."""
    return _divergence(student_logits_NV, teacher_logits_NV, temperature, integrand("forward_kl"))


def reverse_kl(
    student_logits_NV: Float[Tensor, "N V"],
    teacher_logits_NV: Float[Tensor, "N V"],
    temperature: float = 1.0,
) -> Float[Tensor, "N"]:
    """KL(student || teacher) per position: mode-seeking (Gu et al. 2024, MiniLLM)."""
    return _divergence(student_logits_NV, teacher_logits_NV, temperature, integrand("reverse_kl"))


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
    jsd = integrand("generalized_jsd", beta=beta)
    return _divergence(student_logits_NV, teacher_logits_NV, temperature, jsd)


def skew_kl(
    student_logits_NV: Float[Tensor, "N V"],
    teacher_logits_NV: Float[Tensor, "N V"],
    temperature: float = 1.0,
    skew: float = 0.1,
) -> Float[Tensor, "N"]:
    """KL(teacher || skew teacher + (1 - skew) student) per position (Ko et al. 2024, DistiLLM).

    ``skew`` 0 is forward_kl. Never above -log(skew). Raises ConfigError for a ``skew`` outside [0, 1).
    """
    skewed = integrand("skew_kl", skew=skew)
    return _divergence(student_logits_NV, teacher_logits_NV, temperature, skewed)


def skew_reverse_kl(
    student_logits_NV: Float[Tensor, "N V"],
    teacher_logits_NV: Float[Tensor, "N V"],
    temperature: float = 1.0,
    skew: float = 0.1,
) -> Float[Tensor, "N"]:
    """KL(student || skew student + (1 - skew) teacher) per position (Ko et al. 2024, DistiLLM).

    ``skew`` 0 is reverse_kl. Never above -log(skew). Raises ConfigError for a ``skew`` outside [0, 1).
    """
    skewed = integrand("skew_reverse_kl", skew=skew)
    return _divergence(student_logits_NV, teacher_logits_NV, temperature, skewed)


def total_variation(
    student_logits_NV: Float[Tensor, "N V"],
    teacher_logits_NV: Float[Tensor, "N V"],
    temperature: float = 1.0,
) -> Float[Tensor, "N"]:
    """Half the sum of |teacher - student| per position, between 0 and 1 (Wen et al. 2023, f-distill).

    Of first order in the difference: times temperature^2 its gradient grows with the temperature.
    """
    return _divergence(student_logits_NV, teacher_logits_NV, temperature, integrand("total_variation"))


def integrand(divergence: str, *, beta: float = 0.5, skew: float = 0.1) -> Integrand:
    """The divergence's term for an outcome, its parameter bound. Raises ConfigError where that is out of
    range."""
    if not 0 <= beta <= 1:
        raise ConfigError(f"beta is {beta}", next_step="Choose beta from 0 (forward_kl) to 1 (reverse_kl).")
    if not 0 <= skew < 1:
        raise ConfigError(
            f"skew is {skew}",
            next_step="Choose skew from 0 (no skew) to below 1, where the divergence is always 0.",
        )
    return {
        "forward_kl": _forward,
        "reverse_kl": _reverse,
        "generalized_jsd": _forward if beta == 0 else _reverse if beta == 1 else partial(_jsd, beta),
        "skew_kl": partial(_skewed, skew) if skew else _forward,
        "skew_reverse_kl": partial(_skewed_reverse, skew) if skew else _reverse,
        "total_variation": _variation,
    }[divergence]


def temper(logits: Tensor, temperature: float) -> Tensor:
    """The logits over ``temperature``. Raises ConfigError where it is not above 0."""
    if not temperature > 0:
        raise ConfigError(
            f"temperature is {temperature}",
            next_step="Choose a temperature above 0; 1 leaves the logits as they are.",
        )
    return logits if temperature == 1 else logits / temperature


def widen(logits: Tensor) -> Tensor:
    """The logits in the precision that losses are computed in: float32, or float64 if they are that."""
    return logits if logits.dtype == torch.float64 else logits.float()


def softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax and its logarithm. The exponential of a log-softmax would cost more than both."""
    p = torch.softmax(logits, dim=-1)
    largest, log_of_largest = logits.amax(dim=-1, keepdim=True), p.amax(dim=-1, keepdim=True).log_()
    return p, (logits - largest).add_(log_of_largest)


def terms(
    of: Integrand, p_NV: Tensor, q_NV: Tensor, log_p_NV: Tensor, log_q_NV: Tensor
) -> tuple[Tensor, Tensor]:
    """The divergence [N], and its gradient [N, V] with respect to logits whose softmax is ``q_NV``."""
    value_NV, pull_NV = of(p_NV, q_NV, log_p_NV, log_q_NV)
    total_N1 = pull_NV.sum(dim=-1, keepdim=True)
    return value_NV.sum(dim=-1), torch.addcmul(pull_NV, q_NV, total_N1, value=-1)


def _divergence(student_NV: Tensor, teacher_NV: Tensor, temperature: float, of: Integrand) -> Tensor:
    log_p_NV = torch.log_softmax(temper(widen(teacher_NV.detach()), temperature), dim=-1)
    log_q_NV = torch.log_softmax(temper(widen(student_NV), temperature), dim=-1)
    return _Terms.apply(log_q_NV, log_p_NV, of)


class _Terms(torch.autograd.Function):
    """:func:`terms` for autograd, as a function of the student's log-probabilities.

    The gradient that it gives sums to zero over the vocabulary, and so passes the log-softmax unchanged.
    """

    @staticmethod
    def forward(ctx: Any, log_q_NV: Tensor, log_p_NV: Tensor, of: Integrand) -> Tensor:
        value_N, gradient_NV = terms(of, log_p_NV.exp(), log_q_NV.exp(), log_p_NV, log_q_NV)
        ctx.save_for_backward(gradient_NV)
        return value_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient_NV,) = ctx.saved_tensors
        return gradient_NV * grad_outputs[0][:, None], None, None


# An outcome of probability 0 adds nothing where the formula has 0 log 0, whatever is on the other side.


def _forward(p: Tensor, q: Tensor, log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    return (log_p - log_q).masked_fill_(p == 0, 0.0).mul_(p), p.neg_()


def _reverse(p: Tensor, q: Tensor, log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    value = (log_q - log_p).masked_fill_(q == 0, 0.0).mul_(q)
    return value, value + q


def _jsd(beta: float, p: Tensor, q: Tensor, log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    log_m = (beta * p + (1 - beta) * q).log_()
    of_p = p * (log_p - log_m).masked_fill_(p == 0, 0.0)
    of_q = q * (log_q - log_m).masked_fill_(q == 0, 0.0)
    return beta * of_p + (1 - beta) * of_q, (1 - beta) * of_q


def _skewed(skew: float, p: Tensor, q: Tensor, log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    m = skew * p + (1 - skew) * q
    value = p * (log_p - m.log()).masked_fill_(p == 0, 0.0)
    return value, (p * q).mul_(skew - 1).div_(m).masked_fill_(p == 0, 0.0)


def _skewed_reverse(skew: float, p: Tensor, q: Tensor, log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    m = skew * q + (1 - skew) * p
    value = q * (log_q - m.log()).masked_fill_(q == 0, 0.0)
    return value, value + q - (q * q).mul_(skew).div_(m).masked_fill_(q == 0, 0.0)


def _variation(p: Tensor, q: Tensor, log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    apart = (q - p) / 2
    return apart.abs(), q * apart.sign() / 2
