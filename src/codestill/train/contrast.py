"""A step of the contrastive objective: a model's scores of correct and faulty programs, and their loss."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from codestill.losses import Contrastive
from codestill.losses.batch import Loss
from codestill.losses.contrast import StepCounts, contrastive_loss, scores
from codestill.models.student import Student
from codestill.run import Run
from codestill.train.batches import Collator, TokenExample
from codestill.train.likelihood import scored_tokens


def contrast(
    objective: Contrastive,
    model: torch.nn.Module,
    head: Tensor | None,
    inputs: dict[str, Tensor],
    counts: StepCounts,
) -> Loss:
    """The loss of a collated batch."""
    log_p_N, labels_BT = _log_probabilities(model, head, inputs)
    before_B = inputs["before"] if objective.contrast == "dpo" else None
    group_B = inputs["group"]
    return contrastive_loss(objective, log_p_N, labels_BT, group_B, before_B, counts)


def scored_before(
    student: Student, head: Tensor | None, examples: Sequence[TokenExample], run: Run
) -> list[TokenExample]:
    """The examples with the student's scores before training. They are scored one at a time, so that a
    resumed training, which starts from the same student, gets the same scores."""
    model = student.model.eval()
    collate = Collator(student.pad_id, contrast=True)
    scored = []
    for number, example in enumerate(examples):
        inputs = {name: tensor.to(model.device) for name, tensor in collate([(0, example)]).items()}
        with torch.no_grad():
            scores_B = scores(*_log_probabilities(model, head, inputs))
        scored.append(replace(example, before=tuple(scores_B.tolist())))
        run.progress("scores before training", number + 1, len(examples))
    return scored


def _log_probabilities(
    model: torch.nn.Module, head: Tensor | None, inputs: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of all scored tokens, of correct and faulty programs; and all labels."""
    labels_BT = torch.maximum(inputs["labels"], inputs["fault_labels"])
    return scored_tokens(model, head, inputs, labels_BT), labels_BT
