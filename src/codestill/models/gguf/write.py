"""A saved model as a GGUF file, as llama.cpp's converter would write it: the inverse of ``convert``."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast

from codestill.errors import ModelError
from codestill.models.fim import fim_tokens
from codestill.models.gguf.convert import is_convolution
from codestill.models.gguf.kinds import Kind
from codestill.models.gguf.tokenizer import CONTROL, NORMAL, RULES, UNUSED, USER_DEFINED, splitting

_EPSILON = {
    "gpt2": ("layer_norm_epsilon", "layer_norm_epsilon"),
    "llama": ("layer_norm_rms_epsilon", "rms_norm_eps"),
    "qwen2": ("layer_norm_rms_epsilon", "rms_norm_eps"),
    "qwen3": ("layer_norm_rms_epsilon", "rms_norm_eps"),
    "starcoder2": ("layer_norm_epsilon", "norm_epsilon"),
}
_WHOLE = "Deploy the Hugging Face folder instead."
# What tokenizers that look alike cut differently: digits, indentation, line ends, capitals, marks, scripts.
_PROBES = (
    "def f(x1, y22):\n    return x1 + 12345.678e-9\n\n\n\t\tif a == b:  # it's, I'LL, we'Ve\r\n    pass\n  ",
    "camelCase HTTPServer snake_case __init__ a.b->c::d x<<=3 !=== ??? ... ---\n***\n\n  \n",
    "naïve Zürich e\u0301 Ångström 你好，世界 こんにちは 한국어 Привет मानक 🙂🙃 ½ ⅷ ٣٤ 𝟘\u00a0\u2003end",
    "1 22 333 4444 55555 3.14 0x1F 1_000 v2.0.1 'tis 'S 're RE'D  \t \n \n\n x\n\n    y",
)


def write_gguf(source: Path | str, path: Path, kind: Kind, *, name: str = "", licence: str = "") -> None:
    """Write a saved model (a directory or hub id) to ``path``, its matrices stored as ``kind``.

    Norms, biases and positions stay in float32; a matrix whose rows are no whole number of blocks is stored
    in float16. Tokenizer, chat template, special tokens and those of fill-in-the-middle stand in the file,
    which appears whole, or not at all. Raises ModelError for an architecture or a property of one that
    llama.cpp does not compute alike, for a tokenizer that it does not know, and where the package gguf is
    missing.
    """
    try:
        from gguf import GGUFWriter
    except ImportError as error:
        raise ModelError(
            "the package that writes GGUF files is not installed.",
            next_step="Install it with: pip install 'codestill[gguf]'",
        ) from error
    model: Any = AutoModelForCausalLM.from_pretrained(source, dtype="auto")
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(source)
    architecture = require_architecture(model.config)
    metadata = _shape(model.config) | _tokenizer(tokenizer, model.config, model.generation_config)
    temporary = path.with_name(f".{path.name}.tmp")
    writer = GGUFWriter(temporary, architecture)
    writer.add_name(name or path.stem)
    if licence:
        writer.add_license(licence)
    writer.add_file_type(_file_type(kind))
    for key, value in metadata.items():
        _add(writer, key, value)
    for name, values in _tensors(model, architecture):
        stored, type_ = _stored(values, "f32" if "position_embd" in name else kind)
        writer.add_tensor(name, stored, raw_dtype=type_)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
    temporary.replace(path)


def require_architecture(config: Any) -> str:
    """The architecture's name in GGUF. Raises ModelError for one, or a property of one, that llama.cpp does
    not compute as transformers does."""
    kind = str(config.model_type)
    if kind not in _EPSILON:
        raise ModelError(
            f"a model of the architecture {kind} cannot be written as GGUF here; those that can are "
            f"{', '.join(_EPSILON)}.",
            next_step=_WHOLE,
        )
    rope = getattr(config, "rope_parameters", None) or {}
    odd = {
        "rope_type": rope.get("rope_type", "default") not in ("default", "linear"),
        "use_sliding_window": bool(getattr(config, "use_sliding_window", False)),
        "sliding_window": kind == "starcoder2"
        and (getattr(config, "sliding_window", None) or config.max_position_embeddings)
        < config.max_position_embeddings,
        "activation_function": kind == "gpt2" and config.activation_function not in ("gelu_new", "gelu"),
        "scale_attn_by_inverse_layer_idx": kind == "gpt2" and config.scale_attn_by_inverse_layer_idx,
        "scale_attn_weights": kind == "gpt2" and not config.scale_attn_weights,
        "hidden_act": kind in ("llama", "qwen2", "qwen3") and config.hidden_act != "silu",
    }
    if name := next((name for name, wrong in odd.items() if wrong), None):
        value = rope.get("rope_type") if name == "rope_type" else getattr(config, name)
        raise ModelError(
            f"the model's {name} is {value}, which a GGUF file of the architecture {kind} cannot state.",
            next_step=_WHOLE,
        )
    return kind


def rule_of(tokenizer: PreTrainedTokenizerFast) -> str:
    """The name of the rule by which llama.cpp splits text as this tokenizer does. Raises ModelError where it
    knows none: its ids would be others than the model was trained on, without a word."""
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    model = core["model"]
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        raise ModelError(
            f"the tokenizer is of the kind {model.get('type')}; only byte-level BPE can be written as GGUF.",
            next_step=_WHOLE,
        )
    backend = tokenizer.backend_tokenizer
    for name, rule in RULES.items():
        other = splitting({}, [], rule)
        if rule.whole_words == bool(model.get("ignore_merges")) and _pieces(other) == _pieces(backend):
            return name
    raise ModelError(
        "the tokenizer splits text in a way that llama.cpp has no name for: its ids would be others than "
        "those that the model was trained on.",
        next_step="Train a student with the tokenizer of a published code model (--student.tokenizer).",
    )


def _pieces(tokenizer: Tokenizer) -> list[Any]:
    """How it cuts the probes, whatever it then merges."""
    split, composed = tokenizer.pre_tokenizer, tokenizer.normalizer
    if split is None:
        return []
    texts = [composed.normalize_str(text) if composed else text for text in _PROBES]
    return [[piece for piece, _ in split.pre_tokenize_str(text)] for text in texts]


def _shape(config: Any) -> dict[str, Any]:
    """What a file states about the shape, under the architecture's name."""
    kind = config.model_type
    key, setting = _EPSILON[kind]
    heads, width = config.num_attention_heads, config.hidden_size
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * width
    stated: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "context_length": config.max_position_embeddings,
        "embedding_length": width,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": inner,
        "attention.head_count": heads,
        f"attention.{key}": float(getattr(config, setting)),
    }
    if kind == "gpt2":
        del stated["vocab_size"]
    else:
        head_width = getattr(config, "head_dim", None) or width // heads
        rope = config.rope_parameters
        stated |= {
            "attention.head_count_kv": config.num_key_value_heads,
            "rope.freq_base": float(rope["rope_theta"]),
            "rope.dimension_count": head_width,
        }
        if head_width * heads != width:
            stated |= {"attention.key_length": head_width, "attention.value_length": head_width}
        if rope.get("rope_type") == "linear":
            stated |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(rope["factor"])}
    return {f"{kind}.{name}": value for name, value in stated.items()}


