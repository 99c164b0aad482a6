"""The gap: how far the student is from its teacher on the text that it is about to be trained on.

Where the teacher says what the student says already there is nothing to learn; and how much a student gains
grows with the gap (arXiv:2605.30070).
"""

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from codestill.examples import subset
from codestill.losses import Distillation
from codestill.run import Run
from codestill.types import Example, Record

if TYPE_CHECKING:
    from torch import Tensor

    from codestill.losses.targets import LinearTeacher, SparseTargets
    from codestill.models.student import Student
    from codestill.teachers import LogitTeacher
    from codestill.teachers.cached import CachedLogits

MEASURED = 256
"""Examples that are measured at most."""
NIL = 1e-4
"""Nats per token below which a gap counts as none."""
SILENT = 0.5
"""Probability of ending a text where it begins, above which a teacher counts as having nothing to say."""


class Gap(Record):
    """What there is to learn from one example."""

    key: str
    """The example's."""
    divergence: float
    """The objective's, at its temperature, summed over the scored tokens, in nats."""
    tokens: int
    """Scored tokens; 0 for an example that is too long to be trained on."""
    ends: float | None = None
    """The teacher's probability that the text ends where it begins; None where a cache does not say."""


def measure_gap(
    student: "Student",
    teacher: "LogitTeacher | CachedLogits",
    examples: Sequence[Example],
    objective: Distillation,
    max_length: int,
    run: Run,
) -> float:
    """Nats per token between teacher and student before training, as a stage of the run: logged, accounted,
    and said where it is nil."""
    measured = subset(examples, MEASURED, run.seed)
    produce = partial(_measure, student, teacher, objective, max_length)
    gaps = run.stage("gap", Gap, measured, produce)
    tokens = sum(gap.tokens for gap in gaps)
    nats = sum(gap.divergence for gap in gaps) / max(tokens, 1)
    if run.named("gap_nats_per_token") not in run.accounting:  # said once, however often the run resumes
        run.log("gap", {"nats_per_token": nats, "tokens": tokens})
        if tokens and nats < NIL:
            run.message(
                "gap", f"the teacher differs from the student by {nats:.1g} nats per token: {NOTHING}"
            )
        ends = [gap.ends for gap in gaps if gap.ends is not None]
        if ends and (silent := sum(ends) / len(ends)) > SILENT:
            run.message(
                "gap", f"the teacher ends {silent:.0%} of the texts at their first token: {SAYS_NOTHING}"
            )
        run.account(gap_nats_per_token=round(nats, 6), gap_tokens=tokens)
    return nats


NOTHING = (
    "there is nothing to learn. Show the teacher more (another row), or choose a stronger one; a student "
    "that makes nothing of what it is shown cannot teach itself."
)


SAYS_NOTHING = (
    "the student would learn to answer with nothing. It makes nothing of what it is shown: choose another "
    "row, or a model that learns from its context."
)


def _measure(
    student: "Student",
    teacher: "LogitTeacher | CachedLogits",
    objective: Distillation,
    max_length: int,
    examples: Sequence[Example],
) -> Iterator[Gap]:
    """Each example by itself, so that rounding does not depend on the others."""
    import torch

    from codestill.losses.batch import LossOptions
    from codestill.models.heads import linear_head
    from codestill.train.batches import Collator, tokenize
    from codestill.train.forward import batch_loss
    from codestill.train.live import shared_vocabulary, targets

    options = LossOptions(vocabulary=shared_vocabulary(student, teacher))
    most = getattr(teacher, "positions", None)  # one of one's own may not say
    limits = [limit for limit in (max_length, student.positions, most) if limit is not None]
    model, head = student.model.eval(), linear_head(student.model)
    collate = Collator(student.pad_id)
    for example in examples:
        tokenized = tokenize([example], student.codec, min(limits))
        if not tokenized or len(tokenized[0].as_taught.tokens) > (most or 1 << 60):
            yield Gap(key=example.key, divergence=0.0, tokens=0)
            continue
        inputs = {name: tensor.to(model.device) for name, tensor in collate([(0, tokenized[0])]).items()}
        with torch.no_grad():
            taught = targets(teacher, inputs, hidden=head is not None)
            loss = batch_loss(objective, model, head, inputs, taught, options)
        tokens, divergence = int(loss.parts["tokens"]), float(loss.parts["divergence"])
        ends = _ends_at_once(taught, inputs["labels"], student.stop_ids)
        yield Gap(key=example.key, divergence=divergence, tokens=tokens, ends=ends)


def _ends_at_once(
    taught: "LinearTeacher | SparseTargets | Tensor", labels_1T: "Tensor", ends: Collection[int]
) -> float | None:
    """Probability of a token that ends a text, where the first scored token is predicted."""
    from codestill.losses.batch import IGNORED
    from codestill.losses.targets import LinearTeacher, SparseTargets

    if isinstance(taught, SparseTargets):
        return None
    first = int((labels_1T[0] != IGNORED).int().argmax()) - 1
    logits_V = (
        taught.head_VD @ taught.hidden_BTD[0, first]
        if isinstance(taught, LinearTeacher)
        else taught[0, first]
    )
    return round(float(logits_V.float().softmax(-1)[list(ends)].sum()), 6)
