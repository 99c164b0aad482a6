"""Weights in 4 bits (NF4, by bitsandbytes) while an adapter is trained beside them, and back again."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from codestill.errors import ModelError


def require_nf4(model: PreTrainedModel) -> None:
    """Raises ModelError where the model has no layers to quantise, and where bitsandbytes is missing or does
    not work on the model's device."""
    quantisable(model)
    device = model.device
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise ModelError(
            "student.quantize: nf4 needs the package bitsandbytes.",
            next_step="pip install 'codestill[quantize]', or leave student.quantize out.",
        ) from error
    try:
        layer = _quantized(nn.Linear(64, 64, bias=False, device=device))
        layer(torch.zeros(1, 64, device=device, requires_grad=True)).sum().backward()
    except Exception as error:  # whatever a library without kernels for this device raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"bitsandbytes cannot quantise weights on {device.type}: {reason}",
            next_step="Leave student.quantize out, or use a device that it supports.",
        ) from error


def quantisable(model: PreTrainedModel) -> list[str]:
    """Names of the layers that are put into 4 bits: every linear one but the head. Raises ModelError for a
    model without such layers, such as GPT-2, whose layers are another class."""
    head = model.get_output_embeddings()
    chosen = [name for name, layer in model.named_modules() if type(layer) is nn.Linear and layer is not head]
    if not chosen:
        raise ModelError(
            f"{type(model).__name__} has no linear layers that bitsandbytes could quantise.",
            next_step="Leave student.quantize out: the adapter is trained beside the weights as they are.",
        )
    return chosen


def quantize(model: PreTrainedModel) -> None:
    """Put these layers into 4 bits, in place and one at a time: the memory above the model's is that of one
    layer. Raises ModelError; see :func:`quantisable`."""
    for name in quantisable(model):
        layer: Any = model.get_submodule(name)
        model.set_submodule(name, _quantized(layer))
    marked: Any = model
    marked.is_loaded_in_4bit = True  # by which peft and accelerate know


def has_4_bits(layer: nn.Module) -> bool:
    """Whether the layer's own weights are quantised."""
    return hasattr(layer._parameters.get("weight"), "quant_state")


def restored(layer: Any, added: torch.Tensor | None, dtype: torch.dtype) -> nn.Linear:
    """A plain layer: the 4-bit weights as they count in training, plus ``added``, in ``dtype``."""
    from bitsandbytes.functional import dequantize_4bit

    weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(torch.float32)
    if added is not None:
        weight = weight + added
    plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    plain.weight = nn.Parameter(weight.to(dtype))
    if layer.bias is not None:
        plain.bias = nn.Parameter(layer.bias.data.to(dtype))
    return plain


def _quantized(layer: nn.Linear) -> nn.Module:
    import bitsandbytes

    library: Any = bitsandbytes.nn
    made = library.Linear4bit(
        layer.in_features,
        layer.out_features,
        bias=layer.bias is not None,
        compute_dtype=layer.weight.dtype,
        quant_type="nf4",
        device="meta",
    )
    # On some CPUs it would otherwise repack the weights at their first use without gradients, and round their
    # scales: a training that was validated would have other weights than one that continues.
    made.support_avx512bf16_for_cpu = False
    made.weight = library.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4")
    made.bias = layer.bias
    return made.to(layer.weight.device)  # where the weights are quantised
