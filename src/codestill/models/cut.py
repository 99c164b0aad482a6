"""A student cut out of a model: some of its layers, with the embeddings, the final norm and the head.

Depth pruning is the usual start of distillation from a model's own whole: widths stay, so that weights can be
taken over (ShortGPT, arXiv:2403.03853; Minitron, arXiv:2407.14679).
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from codestill.errors import ModelError


def spaced(count: int, whole: int) -> tuple[int, ...]:
    """``count`` of ``whole`` layers at even distances, the first and the last among them."""
    if count == 1:
        return (0,)
    return tuple(round(number * (whole - 1) / (count - 1)) for number in range(count))


def chosen(layers: int | Sequence[int], config: PreTrainedConfig, name: str) -> tuple[int, ...]:
    """Numbers of the layers to keep, from 0. Raises ModelError for some that the model does not have."""
    whole = int(config.num_hidden_layers)
    count = layers if isinstance(layers, int) else max(layers) + 1
    if count > whole:
        raise ModelError(
            f"{name} has {whole} layers, and student.layers asks for "
            f"{f'{layers}' if isinstance(layers, int) else f'number {count - 1}, counted from 0'}.",
            next_step=f"Give a number up to {whole}, or numbers from 0 to {whole - 1}.",
        )
    return spaced(layers, whole) if isinstance(layers, int) else tuple(layers)


def named(name: str, layers: Sequence[int]) -> str:
    """What a cut model is called in results."""
    return f"{name}, layers {'+'.join(map(str, layers))}"


PER_LAYER = (
    "activation_sparsity_pattern",
    "attention_layers",
    "indexer_types",
    "intermediate_size",
    "kv_sharing_modes",
    "layer_rope_theta",
    "layer_types",
    "layers_block_type",
    "layers_num_experts",
    "mlp_layer_types",
    "moe_topk",
    "no_rope_layers",
    "num_attention_heads_per_layer",
    "num_experts",
    "num_key_value_heads_per_layer",
    "per_layer_config",
    "sliding_windows",
    "swiglu_limits",
    "swiglu_limits_shared",
)
"""What transformers' configs list for every layer, the first item for the first. Other lists may have as many
items by chance, such as the ids that end a text."""


def cut_config(config: PreTrainedConfig, layers: Sequence[int]) -> PreTrainedConfig:
    """The config of a model with these layers alone; what it lists for every layer is cut as they are."""
    whole = int(config.num_hidden_layers)
    cut = copy.deepcopy(config)
    for setting in PER_LAYER:
        value = getattr(config, setting, None)
        if isinstance(value, list | tuple) and len(value) == whole:
            setattr(cut, setting, [value[layer] for layer in layers])
    cut.num_hidden_layers = len(layers)
    return cut


@torch.no_grad()
def cut_model(
    model: PreTrainedModel, layers: Sequence[int], name: str, trust_remote_code: bool = False
) -> PreTrainedModel:
    """A model of the same kind with copies of these layers and of all that is in no layer.

    Raises ModelError where the layers are not one list of modules, or differ in their tensors.
    """
    whole = int(model.config.num_hidden_layers)
    stacks = [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == whole
    ]
    if len(stacks) != 1:
        raise ModelError(
            f"{name} cannot be cut: of lists of {whole} modules, one of which must be its layers, it has "
            f"{len(stacks)}.",
            next_step="Leave student.layers out, or give a model of the Llama, Qwen2 or GPT-2 kind.",
        )
    prefix = f"{stacks[0]}."
    places = {layer: place for place, layer in enumerate(layers)}
    taken = {}
    for key, value in model.state_dict().items():
        if not key.startswith(prefix):
            taken[key] = value
            continue
        layer, _, rest = key.removeprefix(prefix).partition(".")
        if int(layer) in places:
            taken[f"{prefix}{places[int(layer)]}.{rest}"] = value
    built: Any = AutoModelForCausalLM.from_config(
        cut_config(model.config, layers), trust_remote_code=trust_remote_code, dtype=model.dtype
    )
    try:
        built.load_state_dict(taken)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ModelError(
            f"{name} cannot be cut to the layers {', '.join(map(str, layers))}: {reason}",
            next_step="Its layers differ in kind: choose layers in the same order of kinds, or leave "
            "student.layers out.",
        ) from error
    built.config.name_or_path = ""  # it is not the model of that name: an adapter for it would fit neither
    built.generation_config = copy.deepcopy(model.generation_config)
    return built.to(model.device).eval()
