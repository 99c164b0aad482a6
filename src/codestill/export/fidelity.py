"""How far an artefact is from the student that it was made of: both read the student's own answers."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from codestill.types import Example, Record

if TYPE_CHECKING:
    from codestill.models.student import Student


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


def fidelity(student: "Student", artefact: "Student", examples: Sequence[Example]) -> Iterator[Fidelity]:
    """Each example by itself, so that rounding does not depend on the others."""
    import torch

    from codestill.losses.batch import IGNORED
    from codestill.train.batches import Collator, tokenize

    collate = Collator(student.pad_id)
    models = [one.model.eval() for one in (student, artefact)]
    for example in examples:
        tokenized = tokenize([example], student.codec, student.positions)
        if not tokenized:
            yield Fidelity(key=example.key, tokens=0, nats=0.0, equal=0, largest=0.0)
            continue
        inputs = collate([(0, tokenized[0])])
        scored_N = (inputs["labels"][0] != IGNORED).nonzero()[:, 0] - 1
        with torch.no_grad():
            ours_NV, theirs_NV = (
                model(
                    input_ids=inputs["input_ids"].to(model.device),
                    attention_mask=inputs["attention_mask"].to(model.device),
                )
                .logits[0, scored_N.to(model.device)]
                .float()
                for model in models
            )
        ours, theirs = ours_NV.log_softmax(-1), theirs_NV.log_softmax(-1)
        yield Fidelity(
            key=example.key,
            tokens=int(scored_N.numel()),
            nats=float((ours.exp() * (ours - theirs)).sum()),
            equal=int((ours.argmax(-1) == theirs.argmax(-1)).sum()),
            largest=float((ours_NV - theirs_NV).abs().max()),
        )
