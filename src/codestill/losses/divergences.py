"""Divergences between the next-token distributions of a teacher and a student, over whole logits.

``codestill.losses.table`` lists them, with formulas and papers. No factor temperature^2 is in them. The
gradient goes to the student alone. Computed in float32 whatever the logits' dtype, in float64 where they are
float64. A logit of minus infinity is a token that cannot occur; a divergence is infinite exactly where its
formula is.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from codestill.errors import ConfigError
from codestill.losses.table import Integrand, resolve_parameter


def divergence(
    name: str,
    student_logits_NV: Float[Tensor, "N V"],
    teacher_logits_NV: Float[Tensor, "N V"],
    temperature: float = 1.0,
    **parameters: float,
) -> Float[Tensor, "N"]:
    """One number per position, in nats, summed over the vocabulary; ``parameters`` are the divergence's own.

    Raises ConfigError for a name that is not in the table, and a temperature or parameter out of range.
    """
    _, integrand = resolve_parameter(name, parameters)
    log_p_NV = torch.log_softmax(temper(widen(teacher_logits_NV.detach()), temperature), dim=-1)
    log_q_NV = torch.log_softmax(temper(widen(student_logits_NV), temperature), dim=-1)
    return _Terms.apply(log_q_NV, log_p_NV, integrand)  # type: ignore[no-any-return]


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


def softmax(logits: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Softmax over the last dimension; and a function from logits, all or some of each row, to their
    log-probabilities. By the larger logit: the exponential of a log-softmax would cost more than both, and a
    logarithm of the whole softmax two more passes."""
    p = torch.softmax(logits, dim=-1)
    largest, log_of_largest = logits.amax(dim=-1, keepdim=True), p.amax(dim=-1, keepdim=True).log_()
    return p, lambda picked: (picked - largest).add_(log_of_largest)


def terms(
    integrand: Integrand, p_NV: Tensor, q_NV: Tensor, log_p_NV: Tensor, log_q_NV: Tensor
) -> tuple[Tensor, Tensor]:
    """The divergence [N], and its gradient [N, V] with respect to logits whose softmax is ``q_NV``."""
    value_NV, pull_NV = integrand(p_NV, q_NV, log_p_NV, log_q_NV)
    total_N1 = pull_NV.sum(dim=-1, keepdim=True)
    return value_NV.sum(dim=-1), torch.addcmul(pull_NV, q_NV, total_N1, value=-1)


class _Terms(torch.autograd.Function):
    """:func:`terms` for autograd, as a function of the student's log-probabilities.

    The gradient that it gives sums to zero over the vocabulary, and so passes the log-softmax unchanged.
    """

    @staticmethod
    def forward(ctx: Any, log_q_NV: Tensor, log_p_NV: Tensor, integrand: Integrand) -> Tensor:
        value_N, gradient_NV = terms(integrand, log_p_NV.exp(), log_q_NV.exp(), log_p_NV, log_q_NV)
        ctx.save_for_backward(gradient_NV)
        return value_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient_NV,) = ctx.saved_tensors
        return gradient_NV * grad_outputs[0][:, None], None, None
