"""The loss of a batch under an objective, without a second tensor of vocabulary size per intermediate.

Only positions that predict a completion token are touched. They are taken a chunk at a time: the chunk's
loss and its gradient with respect to the student's logits are both computed in the forward pass, in float32,
and only the gradient is kept, in the logits' own dtype. Memory beyond the logits and that gradient is one
chunk's.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from codestill.errors import LogitsError, VocabularyError
from codestill.losses import divergences
from codestill.losses.objective import CrossEntropy, Distillation

IGNORED = -100
"""The label of a prompt token or a pad."""

CHUNK_ELEMENTS = {"cpu": 2**19, "cuda": 2**24}
"""Logits per chunk where no ``chunk_tokens`` is given: about a core's cache; enough to keep a GPU busy."""


@dataclass(frozen=True)
class Loss:
    """What :func:`compute` gives."""

    total: Tensor
    """Scalar to call ``backward`` on."""
    parts: dict[str, Tensor]
    """Detached sums over the batch's valid tokens, in nats, without any weight: ``cross_entropy``,
    ``divergence`` (where there are teacher logits), and ``tokens``, their number."""


def compute(
    objective: CrossEntropy | Distillation,
    student_logits_BTV: Float[Tensor, "B T V_student"],
    labels_BT: Int[Tensor, "B T"],
    teacher_logits_BTV: Float[Tensor, "B T V_teacher"] | None = None,
    *,
    normalizer: Float[Tensor, ""] | Int[Tensor, ""] | int | float | None = None,
    vocabulary: int | None = None,
    chunk_tokens: int | None = None,
    reuse_student_logits: bool = False,
) -> Loss:
    """The objective's loss: summed over valid tokens, divided by ``normalizer``.

    ``labels_BT`` are token ids as in the input, not shifted, with -100 on the prompt and on pads; the logits
    at ``t`` are scored against the label at ``t + 1``, and against the teacher's logits at ``t``.

    normalizer: number of valid tokens of the *whole* batch of an optimiser step, over every micro-batch and
        rank (:func:`count_tokens`); this call's own number when None.
    vocabulary: how many token ids teacher and student share. Logits beyond it, which pad a model's matrix to
        a round size, are left out of every softmax. Needed when the two widths differ.
    chunk_tokens: positions per chunk; the result does not depend on it.
    reuse_student_logits: write the gradient over ``student_logits_BTV``, whose values are then lost: saves
        one tensor of that size. Autograd raises if another operation still needs the values, and in a
        second backward pass.

    A batch without valid tokens gives a zero loss with zero gradients. No gradient reaches the teacher.

    Raises LogitsError when the objective needs teacher logits that are missing or of another shape, and
    VocabularyError when widths differ and ``vocabulary`` is not given, or it does not fit.
    """
    if isinstance(objective, CrossEntropy):
        teacher_logits_BTV = None
    student_BTV, teacher_BTV = _shared(student_logits_BTV, teacher_logits_BTV, labels_BT, vocabulary)
    if teacher_BTV is None and objective.needs_teacher:
        raise LogitsError(
            "the objective is distillation, and there are no teacher logits",
            next_step="Give the teacher's logits, or choose the objective `cross_entropy`.",
        )
    rows, columns = torch.nonzero(labels_BT[:, 1:] != IGNORED, as_tuple=True)
    targets = labels_BT[rows, columns + 1]
    width = student_BTV.shape[-1]
    if len(targets) and int(targets.max()) >= width:
        raise VocabularyError(
            f"a label is token {int(targets.max())}, and the vocabulary has {width}",
            next_step="Tokenize with the student's tokenizer, and check `vocabulary`.",
        )
    if chunk_tokens is None:
        elements = CHUNK_ELEMENTS.get(student_BTV.device.type, CHUNK_ELEMENTS["cuda"])
        chunk_tokens = max(1, elements // width)
    sums = _ChunkedSum.apply(
        student_logits_BTV,
        teacher_BTV,
        (rows, columns, targets),
        objective,
        width,
        chunk_tokens,
        reuse_student_logits,
        torch.is_grad_enabled(),
    )
    weighted, cross_entropy, divergence = sums
    tokens = torch.tensor(len(targets), device=targets.device)
    parts = {"cross_entropy": cross_entropy, "tokens": tokens}
    if teacher_BTV is not None:
        parts["divergence"] = divergence
    count = torch.as_tensor(tokens if normalizer is None else normalizer, device=weighted.device)
    return Loss(weighted / count.clamp(min=1), parts)


def count_tokens(labels_BT: Int[Tensor, "B T"]) -> Int[Tensor, ""]:
    """How many tokens of the batch are scored: the first position of a row predicts nothing and is not."""
    return (labels_BT[:, 1:] != IGNORED).sum()


def _shared(
    student_BTV: Tensor, teacher_BTV: Tensor | None, labels_BT: Tensor, vocabulary: int | None
) -> tuple[Tensor, Tensor | None]:
    """Views of both logits over the shared vocabulary."""
    for name, logits in {"student": student_BTV, "teacher": teacher_BTV}.items():
        if logits is not None and logits.shape[:2] != labels_BT.shape:
            raise LogitsError(
                f"{name} logits are {tuple(logits.shape)} and labels are {tuple(labels_BT.shape)}",
                next_step="Give logits for every position of the same batch, prompt and pads included.",
            )
    widths = [student_BTV.shape[-1]] + ([] if teacher_BTV is None else [teacher_BTV.shape[-1]])
    if vocabulary is None:
        if min(widths) != max(widths):
            raise VocabularyError(
                f"the student has {widths[0]} logits per token and the teacher {widths[1]}",
                next_step="If they share a tokenizer, give its size as `vocabulary`: the rest is padding.",
            )
        return student_BTV, teacher_BTV
    if not 0 < vocabulary <= min(widths):
        raise VocabularyError(
            f"vocabulary is {vocabulary}, and the logits are {' and '.join(map(str, widths))} wide",
            next_step="Give the number of token ids that both models have.",
        )
    return student_BTV[..., :vocabulary], None if teacher_BTV is None else teacher_BTV[..., :vocabulary]


class _ChunkedSum(torch.autograd.Function):
    """(weighted loss, cross-entropy, divergence), each summed over the valid tokens."""

    @staticmethod
    def forward(
        ctx: Any,
        student_BTV: Tensor,
        teacher_BTV: Tensor | None,
        positions: tuple[Tensor, Tensor, Tensor],
        objective: CrossEntropy | Distillation,
        width: int,
        chunk_tokens: int,
        reuse: bool,
        grad_enabled: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        differentiate = grad_enabled and ctx.needs_input_grad[0]
        # The gradient is kept without the normaliser, which reaches backward together with a loss scale: in
        # float16 it would be lost otherwise.
        gradient_BTV = None
        if differentiate:
            gradient_BTV = student_BTV if reuse else torch.zeros_like(student_BTV)
        ctx.reuse = reuse
        dtype = torch.float64 if student_BTV.dtype == torch.float64 else torch.float32
        sums = torch.zeros(3, dtype=dtype, device=student_BTV.device)
        for rows, columns, targets in zip(*(p.split(chunk_tokens) for p in positions), strict=True):
            student_NV = divergences.widen(student_BTV[rows, columns, :width]).requires_grad_(differentiate)
            teacher_NV = None if teacher_BTV is None else teacher_BTV[rows, columns]
            with torch.set_grad_enabled(differentiate):
                weighted, cross_entropy, divergence = _terms(objective, student_NV, teacher_NV, targets)
            sums += torch.stack([weighted.detach(), cross_entropy.detach(), divergence.detach()])
            if gradient_BTV is not None:
                (gradient_NV,) = torch.autograd.grad(weighted, student_NV)
                gradient_BTV[rows, columns, :width] = gradient_NV.to(gradient_BTV.dtype)
        if gradient_BTV is not None:
            if reuse:
                _clear_elsewhere(gradient_BTV, positions, width)
            ctx.save_for_backward(gradient_BTV)
        weighted, cross_entropy, divergence = sums.unbind()
        ctx.mark_non_differentiable(cross_entropy, divergence)
        return weighted, cross_entropy, divergence

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient_BTV,) = ctx.saved_tensors
        # Scaled in place where memory is to be saved: autograd then refuses a second backward.
        scaled_BTV = gradient_BTV.mul_(grad_outputs[0]) if ctx.reuse else gradient_BTV * grad_outputs[0]
        return scaled_BTV, *[None] * 7


def _terms(
    objective: CrossEntropy | Distillation, student_NV: Tensor, teacher_NV: Tensor | None, targets_N: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The weighted loss, cross-entropy and divergence of a chunk, each a sum.

    A term of weight zero is measured and takes no part in the loss: an infinite divergence cannot reach it.
    """
    alpha = objective.alpha if isinstance(objective, Distillation) else 0.0
    with torch.set_grad_enabled(torch.is_grad_enabled() and alpha < 1):
        cross_entropy = functional.cross_entropy(student_NV, targets_N, reduction="sum")
    if not isinstance(objective, Distillation) or teacher_NV is None:
        return cross_entropy, cross_entropy, torch.zeros_like(cross_entropy)
    divergence_of = getattr(divergences, objective.divergence)
    temperature = objective.temperature
    with torch.set_grad_enabled(torch.is_grad_enabled() and alpha > 0):
        divergence = divergence_of(student_NV, teacher_NV, temperature, **objective.parameters).sum()
    if alpha == 0:
        return cross_entropy, cross_entropy, divergence
    distillation = alpha * temperature**2 * divergence
    weighted = distillation if alpha == 1 else distillation + (1 - alpha) * cross_entropy
    return weighted, cross_entropy, divergence


def _clear_elsewhere(gradient_BTV: Tensor, positions: tuple[Tensor, Tensor, Tensor], width: int) -> None:
    """Zero the gradient at positions that are not scored, and beyond the shared vocabulary."""
    rows, columns, _ = positions
    scored_BT = torch.zeros(gradient_BTV.shape[:2], dtype=torch.bool, device=gradient_BTV.device)
    scored_BT[rows, columns] = True
    gradient_BTV.masked_fill_(~scored_BT[..., None], 0)
    gradient_BTV[..., width:] = 0
