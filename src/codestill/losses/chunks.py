"""Loss and gradient of a few positions at once: the arithmetic that every form of the loss shares.

The gradient is computed in closed form and overwrites the logits, so a chunk needs no autograd graph and only
a few tensors of its own size. ``torch.compile`` can fuse it: the same function, in fewer passes over memory.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from codestill.errors import ConfigError
from codestill.losses.divergences import softmax, temper, terms, widen
from codestill.losses.objective import CrossEntropy, Distillation
from codestill.losses.table import Integrand, resolve_parameter
from codestill.losses.targets import SparseTargets

BLOCK_ELEMENTS = {"cpu": 2**18, "cuda": 2**26}
"""Logits per block: on a CPU as many as fit in a core's cache with the temporaries; on a GPU enough to keep
it busy."""


def rows_at_once(hidden: Tensor, width: int) -> int:
    """Default number of positions per chunk of ``width`` logits: large enough that reading the head and
    adding to its gradient cost little; in float32 on the CPU below 32 MiB, beyond which glibc gets fresh
    memory from the system every time."""
    of_cpu = 8_000_000 if hidden.dtype == torch.float32 else 2**24
    return max(1, (2**27 if hidden.is_cuda else of_cpu) // width)


@dataclass(frozen=True)
class Accumulator:
    """Adds up weighted loss, cross-entropy and divergence over positions, in ``sums`` [3]."""

    objective: CrossEntropy | Distillation
    sums: Tensor
    differentiate: bool
    """Whether gradients are needed."""
    fused: bool = False
    """Compile the arithmetic, which changes its time and, in the last places, its rounding."""

    def add(self, logits_NV: Tensor, targets_N: Tensor, teacher: Tensor | SparseTargets | None) -> None:
        """Add the terms of N positions.

        ``logits_NV`` is in the precision of the computation; with ``differentiate`` it becomes the gradient
        of the weighted loss with respect to itself. Teacher logits [N, V] may be in any. A term of weight
        zero is measured and takes no part in the loss: an infinite divergence cannot reach it. Raises
        ConfigError where the arithmetic cannot be compiled.
        """
        add_block = _fused if self.fused else _add_block
        elements = BLOCK_ELEMENTS.get(logits_NV.device.type, BLOCK_ELEMENTS["cuda"])
        rows = max(1, elements // logits_NV.shape[1])
        for start in range(0, len(logits_NV), rows):
            end = min(start + rows, len(logits_NV))
            part = teacher.rows(start, end) if isinstance(teacher, SparseTargets) else teacher
            part = part[start:end] if isinstance(part, Tensor) else part
            block = logits_NV[start:end], targets_N[start:end], part
            add_block(self.objective, *block, self.sums, self.differentiate)


def _fused(*arguments: Any) -> None:
    # One recompilation for each objective, precision and kind of target; beyond the limit nothing is fused.
    with torch._dynamo.config.patch(recompile_limit=64):
        try:
            _compiled()(*arguments)
        except TorchDynamoException as error:
            raise ConfigError(
                f"the loss could not be compiled: {str(error).strip().splitlines()[0]}",
                next_step="Set execution.fused_loss to false, or install a C++ compiler, on a GPU Triton.",
            ) from error


@cache
def _compiled() -> Any:
    return torch.compile(_add_block, dynamic=True)


def _add_block(
    objective: CrossEntropy | Distillation,
    logits_NV: Tensor,
    targets_N: Tensor,
    teacher: Tensor | SparseTargets | None,
    sums: Tensor,
    differentiate: bool,
) -> None:
    alpha = objective.alpha if isinstance(objective, Distillation) else 0.0
    divergence, gradient_NV = None, None
    if isinstance(objective, Distillation) and teacher is not None:
        _, integrand = resolve_parameter(objective.divergence, objective.parameters)
        # The gradient is with respect to logits / T, so T^2 is left with one T.
        scale = alpha * objective.temperature if differentiate else 0.0
        settings = integrand, logits_NV, objective.temperature, scale
        sparse = isinstance(teacher, SparseTargets)
        divergence, gradient_NV = _sparse(*settings, teacher) if sparse else _dense(*settings, teacher)
        sums[2] += divergence
    q_NV, log_q_of = softmax(logits_NV)
    cross_entropy = -log_q_of(logits_NV.gather(1, targets_N[:, None])).sum()
    sums[1] += cross_entropy
    if divergence is None or alpha == 0:
        sums[0] += cross_entropy
    else:
        distillation = alpha * objective.temperature**2 * divergence  # pyright: ignore[reportAttributeAccessIssue]
        sums[0] += distillation if alpha == 1 else distillation + (1 - alpha) * cross_entropy
    if not differentiate:
        return
    if alpha < 1:
        q_NV.scatter_add_(1, targets_N[:, None], -torch.ones_like(q_NV[:, :1]))
        if gradient_NV is None:
            logits_NV.copy_(q_NV)
        else:
            torch.add(gradient_NV, q_NV, alpha=1 - alpha, out=logits_NV)
    elif gradient_NV is not None:
        logits_NV.copy_(gradient_NV)


def _dense(
    integrand: Integrand, logits_NV: Tensor, temperature: float, scale: float, teacher_NV: Tensor
) -> tuple[Tensor, Tensor | None]:
    """The divergence, summed, and ``scale`` times its gradient with respect to logits / temperature (None at
    scale 0)."""
    p_NV, log_p_NV = _softmax_and_log(temper(widen(teacher_NV), temperature))
    q_NV, log_q_NV = _softmax_and_log(temper(widen(logits_NV), temperature))
    value_N, gradient_NV = terms(integrand, p_NV, q_NV, log_p_NV, log_q_NV)
    return value_N.sum(), gradient_NV.mul_(scale) if scale else None


def _softmax_and_log(logits_NV: Tensor) -> tuple[Tensor, Tensor]:
    p_NV, log_p_of = softmax(logits_NV)
    return p_NV, log_p_of(logits_NV)


def _sparse(
    integrand: Integrand, logits_NV: Tensor, temperature: float, scale: float, teacher: SparseTargets
) -> tuple[Tensor, Tensor | None]:
    """As :func:`_dense`, over the outcomes that the targets list and, by their rule, the rest."""
    logits_NV = temper(logits_NV, temperature)
    q_NV, log_q_of = softmax(logits_NV)
    log_p_NK = teacher.log_probabilities_NK.to(q_NV.dtype)
    listed_NK = log_p_NK > -torch.inf
    log_q_NK = log_q_of(logits_NV.gather(1, teacher.ids_NK))
    # Padding gets the id of the row's first listed token, and scatters the same value as that token.
    first_N1 = listed_NK.to(torch.uint8).argmax(dim=-1, keepdim=True)
    ids_NK = torch.where(listed_NK, teacher.ids_NK, teacher.ids_NK.gather(1, first_N1))
    any_listed_N1 = listed_NK.any(dim=-1, keepdim=True)
    kept_NK = torch.where(any_listed_N1, 0.0, log_q_of(logits_NV.gather(1, ids_NK)).exp())
    rest_NV = q_NV.scatter_(1, ids_NK, kept_NK)
    rest_N = rest_NV.sum(dim=-1)
    log_tail_N = teacher.log_tail_N.to(q_NV.dtype)
    if teacher.rule == "renormalise":
        log_p_NK = log_p_NK - log_p_NK.logsumexp(dim=-1, keepdim=True)
        log_tail_N = torch.full_like(log_tail_N, -torch.inf)
    # The outcomes: every listed token, then the rest, or its samples, or nothing.
    log_p, log_q = log_p_NK, log_q_NK.masked_fill(~listed_NK, -torch.inf)
    if teacher.rule in ("bucket", "renormalise"):
        log_p = torch.cat([log_p, log_tail_N[:, None]], dim=1)
        log_q = torch.cat([log_q, rest_N.log()[:, None]], dim=1)
    elif teacher.rule == "sampled":
        assert teacher.samples_NM is not None
        samples_NM = teacher.samples_NM
        share_N1 = log_tail_N[:, None] - math.log(samples_NM.shape[1])
        log_p = torch.cat([log_p, share_N1.expand(samples_NM.shape)], dim=1)
        log_q = torch.cat([log_q, log_q_of(logits_NV.gather(1, samples_NM))], dim=1)
    q = log_q.exp()
    value, pull = integrand(log_p.exp(), q, log_p, log_q)
    if not scale:
        return value.sum(), None
    pull = pull * scale
    total_N1 = pull.sum(dim=-1, keepdim=True)
    K = log_p_NK.shape[1]
    of_rest_N1 = -total_N1
    if teacher.rule in ("bucket", "renormalise"):
        of_rest_N1 = of_rest_N1 + (pull[:, K] / rest_N.clamp(min=torch.finfo(rest_N.dtype).tiny))[:, None]
    gradient_NV = rest_NV.mul_(of_rest_N1)
    of_listed_NK = torch.where(listed_NK, pull[:, :K] - q[:, :K] * total_N1, 0.0)
    gradient_NV.scatter_add_(1, ids_NK, of_listed_NK)
    if teacher.rule == "sampled":
        assert teacher.samples_NM is not None
        gradient_NV.scatter_add_(1, teacher.samples_NM, pull[:, K:])
    return value.sum(), gradient_NV
