"""A teacher's logits for a batch: from a cache, or as it is asked for them, behind its own prompt where it
has one."""

from collections.abc import Mapping

import torch
from torch import Tensor

from codestill.losses.batch import IGNORED
from codestill.losses.targets import LinearTeacher, SparseTargets
from codestill.models.student import Student
from codestill.teachers import LogitTeacher, require_same_vocabulary
from codestill.teachers.cached import CachedLogits


def shared_vocabulary(student: Student, teacher: LogitTeacher | CachedLogits) -> int:
    """Number of leading logits that are compared. Raises VocabularyError where an id is not the same token to
    both."""
    if isinstance(teacher, CachedLogits):
        return teacher.shared_vocabulary(student.tokenizer, student.vocabulary_size)
    return require_same_vocabulary(
        student.tokenizer, teacher.tokenizer, student.vocabulary_size, teacher.vocabulary_size
    )


def targets(
    teacher: LogitTeacher | CachedLogits, inputs: Mapping[str, Tensor], hidden: bool
) -> LinearTeacher | SparseTargets | Tensor:
    """The teacher's targets for a collated batch; ``hidden`` as in :func:`live_targets`."""
    if isinstance(teacher, CachedLogits):
        return teacher.targets(inputs["input_ids"], inputs["attention_mask"], inputs["labels"])
    return live_targets(teacher, inputs, hidden)


def live_targets(teacher: LogitTeacher, inputs: Mapping[str, Tensor], hidden: bool) -> LinearTeacher | Tensor:
    """The teacher's logits for a collated batch [B, T], or, if ``hidden``, its hidden states where they will
    do. What it reads behind a prompt of its own is moved to where the student reads the same tokens."""
    own = "teacher_input_ids" in inputs
    read = [inputs[f"{'teacher_' if own else ''}{name}"] for name in ("input_ids", "attention_mask")]
    linear = teacher.linear(*read) if hidden else None
    if linear is None:
        logits_BTV = teacher.logits(*read)
        return _moved(logits_BTV, inputs) if own else logits_BTV
    return LinearTeacher(_moved(linear.hidden_BTD, inputs), linear.head_VD) if own else linear


def _moved(states_BSD: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    """States of the teacher's batch [B, S] at the student's positions [B, T]: row by row, those that predict
    the completion's first token come together, and all others by their distance from it."""
    labels_BT, teacher_labels_BS = inputs["labels"], inputs["teacher_labels"]
    shift_B = _first_scored(teacher_labels_BS) - _first_scored(labels_BT)
    places_BT = torch.arange(labels_BT.shape[1], device=labels_BT.device) + shift_B[:, None]
    places_BT = places_BT.clamp(0, states_BSD.shape[1] - 1).to(states_BSD.device)  # prompt and pads: any
    rows_B1 = torch.arange(len(places_BT), device=states_BSD.device)[:, None]
    return states_BSD[rows_B1, places_BT]


def _first_scored(labels_BT: Tensor) -> Tensor:
    return (labels_BT != IGNORED).int().argmax(dim=1)
