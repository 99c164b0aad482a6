"""What every form of the loss is tried on: objectives, and small batches of hidden states and heads."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import pytest
import torch
from torch import Tensor

from codestill.losses import DIVERGENCES, CrossEntropy, Distillation
from codestill.losses.batch import LossOptions
from codestill.losses.linear import linear_loss
from codestill.losses.targets import LinearTeacher, SparseTargets
from codestill.types import TailRule

AnyObjective = CrossEntropy | Distillation


def kl(p: Tensor, q: Tensor) -> Tensor:
    return (p.xlogy(p) - p.xlogy(q)).sum(dim=-1)


def mixture(weight: float, p: Tensor, q: Tensor) -> Tensor:
    return weight * p + (1 - weight) * q


FORMULAS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "forward_kl": lambda p, q, _: kl(p, q),
    "reverse_kl": lambda p, q, _: kl(q, p),
    "generalized_jsd": lambda p, q, beta: (
        beta * kl(p, mixture(beta, p, q)) + (1 - beta) * kl(q, mixture(beta, p, q))
    ),
    "skew_kl": lambda p, q, skew: kl(p, mixture(skew, p, q)),
    "skew_reverse_kl": lambda p, q, skew: kl(q, mixture(skew, q, p)),
    "total_variation": lambda p, q, _: (p - q).abs().sum(-1) / 2,
}
"""Every divergence in probabilities of teacher p and student q, as its paper has it; with its parameter."""


def formula(divergence: str, parameters: dict[str, float], p: Tensor, q: Tensor) -> Tensor:
    """Between the ends of generalized_jsd, and what is meant at them: a jump in scale."""
    parameter = next(iter(parameters.values()), 0.0)
    if divergence == "generalized_jsd" and parameter in (0, 1):
        return kl(q, p) if parameter else kl(p, q)
    return FORMULAS[divergence](p, q, parameter)


OBJECTIVES: list[AnyObjective] = [
    CrossEntropy(),
    Distillation(),
    Distillation(alpha=0.0),
    Distillation(alpha=1.0, temperature=1.0),
    Distillation(divergence="reverse_kl", temperature=1.0, alpha=0.9),
    Distillation(divergence="generalized_jsd", temperature=1.5),
    Distillation(divergence="generalized_jsd", beta=0.0),
    Distillation(divergence="generalized_jsd", beta=1.0),
    Distillation(divergence="skew_kl", temperature=0.7),
    Distillation(divergence="skew_reverse_kl", temperature=3.0, skew=0.6),
    Distillation(divergence="total_variation", temperature=2.0),
]
OBJECTIVES += [
    Distillation(divergence=name)
    for name in DIVERGENCES
    if name not in {o.divergence for o in OBJECTIVES if isinstance(o, Distillation)}
]
RULES: tuple[TailRule, ...] = get_args(TailRule)


def name_of(objective: AnyObjective) -> str:
    if isinstance(objective, CrossEntropy):
        return "cross_entropy"
    own = "".join(f",{key}={value}" for key, value in objective.parameters.items())
    return f"{objective.divergence}{own},T={objective.temperature},alpha={objective.alpha}"


every_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=name_of)


@dataclass
class Batch:
    hidden: Tensor
    head: Tensor
    labels: Tensor
    teacher: LinearTeacher


def batch(
    seed: int = 0, B: int = 3, T: int = 9, V: int = 23, D: int = 7, dtype: torch.dtype = torch.float32
) -> Batch:
    """Hidden states, heads, and labels with a prompt of 1 to 3 tokens and up to 2 pads."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64).to(dtype)

    labels = torch.randint(V, (B, T), generator=random)
    for row in range(B):
        labels[row, : 1 + row % 3] = -100
        labels[row, T - row % 3 :] = -100
    return Batch(normal(B, T, D), normal(V, D), labels, LinearTeacher(normal(B, T, D + 2), normal(V, D + 2)))


def gradients(objective: AnyObjective, data: Batch, teacher, **options) -> tuple[Tensor, Tensor, Tensor]:
    hidden, head = (x.clone().requires_grad_() for x in (data.hidden, data.head))
    loss = linear_loss(objective, hidden, head, data.labels, teacher, LossOptions(**options))
    loss.total.backward()
    assert hidden.grad is not None and head.grad is not None
    return loss.total.detach(), hidden.grad, head.grad


def top(data: Batch, k: int, temperature: float, rule: TailRule = "bucket", seed: int = 0) -> SparseTargets:
    """The k likeliest tokens of every scored position; every third row lists one fewer."""
    valid = (data.labels[:, 1:] != -100).flatten()
    logits = (data.teacher.hidden_BTD @ data.teacher.head_VD.T)[:, :-1].flatten(0, 1)[valid].double()
    log_p = (logits / temperature).log_softmax(-1)
    values, ids = log_p.topk(k)
    values[::3, -1], ids[::3, -1] = -math.inf, 0
    listed = torch.zeros_like(log_p).scatter_add_(1, ids, values.exp())
    rest = (log_p.exp() - listed).clamp(min=0)
    rest[listed > 0] = 0
    samples = torch.multinomial(
        rest + 1e-300, 5, replacement=True, generator=torch.Generator().manual_seed(seed)
    )
    dtype = data.hidden.dtype
    return SparseTargets(ids, values.to(dtype), rest.sum(-1).log().to(dtype), temperature, rule, samples)


def allowed(objective: AnyObjective, rule: TailRule) -> bool:
    if not isinstance(objective, Distillation):
        return rule != "sampled"
    forward = objective.divergence == "forward_kl" or objective.beta == 0
    reverse = objective.divergence == "reverse_kl" or objective.beta == 1
    return {"sampled": forward, "renormalise": not reverse}.get(rule, True)