def _tokenizer(
    tokenizer: PreTrainedTokenizerFast, config: Any, generation: GenerationConfig | None
) -> dict[str, Any]:
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    rows = int(config.vocab_size)
    tokens, types = [f"[PAD{row}]" for row in range(rows)], [UNUSED] * rows
    for token, row in core["model"]["vocab"].items():
        tokens[row], types[row] = token, NORMAL
    for row, added in tokenizer.added_tokens_decoder.items():
        tokens[row], types[row] = added.content, CONTROL if added.special else USER_DEFINED
    merges = core["model"]["merges"]
    stated: dict[str, Any] = {
        "model": "gpt2",
        "pre": rule_of(tokenizer),
        "tokens": tokens,
        "token_type": types,
        "merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in merges],
        "add_bos_token": _begins_with_bos(tokenizer),
    }
    ends = getattr(generation, "eos_token_id", None) or getattr(config, "eos_token_id", None)
    ends = [ends] if isinstance(ends, int) else list(ends or [])
    eos = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else next(iter(ends), None)
    roles = {
        "bos": tokenizer.bos_token_id if tokenizer.bos_token_id is not None else eos,
        "eos": eos,
        "eot": next((end for end in ends if end != eos), None),
        "padding": tokenizer.pad_token_id,
        "unknown": tokenizer.unk_token_id,
    }
    roles |= {role: tokenizer.convert_tokens_to_ids(token) for role, token in fim_tokens(tokenizer).items()}
    stated |= {f"{role}_token_id": int(row) for role, row in roles.items() if row is not None}
    found = {f"tokenizer.ggml.{name}": value for name, value in stated.items()}
    return found | ({"tokenizer.chat_template": tokenizer.chat_template} if tokenizer.chat_template else {})


def _begins_with_bos(tokenizer: PreTrainedTokenizerFast) -> bool:
    ids = tokenizer("a").input_ids
    return tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]


def _tensors(model: Any, architecture: str) -> Iterator[tuple[str, Tensor]]:
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    arch = next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == architecture)
    config = model.config
    names = get_tensor_name_map(arch, int(config.num_hidden_layers))
    for place, values in model.state_dict().items():
        if place == "lm_head.weight" and config.tie_word_embeddings:
            continue
        name = names.get_name(place, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise ModelError(f"{place} has no place in a GGUF file of {architecture}.", next_step=_WHOLE)
        if is_convolution(architecture, name):
            values = values.T
        elif architecture == "llama" and ".attn_q." in name:
            values = _rotated(values, int(config.num_attention_heads))
        elif architecture == "llama" and ".attn_k." in name:
            values = _rotated(values, int(config.num_key_value_heads))
        yield name, values


def _rotated(values: Tensor, heads: int) -> Tensor:
    """Rows in llama.cpp's order: a head's pairs interleaved (``_unrotated`` of ``convert``, undone)."""
    halves = values.reshape(heads, 2, -1, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def _stored(values: Tensor, kind: Kind) -> tuple[np.ndarray, Any]:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import quantize

    type_ = GGMLQuantizationType[kind.upper()] if values.ndim > 1 else GGMLQuantizationType.F32
    if values.shape[-1] % GGML_QUANT_SIZES[type_][0]:
        type_ = GGMLQuantizationType.F16
    return quantize(np.ascontiguousarray(values.detach().to(torch.float32).numpy()), type_), type_


def _file_type(kind: Kind) -> int:
    from gguf import LlamaFileType

    name = "ALL_F32" if kind == "f32" else f"MOSTLY_{kind.upper()}"
    return int(LlamaFileType[name])


def _add(writer: Any, key: str, value: Any) -> None:
    if isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_uint32(key, value)
