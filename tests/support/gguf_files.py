"""GGUF files made of tiny models, as llama.cpp's converter would write them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import (
    MODEL_ARCH,
    MODEL_ARCH_NAMES,
    GGMLQuantizationType,
    GGUFValueType,
    GGUFWriter,
    get_tensor_name_map,
)
from gguf.quants import quantize
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
_FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7}
Edit = Callable[[dict[str, np.ndarray]], None]


def write_gguf(
    source: Path,
    path: Path,
    kind: str = "F32",
    *,
    metadata: Mapping[str, Any] | None = None,
    tokens: Mapping[str, int] | None = None,
    raw: Mapping[str, tuple[np.ndarray, GGMLQuantizationType]] | None = None,
    edit: Edit | None = None,
) -> Path:
    """The model saved in ``source`` as a GGUF file whose matrices are stored as ``kind``.

    ``metadata`` replaces keys of the file (None: left out), ``tokens`` adds tokens or changes the type of
    some, ``raw`` replaces tensors by bytes, and ``edit`` changes the tensors before they are written.
    """
    config: Any = AutoConfig.from_pretrained(source)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(source)
    architecture = config.model_type
    writer = GGUFWriter(path, architecture)
    stated = _metadata(config, tokenizer, dict(tokens or {})) | {"general.file_type": _FILE_TYPES.get(kind)}
    stated |= metadata or {}
    stated.pop("general.architecture", None)
    if metadata and "general.architecture" in metadata:
        writer = GGUFWriter(path, metadata["general.architecture"])
    for key, value in stated.items():
        if value is not None:
            _add(writer, key, value)
    tensors = _tensors(source, config)
    if edit:
        edit(tensors)
    for name, values in tensors.items():
        if raw and name in raw:
            writer.add_tensor(name, raw[name][0], raw_dtype=raw[name][1])
        elif values.ndim < 2 or kind == "F32":
            writer.add_tensor(name, values.astype(np.float32))
        elif kind == "F16":
            writer.add_tensor(name, values.astype(np.float16))
        else:
            stored = GGMLQuantizationType[kind]
            writer.add_tensor(name, quantize(values, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _metadata(config: Any, tokenizer: PreTrainedTokenizerFast, tokens: dict[str, int]) -> dict[str, Any]:
    kind, head = config.model_type, config.hidden_size // config.num_attention_heads
    by_id = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
    spelled = [*by_id, *(token for token in tokens if token not in by_id)]
    special = set(tokenizer.all_special_tokens)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    norm = {"starcoder2": ("layer_norm_epsilon", "norm_epsilon")}.get(
        kind, ("layer_norm_rms_epsilon", "rms_norm_eps")
    )
    return {
        f"{kind}.block_count": config.num_hidden_layers,
        f"{kind}.context_length": config.max_position_embeddings,
        f"{kind}.embedding_length": config.hidden_size,
        f"{kind}.feed_forward_length": config.intermediate_size,
        f"{kind}.attention.head_count": config.num_attention_heads,
        f"{kind}.attention.head_count_kv": config.num_key_value_heads,
        f"{kind}.attention.key_length": getattr(config, "head_dim", None) or head,
        f"{kind}.attention.{norm[0]}": float(getattr(config, norm[1])),
        f"{kind}.rope.freq_base": float(config.rope_parameters["rope_theta"]),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": spelled,
        "tokenizer.ggml.token_type": [
            tokens.get(token, CONTROL if token in special else NORMAL) for token in spelled
        ],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in merges],
        "tokenizer.ggml.eos_token_id": tokenizer.eos_token_id,
        "tokenizer.ggml.bos_token_id": tokenizer.eos_token_id,
        "tokenizer.ggml.padding_token_id": tokenizer.pad_token_id,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": tokenizer.chat_template,
    }


def _add(writer: GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_key_value(key, value, GGUFValueType.UINT32)


def _tensors(source: Path, config: Any) -> dict[str, np.ndarray]:
    architecture = next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == config.model_type)
    names = get_tensor_name_map(architecture, config.num_hidden_layers)
    state = AutoModelForCausalLM.from_pretrained(source).state_dict()
    tensors: dict[str, np.ndarray] = {}
    for place, tensor in state.items():
        if place == "lm_head.weight" and config.tie_word_embeddings:
            continue
        name = names.get_name(place, try_suffixes=(".weight", ".bias"))
        assert name is not None, place
        values = tensor.float().numpy()
        if architecture == MODEL_ARCH.LLAMA and (".attn_q." in name or ".attn_k." in name):
            heads = config.num_attention_heads if ".attn_q." in name else config.num_key_value_heads
            # llama.cpp's own: from halves of a head to pairs.
            values = values.reshape(heads, 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
        tensors[name] = values
    return tensors
