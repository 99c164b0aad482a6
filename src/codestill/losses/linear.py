"""The loss of a batch from hidden states and a head: logits exist for a few positions at a time.

The chunk's logits, its loss, and the gradients with respect to its hidden states and to the head are all
computed in the forward pass; only those two gradients are kept. Memory beyond them is one chunk's, whatever
the vocabulary and the length: no tensor [B, T, V] of student or teacher exists.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from codestill.losses.batch import (
    DEFAULT_OPTIONS,
    Loss,
    LossOptions,
    LossPlan,
    Positions,
    TeacherSlices,
    loss_from_sums,
    require_labels,
    require_targets,
    shared_width,
    teacher_slices,
)
from codestill.losses.chunks import Accumulator, rows_at_once
from codestill.losses.objective import CrossEntropy, Distillation
from codestill.losses.targets import LinearTeacher, SparseTargets
from codestill.matmul import add_product, matmul


def linear_loss(
    objective: CrossEntropy | Distillation,
    hidden_BTD: Float[Tensor, "B T D"],
    head_VD: Float[Tensor, "V_student D"],
    labels_BT: Int[Tensor, "B T"],
    teacher: LinearTeacher | SparseTargets | Float[Tensor, "B T V_teacher"] | None = None,
    options: LossOptions = DEFAULT_OPTIONS,
) -> Loss:
    """The loss of :func:`codestill.losses.compute.compute` for the logits hidden @ head.T, and its gradients.

    Matrix products are taken in the hidden states' dtype; everything between them, and the sum of the head's
    gradient, is float32 (float64 where the hidden states are). The gradients are scaled in place, so that
    they exist once: a second backward pass raises.

    Under autocast the hidden states are taken in its dtype, as a head would take them.

    ``labels_BT``, ``options`` and the errors are as for ``compute``.
    """
    if isinstance(objective, CrossEntropy):
        teacher = None
    teacher_BT, teacher_width = None, None
    if isinstance(teacher, LinearTeacher):
        teacher_BT, teacher_width = teacher.hidden_BTD, teacher.head_VD.shape[0]
    elif isinstance(teacher, Tensor):
        teacher_BT, teacher_width = teacher, teacher.shape[-1]
    require_labels(labels_BT, {"hidden states": hidden_BTD, "the teacher's states": teacher_BT})
    width = shared_width(head_VD.shape[0], teacher_width, options.vocabulary)
    device = hidden_BTD.device.type
    if torch.is_autocast_enabled(device):
        hidden_BTD = hidden_BTD.to(torch.get_autocast_dtype(device))
    positions = Positions.of(labels_BT, width)
    require_targets(objective, teacher, positions, width)
    plan = LossPlan(
        objective,
        positions,
        width,
        options.chunk_tokens or rows_at_once(hidden_BTD, width),
        options.fused,
        torch.is_grad_enabled(),
    )
    hidden_ND = hidden_BTD[positions.rows, positions.columns]
    sums = _apply(hidden_ND, head_VD, teacher_slices(teacher, positions, width), plan)
    return loss_from_sums(sums, positions, teacher is not None, options.normalizer)


class _LinearSum(torch.autograd.Function):
    """[weighted loss, cross-entropy, divergence], each summed over the positions."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        head_VD: Tensor,
        teacher: TeacherSlices,
        plan: LossPlan,
    ) -> Tensor:
        of_hidden, of_head = (plan.grad_enabled and needed for needed in ctx.needs_input_grad[:2])
        width, targets_N = plan.width, plan.positions.targets
        with torch.autocast(hidden_ND.device.type, enabled=False):
            weight_VD = head_VD[:width].to(hidden_ND.dtype)
            precise = torch.float64 if hidden_ND.dtype == torch.float64 else torch.float32
            sums = torch.zeros(3, dtype=precise, device=hidden_ND.device)
            hidden_gradient_ND = torch.empty_like(hidden_ND) if of_hidden else None
            head_gradient_VD = torch.zeros_like(head_VD, dtype=precise) if of_head else None
            accumulator = Accumulator(plan.objective, sums, of_hidden or of_head, plan.fused)
            for start, end in plan.positions.chunks(plan.chunk_tokens):
                chunk_ND = hidden_ND[start:end]
                logits_NV = matmul(chunk_ND, weight_VD.T)
                accumulator.add(logits_NV, targets_N[start:end], teacher(start, end))
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
        of_hidden, of_head = (None if kept is None else kept.mul_(scale) for kept in ctx.saved_tensors)
        return of_hidden, of_head, None, None


_apply: Any = torch.compiler.disable(_LinearSum.apply)  # it has its own backward; there is nothing to trace
