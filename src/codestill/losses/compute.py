"""The loss of a batch under an objective, without a second tensor of vocabulary size per intermediate.

Only positions that predict a completion token are touched. They are taken a chunk at a time: the chunk's
loss and its gradient with respect to the student's logits are both computed in the forward pass, in float32,
and only the gradient is kept, in the logits' dtype. Memory beyond the logits and that gradient is one
chunk's. ``codestill.losses.linear`` does without the logits, too.
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
from codestill.losses.chunks import BLOCK_ELEMENTS, Accumulator
from codestill.losses.divergences import widen
from codestill.losses.objective import CrossEntropy, Distillation
from codestill.losses.targets import SparseTargets


def compute(
    objective: CrossEntropy | Distillation,
    student_logits_BTV: Float[Tensor, "B T V_student"],
    labels_BT: Int[Tensor, "B T"],
    teacher: Float[Tensor, "B T V_teacher"] | SparseTargets | None = None,
    options: LossOptions = DEFAULT_OPTIONS,
    *,
    reuse_student_logits: bool = False,
) -> Loss:
    """The objective's loss: summed over valid tokens, divided by the normalizer.

    ``labels_BT`` are token ids as in the input, not shifted, with -100 on the prompt and on pads; the logits
    at ``t`` are scored against the label at ``t + 1``, and against the teacher's logits at ``t``.

    teacher: its logits for every position, or its sparse targets for the scored ones.
    options: normalizer, shared vocabulary, size of a chunk, compilation.
    reuse_student_logits: write the gradient over ``student_logits_BTV``, whose values are then lost: saves
        one tensor of that size. Autograd raises if another operation still needs the values, and in a
        second backward pass.

    A batch without valid tokens gives a zero loss with zero gradients. No gradient reaches the teacher.

    Raises LogitsError when the objective needs teacher logits that are missing, of another shape or, being
    sparse, of another temperature; VocabularyError when widths differ and the shared vocabulary is not given,
    or it does not fit; ConfigError when the loss is to be compiled and cannot be.
    """
    if isinstance(objective, CrossEntropy):
        teacher = None
    dense = teacher if isinstance(teacher, Tensor) else None
    require_labels(labels_BT, {"student logits": student_logits_BTV, "teacher logits": dense})
    teacher_width = None if dense is None else dense.shape[-1]
    width = shared_width(student_logits_BTV.shape[-1], teacher_width, options.vocabulary)
    positions = Positions.of(labels_BT, width)
    require_targets(objective, teacher, positions, width)
    elements = BLOCK_ELEMENTS.get(student_logits_BTV.device.type, BLOCK_ELEMENTS["cuda"])
    plan = LossPlan(
        objective,
        positions,
        width,
        options.chunk_tokens or max(1, elements // width),
        options.fused,
        torch.is_grad_enabled(),
    )
    slices = teacher_slices(teacher, positions, width)
    sums = _ChunkedSum.apply(student_logits_BTV, slices, plan, reuse_student_logits)
    return loss_from_sums(sums, positions, teacher is not None, options.normalizer)


class _ChunkedSum(torch.autograd.Function):
    """[weighted loss, cross-entropy, divergence], each summed over the valid tokens."""

    @staticmethod
    def forward(
        ctx: Any,
        student_BTV: Tensor,
        teacher: TeacherSlices,
        plan: LossPlan,
        reuse: bool,
    ) -> Tensor:
        positions, width = plan.positions, plan.width
        differentiate = plan.grad_enabled and ctx.needs_input_grad[0]
        # The gradient is kept without the normaliser, which reaches backward together with a loss scale: in
        # float16 it would be lost otherwise.
        gradient_BTV = None
        if differentiate:
            gradient_BTV = student_BTV if reuse else torch.zeros_like(student_BTV)
        ctx.reuse = reuse
        dtype = torch.float64 if student_BTV.dtype == torch.float64 else torch.float32
        sums = torch.zeros(3, dtype=dtype, device=student_BTV.device)
        accumulator = Accumulator(plan.objective, sums, differentiate, plan.fused)
        for start, end in positions.chunks(plan.chunk_tokens):
            rows, columns = positions.rows[start:end], positions.columns[start:end]
            # Indexing copies: the chunk's own logits are the buffer that becomes the gradient.
            logits_NV = widen(student_BTV[rows, columns, :width])
            accumulator.add(logits_NV, positions.targets[start:end], teacher(start, end))
            if gradient_BTV is not None:
                gradient_BTV[rows, columns, :width] = logits_NV.to(gradient_BTV.dtype)
        if gradient_BTV is not None:
            if reuse:
                _clear_elsewhere(gradient_BTV, positions, width)
            ctx.save_for_backward(gradient_BTV)
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient_BTV,) = ctx.saved_tensors
        scale = grad_outputs[0][0]
        # Scaled in place where memory is to be saved: autograd then refuses a second backward.
        scaled_BTV = gradient_BTV.mul_(scale) if ctx.reuse else gradient_BTV * scale
        return scaled_BTV, None, None, None


def _clear_elsewhere(gradient_BTV: Tensor, positions: Positions, width: int) -> None:
    """Zero the gradient at positions that are not scored, and beyond the shared vocabulary."""
    scored_BT = torch.zeros(gradient_BTV.shape[:2], dtype=torch.bool, device=gradient_BTV.device)
    scored_BT[positions.rows, positions.columns] = True
    gradient_BTV.masked_fill_(~scored_BT[..., None], 0)
    gradient_BTV[..., width:] = 0
