"""What training on reference solutions does to a model that chats."""

from collections.abc import Sequence

from codestill.models import Asked
from codestill.types import Example


def short_answers(student: Asked, examples: Sequence[Example]) -> str | None:
    """What the reader of a run should know before a student that chats is trained on reference solutions;
    None where there are none, or where the student continues text."""
    references = sum(example.source == "reference" for example in examples)
    if student.form is None or not references:
        return None
    return (
        f"the student chats, and {references} of {len(examples)} examples are reference solutions: short "
        "references teach an instruct model short, careless answers (docs/real-models.md has measured it). "
        "examples.answers=teacher and examples.unsolved=drop teach it a teacher's verified answers alone."
    )
