"""The output matrix of a causal language model, where logits are hidden states times that matrix."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from codestill.models.decode import takes


@torch.no_grad()
def linear_head(model: PreTrainedModel) -> nn.Parameter | None:
    """W [V, D] if logits = hidden_states[-1] @ W.T and nothing else; None where a bias, a scale or a cap is
    involved, or the model does not return its hidden states.

    It is tested, not inferred from the config: a forward pass whose head outputs known numbers must return
    them as logits.
    """
    head: Any = model.get_output_embeddings()
    if type(head) is not nn.Linear or head.bias is not None:
        return None
    weight: Any = head.weight
    seen: list[Tensor] = []

    def known(module: nn.Module, inputs: tuple[Tensor, ...], logits: Tensor) -> Tensor:
        seen.append(inputs[0])
        marks = torch.linspace(-100, 100, logits.numel(), device=logits.device)
        seen.append(marks.view_as(logits).to(logits.dtype))
        return seen[-1]

    was_training = model.training
    hook = head.register_forward_hook(known)
    try:
        tokens = torch.zeros((1, 2), dtype=torch.long, device=model.device)
        output = model.eval()(input_ids=tokens, output_hidden_states=True, use_cache=False)
    finally:
        hook.remove()
        model.train(was_training)
    if len(seen) != 2 or output.hidden_states is None:
        return None
    hidden, marks = seen
    plain = torch.equal(output.logits, marks) and torch.equal(output.hidden_states[-1], hidden)
    return weight if plain else None


def hidden_states_alone(model: nn.Module) -> dict[str, Any]:
    """Arguments of a pass that returns hidden states, and of the logits the fewest that the model can make.
    It may be wrapped for several processes, compiled, or have adapters."""
    while (inner := getattr(model, "module", None) or getattr(model, "_orig_mod", None)) is not None:
        model = inner
    wrapper: Any = model
    if hasattr(wrapper, "get_base_model"):
        model = wrapper.get_base_model()  # peft's wrapper passes on whatever it is given
    fewest = {"logits_to_keep": 1} if takes(type(model), "logits_to_keep") else {}
    return {"output_hidden_states": True, **fewest}
