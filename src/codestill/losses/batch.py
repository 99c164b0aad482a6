"""The scored positions of a batch, the options of its loss, and the checks before any arithmetic."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from codestill.errors import LogitsError, VocabularyError
from codestill.losses.objective import CrossEntropy, Distillation
from codestill.losses.table import require_rule
from codestill.losses.targets import LinearTeacher, SparseTargets
from codestill.matmul import matmul

IGNORED = -100
"""The label of a prompt token or a pad."""


@dataclass(frozen=True)
class Loss:
    """The loss of a batch."""

    total: Tensor
    """Scalar to call ``backward`` on."""
    parts: dict[str, Tensor]
    """Detached sums over the batch's valid tokens, in nats, without any weight: ``cross_entropy``,
    ``divergence`` (where there is a teacher), and ``tokens``, their number."""


@dataclass(frozen=True)
class LossOptions:
    """How a batch's loss is scaled and computed. The defaults suit a batch that is a whole optimiser step."""

    normalizer: Float[Tensor, ""] | Int[Tensor, ""] | int | float | None = None
    """Number of valid tokens of the *whole* batch of an optimiser step, over every micro-batch and rank
    (:func:`count_tokens`); the given batch's own number when None."""
    vocabulary: int | None = None
    """How many token ids teacher and student share. Logits beyond it, which pad a model's matrix to a round
    size, are left out of every softmax. Needed when the two widths differ."""
    chunk_tokens: int | None = None
    """Positions per chunk; the result does not depend on it (default: as many as suit the device)."""
    fused: bool = False
    """Compile the arithmetic of a chunk, for CPU or GPU, which takes a while once."""


DEFAULT_OPTIONS = LossOptions()


@dataclass(frozen=True)
class Positions:
    """The N scored positions of a batch, row by row, and the tokens that they predict."""

    rows: Tensor
    columns: Tensor
    targets: Tensor

    @classmethod
    def of(cls, labels_BT: Tensor, width: int) -> Self:
        """Raises VocabularyError for a label beyond ``width``."""
        rows, columns = torch.nonzero(labels_BT[:, 1:] != IGNORED, as_tuple=True)
        targets = labels_BT[rows, columns + 1]
        if len(targets) and int(targets.max()) >= width:
            raise VocabularyError(
                f"a label is token {int(targets.max())}, and the vocabulary has {width}",
                next_step="Tokenize with the student's tokenizer, and check `vocabulary`.",
            )
        return cls(rows, columns, targets)

    def __len__(self) -> int:
        return len(self.targets)

    def chunks(self, size: int) -> Iterator[tuple[int, int]]:
        """Start and end of consecutive chunks of at most ``size`` positions."""
        for start in range(0, len(self), size):
            yield start, min(start + size, len(self))


def count_tokens(labels_BT: Int[Tensor, "B T"]) -> Int[Tensor, ""]:
    """Number of scored tokens in the batch. The first token of a row is never scored: nothing predicts it."""
    return (labels_BT[:, 1:] != IGNORED).sum()


def require_labels(labels_BT: Tensor, tensors: Mapping[str, Tensor | None]) -> None:
    """Raises LogitsError when logits or hidden states differ from the labels in batch size or length."""
    for name, tensor in tensors.items():
        if tensor is not None and tensor.shape[:2] != labels_BT.shape:
            raise LogitsError(
                f"{name} are {tuple(tensor.shape)} and labels are {tuple(labels_BT.shape)}",
                next_step="Give them for every position of the same batch, prompt and pads included.",
            )


def shared_width(student: int, teacher: int | None, vocabulary: int | None) -> int:
    """Number of leading logits that enter the loss. Raises VocabularyError where it is not determined."""
    widths = [student] if teacher is None else [student, teacher]
    if vocabulary is None:
        if min(widths) != max(widths):
            raise VocabularyError(
                f"the student has {student} logits per token and the teacher {teacher}",
                next_step="If they share a tokenizer, give its size as `vocabulary`: the rest is padding.",
            )
        return student
    if not 0 < vocabulary <= min(widths):
        raise VocabularyError(
            f"vocabulary is {vocabulary}, and the logits are {' and '.join(map(str, widths))} wide",
            next_step="Give the number of token ids that both models share.",
        )
    return vocabulary


def require_targets(
    objective: CrossEntropy | Distillation,
    teacher: Tensor | LinearTeacher | SparseTargets | None,
    positions: Positions,
    width: int,
) -> None:
    """Raises LogitsError when the objective cannot be computed from these targets of the teacher."""
    if teacher is None and objective.needs_teacher:
        raise LogitsError(
            "the objective is distillation, and there are no teacher logits",
            next_step="Give the teacher's logits, or choose the objective `cross_entropy`.",
        )
    if not isinstance(teacher, SparseTargets) or not isinstance(objective, Distillation):
        return
    if len(teacher.ids_NK) != len(positions):
        raise LogitsError(
            f"sparse targets are for {len(teacher.ids_NK)} positions, and the labels score {len(positions)}",
            next_step="Give one row for each scored position of the batch, in order.",
        )
    if teacher.temperature != objective.temperature:
        raise LogitsError(
            f"sparse targets are at temperature {teacher.temperature:g}, the objective's is "
            f"{objective.temperature:g}",
            next_step="Read the targets at the objective's temperature: the tail's mass depends on it.",
        )
    require_rule(objective.divergence, objective.parameters, teacher.rule)
    if teacher.ids_NK.numel() and int(teacher.ids_NK.max()) >= width:
        raise VocabularyError(
            f"a sparse target is token {int(teacher.ids_NK.max())}, and the vocabulary has {width}",
            next_step="Give the `vocabulary` that the targets were captured with.",
        )


TeacherSlices = Callable[[int, int], Tensor | SparseTargets | None]
"""The teacher's logits or targets for the scored positions ``start`` to ``end``."""


def teacher_slices(
    teacher: Tensor | LinearTeacher | SparseTargets | None, positions: Positions, width: int
) -> TeacherSlices:
    """The teacher's logits or targets over ``width`` tokens, computed slice by slice when called."""
    if teacher is None:
        return lambda start, end: None
    if isinstance(teacher, SparseTargets):
        return teacher.rows
    rows_N, columns_N = positions.rows, positions.columns
    if isinstance(teacher, Tensor):
        logits_BTV = teacher.detach()
        return lambda start, end: logits_BTV[rows_N[start:end], columns_N[start:end], :width]
    hidden_ND = teacher.hidden_BTD.detach()[rows_N, columns_N]
    head_DV = teacher.head_VD.detach()[:width].T
    return lambda start, end: matmul(hidden_ND[start:end], head_DV)


@dataclass(frozen=True)
class LossPlan:
    """What a batch's loss is computed over, and how."""

    objective: CrossEntropy | Distillation
    positions: Positions
    width: int
    """Logits per position that take part."""
    chunk_tokens: int
    """Positions per chunk."""
    fused: bool
    grad_enabled: bool
    """Whether the caller records gradients."""


def loss_from_sums(
    sums: Tensor, positions: Positions, with_teacher: bool, normalizer: Tensor | int | float | None
) -> Loss:
    """The loss from [weighted loss, cross-entropy, divergence], summed over the positions."""
    weighted, cross_entropy, divergence = sums.unbind()
    tokens = torch.tensor(len(positions), device=sums.device)
    parts = {"cross_entropy": cross_entropy.detach(), "tokens": tokens}
    if with_teacher:
        parts["divergence"] = divergence.detach()
    count = torch.as_tensor(tokens if normalizer is None else normalizer, device=sums.device)
    return Loss(weighted / count.clamp(min=1), parts)
