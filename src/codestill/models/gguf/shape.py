"""The config of the Hugging Face model that computes what a GGUF file's architecture describes."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from transformers import GPT2Config, LlamaConfig, PreTrainedConfig, Qwen2Config, Qwen3Config, Starcoder2Config

from codestill.models.gguf.header import Header

# Keys under the architecture's name that are read here, or that change nothing for a dense model.
_READ = {
    "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size",
    "attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length",
    "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon",
    "rope.freq_base", "rope.dimension_count", "rope.scaling.type", "rope.scaling.factor", "rope.scale_linear",
    "rope.scaling.original_context_length", "tensor_data_layout", "expert_count", "expert_used_count",
}  # fmt: skip
FREQUENCIES = "rope_freqs.weight"  # Llama 3's scaling of positions, as one divisor per frequency


def shape_of(header: Header) -> PreTrainedConfig:
    """The config. Raises ModelError for an architecture, or a property of one, that is not known to compute
    the same in transformers."""
    kind = header.architecture
    if kind not in _CONFIGS:
        raise header.refused(
            f"holds a model of the architecture {kind}; those that can be read are {', '.join(_CONFIGS)}"
        )
    stated = [key for key in header.reader.fields if key.startswith(f"{kind}.")]
    if unknown := [key for key in stated if key.removeprefix(f"{kind}.") not in _READ]:
        raise header.refused(f"states {unknown[0]} = {header.get(unknown[0])}, which cannot be honoured here")
    if header.get(f"{kind}.expert_count"):
        raise header.refused("holds a mixture of experts; only dense models can be read")
    if "token_embd.weight" not in header.tensors:
        raise header.refused("lacks the tensor token_embd.weight", "Download it again.")
    return _CONFIGS[kind](header)


def _common(header: Header) -> dict[str, Any]:
    def want(key: str) -> Any:
        return header.want(f"{header.architecture}.{key}")

    heads, width = want("attention.head_count"), want("embedding_length")
    if isinstance(heads, list):
        raise header.refused("has layers with different numbers of attention heads, which cannot be read")
    head_width = header.get(f"{header.architecture}.attention.key_length", width // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if (other := header.get(f"{header.architecture}.{key}", head_width)) != head_width:
            raise header.refused(
                f"has heads of width {head_width}, but {key} = {other}, which cannot be read"
            )
    return {
        "vocab_size": int(header.tensors["token_embd.weight"].shape[1]),
        "hidden_size": width,
        "intermediate_size": want("feed_forward_length"),
        "num_hidden_layers": want("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": header.get(f"{header.architecture}.attention.head_count_kv", heads),
        "head_dim": head_width,
        "max_position_embeddings": want("context_length"),
        "rope_parameters": _positions(header, head_width),
        "tie_word_embeddings": "output.weight" not in header.tensors,
    }


def _positions(header: Header, head_width: int) -> dict[str, Any]:
    kind = header.architecture
    theta = float(header.get(f"{kind}.rope.freq_base", 10_000.0))
    factor = float(header.get(f"{kind}.rope.scaling.factor", header.get(f"{kind}.rope.scale_linear", 1.0)))
    scaling = header.get(f"{kind}.rope.scaling.type", "linear")
    if FREQUENCIES in header.tensors:
        return _llama3(header, theta, head_width)
    if scaling == "none" or factor == 1.0:
        return {"rope_type": "default", "rope_theta": theta}
    if scaling != "linear":
        raise header.refused(f"scales positions by the method {scaling}, which cannot be read")
    return {"rope_type": "linear", "rope_theta": theta, "factor": factor}


def _llama3(header: Header, theta: float, head_width: int) -> dict[str, Any]:
    """Llama 3.1's scaling, if it gives the file's divisors: only the factor differs between its models."""
    divisors = np.asarray(header.tensors[FREQUENCIES].data, np.float64).ravel()
    factor, low, high, original = float(divisors.max()), 1.0, 4.0, 8192
    waves = 2 * math.pi * theta ** (np.arange(0, head_width, 2) / head_width)
    smooth = np.clip((original / waves - low) / (high - low), 0, 1)
    expected = 1 / ((1 - smooth) / factor + smooth)
    if expected.shape != divisors.shape or not np.allclose(expected, divisors, rtol=1e-3):
        raise header.refused("scales positions by divisors that are not Llama 3.1's, which cannot be read")
    return {
        "rope_type": "llama3",
        "rope_theta": theta,
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": original,
    }


def _rms(header: Header) -> dict[str, Any]:
    return {"rms_norm_eps": header.want(f"{header.architecture}.attention.layer_norm_rms_epsilon")}


def _llama(header: Header) -> PreTrainedConfig:
    return LlamaConfig(
        **_common(header),
        **_rms(header),
        attention_bias="blk.0.attn_q.bias" in header.tensors,
        mlp_bias="blk.0.ffn_up.bias" in header.tensors,
    )


def _qwen2(header: Header) -> PreTrainedConfig:
    return Qwen2Config(**_common(header), **_rms(header), use_sliding_window=False)


def _qwen3(header: Header) -> PreTrainedConfig:
    bias = "blk.0.attn_q.bias" in header.tensors
    return Qwen3Config(**_common(header), **_rms(header), attention_bias=bias, use_sliding_window=False)


def _starcoder2(header: Header) -> PreTrainedConfig:
    epsilon = header.want("starcoder2.attention.layer_norm_epsilon")
    bias = "blk.0.attn_q.bias" in header.tensors
    return Starcoder2Config(**_common(header), norm_epsilon=epsilon, use_bias=bias, sliding_window=None)


def _gpt2(header: Header) -> PreTrainedConfig:
    def want(key: str) -> Any:
        return header.want(f"gpt2.{key}")

    return GPT2Config(
        vocab_size=int(header.tensors["token_embd.weight"].shape[1]),
        n_positions=want("context_length"),
        n_embd=want("embedding_length"),
        n_layer=want("block_count"),
        n_head=want("attention.head_count"),
        n_inner=want("feed_forward_length"),
        layer_norm_epsilon=want("attention.layer_norm_epsilon"),
        tie_word_embeddings="output.weight" not in header.tensors,
    )


_CONFIGS: dict[str, Callable[[Header], PreTrainedConfig]] = {
    "gpt2": _gpt2,
    "llama": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "starcoder2": _starcoder2,
}
