"""How likely a model finds given programs: a measure that still moves where none of its own passes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from codestill.losses.contrast import linear_log_probabilities, log_probabilities
from codestill.models.heads import linear_head
from codestill.models.student import LanguageModel
from codestill.train.batches import Collator, tokenize
from codestill.train.forward import states
from codestill.types import Example


@torch.no_grad()
def nats(model: LanguageModel, examples: Sequence[Example]) -> dict[str, float]:
    """-log p(completion and its end | prompt) in nats by example id.

    Each example is read by itself, so that rounding does not depend on the others. One with more tokens than
    the model has positions is left out.
    """
    weights, head = model.model.eval(), linear_head(model.model)
    collate = Collator(model.pad_id)
    found: dict[str, float] = {}
    for example in tokenize(examples, model.codec, model.positions):
        inputs = {name: tensor.to(weights.device) for name, tensor in collate([(0, example)]).items()}
        log_p_N = scored_tokens(weights, head, inputs, inputs["labels"])
        found[example.example_id] = -float(log_p_N.double().sum())
    return found


def scored_tokens(
    model: torch.nn.Module, head: Tensor | None, inputs: dict[str, Tensor], labels_BT: Tensor
) -> Tensor:
    """Log-probabilities [N] of the tokens that have a label, row by row, in nats.

    ``head`` is the model's matrix of logits, if they are nothing else than that times its hidden states.
    """
    found = states(model, head, inputs)
    if head is None:
        return log_probabilities(found, labels_BT)
    return linear_log_probabilities(found, head, labels_BT)
