"""The loss of a batch from hidden states and a head: logits exist for a few positions at a time.

The chunk's logits, its loss, and the gradients with respect to its hidden states and to the head are all
computed in the forward pass; what is kept is those two gradients. Memory beyond them is one chunk's, whatever
the vocabulary and the length: no tensor [B, T, V] is made of student or teacher.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from codestill.losses.batch import Loss, Positions, finish, require_labels, require_targets, shared_width
from codestill.losses.chunks import add_terms, rows_at_once
from codestill.losses.objective import CrossEntropy, Distillation
from codestill.losses.targets import LinearTeacher, SparseTargets
from codestill.matmul import add_product, matmul


def linear_loss(
    objective: CrossEntropy | Distillation,
    hidden_BTD: Float[Tensor, "B T D"],
    head_VD: Float[Tensor, "V_student D"],
    labels_BT: Int[Tensor, "B T"],
    teacher: LinearTeacher | SparseTargets | Float[Tensor, "B T V_teacher"] | None = None,
    *,
    normalizer: Float[Tensor, ""] | Int[Tensor, ""] | int | float | None = None,
    vocabulary: int | None = None,
    chunk_tokens: int | None = None,
    fused: bool = False,
) -> Loss:
    """What :func:`codestill.losses.compute.compute` gives for the logits hidden @ head.T, and its gradients.

    Matrix products are taken in the hidden states' dtype; everything between them, and the sum of the head's
    gradient, is float32 (float64 where the hidden states are). The gradients are scaled in place, so that
    they exist once: a second backward pass raises.

    Under autocast the hidden states are taken in its dtype, as a head would take them.

    ``labels_BT``, ``normalizer``, ``vocabulary`` and ``chunk_tokens`` are as in ``compute``, and so are the
    errors. ``fused`` compiles what lies between the matrix products, for CPU or GPU, which takes a while
    once; ConfigError is raised where that is impossible.
    """
    if isinstance(objective, CrossEntropy):
        teacher = None
    teacher_BT, teacher_width = None, None
    if isinstance(teacher, LinearTeacher):
        teacher_BT, teacher_width = teacher.hidden_BTD, teacher.head_VD.shape[0]
    elif isinstance(teacher, Tensor):
        teacher_BT, teacher_width = teacher, teacher.shape[-1]
    require_labels(labels_BT, {"hidden states": hidden_BTD, "the teacher's states": teacher_BT})
    width = shared_width(head_VD.shape[0], teacher_width, vocabulary)
    device = hidden_BTD.device.type
    if torch.is_autocast_enabled(device):
        hidden_BTD = hidden_BTD.to(torch.get_autocast_dtype(device))
    positions = Positions.of(labels_BT, width)
    require_targets(objective, teacher, positions, width)
    if chunk_tokens is None:
        chunk_tokens = rows_at_once(hidden_BTD, width)
    sums = _apply(
        hidden_BTD[positions.rows, positions.columns],
        head_VD,
        source(teacher, positions, width),
        positions,
        objective,
        width,
        chunk_tokens,
        fused,
        torch.is_grad_enabled(),
    )
    return finish(sums, positions, teacher is not None, normalizer)


Source = Callable[[int, int], Tensor | SparseTargets | None]
"""What the teacher says about positions ``start`` to ``end``."""


def source(
    teacher: LinearTeacher | SparseTargets | Tensor | None, positions: Positions, width: int
) -> Source:
    """What the teacher says about some of the scored positions, over ``width`` tokens, when it is asked."""
    if teacher is None:
        return lambda start, end: None
    if isinstance(teacher, SparseTargets):
        return teacher.rows
    if isinstance(teacher, Tensor):
        at = positions.rows, positions.columns
        return lambda start, end: teacher.detach()[at[0][start:end], at[1][start:end], :width]
    hidden_ND = teacher.hidden_BTD.detach()[positions.rows, positions.columns]
    head_DV = teacher.head_VD.detach()[:width].T
    return lambda start, end: matmul(hidden_ND[start:end], head_DV)


class _LinearSum(torch.autograd.Function):
    """[weighted loss, cross-entropy, divergence], each summed over the positions."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        head_VD: Tensor,
        teacher: Source,
        positions: Positions,
        objective: CrossEntropy | Distillation,
        width: int,
        chunk_tokens: int,
        fused: bool,
        grad_enabled: bool,
    ) -> Tensor:
        of_hidden, of_head = (grad_enabled and needed for needed in ctx.needs_input_grad[:2])
        with torch.autocast(hidden_ND.device.type, enabled=False):
            weight_VD = head_VD[:width].to(hidden_ND.dtype)
            precise = torch.float64 if hidden_ND.dtype == torch.float64 else torch.float32
            sums = torch.zeros(3, dtype=precise, device=hidden_ND.device)
            hidden_gradient_ND = torch.empty_like(hidden_ND) if of_hidden else None
            head_gradient_VD = torch.zeros_like(head_VD, dtype=precise) if of_head else None
            for start, end in positions.chunks(chunk_tokens):
                chunk_ND = hidden_ND[start:end]
                logits_NV = matmul(chunk_ND, weight_VD.T)
                given = logits_NV, positions.targets[start:end], teacher(start, end)
                add_terms(objective, *given, sums, of_hidden or of_head, fused=fused)
                gradient_NV = logits_NV.to(hidden_ND.dtype)
                if hidden_gradient_ND is not None:
                    hidden_gradient_ND[start:end] = matmul(gradient_NV, weight_VD)
                if head_gradient_VD is not None:
                    add_product(head_gradient_VD[:width], gradient_NV.T, chunk_ND)
        kept = head_gradient_VD if head_gradient_VD is None else head_gradient_VD.to(head_VD.dtype)
        ctx.save_for_backward(hidden_gradient_ND, kept)
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        scale = grad_outputs[0][0]
        return *(None if kept is None else kept.mul_(scale) for kept in ctx.saved_tensors), *[None] * 7


_apply: Any = torch.compiler.disable(_LinearSum.apply)  # it has its own backward, and nothing to trace
