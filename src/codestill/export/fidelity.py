"""How far an artefact is from the student that it was made of: both read the student's own answers."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from codestill.types import Example, Record

if TYPE_CHECKING:
    from codestill.models.student import Student

Logits = Callable[[Sequence[int], int], "NDArray[Any]"]
"""``logits(ids, keep)``: logits [keep, V] after each of the last tokens of a text."""


class Fidelity(Record):
    """Two models on one answer."""

    key: str
    """The example's."""
    tokens: int
    """Tokens of the answer, its end included; 0 for one that is longer than the model's positions."""
    nats: float
    """KL(student || artefact), summed over the tokens."""
    equal: int
    """Tokens at which both find the same one most probable."""
    largest: float
    """Largest difference of two logits."""


def logits_of(student: "Student") -> Logits:
    """What the student, or an artefact that was read back as one, finds."""
    import torch

    model = student.model.eval()

    def logits(ids: Sequence[int], keep: int) -> "NDArray[Any]":
        with torch.inference_mode():
            found = model(input_ids=torch.tensor([list(ids)], device=model.device)).logits[0, -keep:]
        return found.float().cpu().numpy()

    return logits


def fidelity(
    student: "Student", artefact: Logits, positions: int, examples: Sequence[Example]
) -> Iterator[Fidelity]:
    """Each example by itself, so that rounding does not depend on the others; of those that fit."""
    import torch

    from codestill.train.batches import tokenize

    own = logits_of(student)
    for example in examples:
        tokenized = tokenize([example], student.codec, positions)
        if not tokenized:
            yield Fidelity(key=example.key, tokens=0, nats=0.0, equal=0, largest=0.0)
            continue
        read = tokenized[0].tokens[:-1]  # nothing follows the end
        tokens = len(read) + 1 - tokenized[0].first_scored
        # A program may know fewer rows than the weights have, where those only pad.
        pair = [torch.from_numpy(logits(read, tokens)) for logits in (own, artefact)]
        rows = min(logits_NV.shape[1] for logits_NV in pair)
        ours_NV, theirs_NV = (logits_NV[:, :rows] for logits_NV in pair)
        ours, theirs = ours_NV.log_softmax(-1), theirs_NV.log_softmax(-1)
        yield Fidelity(
            key=example.key,
            tokens=tokens,
            nats=float((ours.exp() * (ours - theirs)).sum()),
            equal=int((ours.argmax(-1) == theirs.argmax(-1)).sum()),
            largest=float((ours_NV - theirs_NV).abs().max()),
        )
