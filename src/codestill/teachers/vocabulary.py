"""Logits of two models are comparable only if the same id is the same token in both."""

from typing import TYPE_CHECKING

from codestill.errors import VocabularyError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SHOWN = 3


def require_same_vocabulary(
    student_tokenizer: "PreTrainedTokenizerBase",
    teacher_tokenizer: "PreTrainedTokenizerBase",
    student_width: int,
    teacher_width: int,
) -> int:
    """Number of leading logits that the two models share.

    Token -> id maps, added and special tokens included, must be equal. Widths may differ by padding
    (e.g. 151,936 and 152,064): the smaller one is returned if it covers every id.
    Raises VocabularyError otherwise.
    """
    student, teacher = student_tokenizer.get_vocab(), teacher_tokenizer.get_vocab()
    if student != teacher:
        tokens = sorted(
            (token for token in student.keys() | teacher.keys() if student.get(token) != teacher.get(token)),
            key=lambda token: (min(student.get(token, 1 << 60), teacher.get(token, 1 << 60)), token),
        )
        shown = "; ".join(
            f"{token!r} is {_described(student.get(token))} for the student, "
            f"{_described(teacher.get(token))} for the teacher"
            for token in tokens[:_SHOWN]
        )
        raise VocabularyError(
            f"Student and teacher disagree on {len(tokens):,} tokens: {shown}.",
            next_step="Use a preset or `from_scratch` with the teacher's tokenizer, choose a student of the "
            "teacher's family, or train on the teacher's text, which needs no shared vocabulary.",
        )
    ids = max(student.values()) + 1
    shared = min(student_width, teacher_width)
    if shared < ids:
        narrow = "student" if student_width < teacher_width else "teacher"
        raise VocabularyError(
            f"The tokenizer has {ids:,} ids, but the {narrow} has logits for {shared:,} only.",
            next_step=f"Choose a {narrow} whose vocabulary covers its tokenizer.",
        )
    return shared


def _described(number: int | None) -> str:
    return "no token" if number is None else f"id {number}"
