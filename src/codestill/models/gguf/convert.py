"""The weights of a GGUF file, dequantised tensor by tensor into a plain Hugging Face folder."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedConfig

from codestill.models.gguf.header import Header
from codestill.models.gguf.shape import FREQUENCIES, shape_of
from codestill.models.gguf.tokenizer import end_ids, require_tokenizer, token_id, tokenizer_of

_FILE_BYTES = 256 << 20  # of one safetensors file: what waits in memory to be written
_PIECE = 4 << 20  # weights that are dequantised at once
_OWN_TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_DAMAGED = "The file is damaged, or was converted wrongly: download it again."


class Conversion:
    """What will be written, checked before anything is: every tensor of the model is in the file, with its
    shape, and none is left over. Raises ModelError otherwise."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.config = shape_of(header)
        require_tokenizer(header)
        self.places = _places(header, self.config)
        self.bytes = sum(2 * int(tensor.n_elements) for tensor in header.reader.tensors)
        self.bytes += sum(
            2 * int(tensor.n_elements) for tensor in header.reader.tensors if tensor.tensor_type.name == "F32"
        )

    def write(self, directory: Path, progress: Callable[[float], None]) -> None:
        """Write weights, config, generation config and tokenizer; ``progress`` gets the part that is done.

        Memory: some 256 MiB of weights that wait to be written, and the largest tensor. Raises ModelError for
        weights that are not finite and for a tokenizer that makes no sense.
        """
        directory.mkdir(parents=True)
        tokenizer = tokenizer_of(self.header)
        stored = _write_weights(directory, self._tensors(progress))
        self.config.dtype = stored
        ids = {role: token_id(self.header, key) for role, key in _ROLES.items()}
        self.config.update({**ids, "architectures": [_class_of(self.config)]})
        self.config.save_pretrained(directory)
        generation = GenerationConfig(**{**ids, "eos_token_id": end_ids(self.header)})
        generation.save_pretrained(directory)
        tokenizer.save_pretrained(str(directory))
        for path in directory.iterdir():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())

    def _tensors(self, progress: Callable[[float], None]) -> Iterator[tuple[str, Tensor]]:
        total, done = sum(int(tensor.n_elements) for tensor in self.header.reader.tensors), 0
        for name, place in self.places.items():
            tensor = self.header.tensors[name]
            yield place, _dequantised(self.header, tensor, self.config)
            done += int(tensor.n_elements)
            progress(done / total)


_ROLES = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}


def _class_of(config: PreTrainedConfig) -> str:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    causal: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return causal.__name__


def _places(header: Header, config: PreTrainedConfig) -> dict[str, str]:
    """The file's tensor names -> the model's."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    architecture = next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == header.architecture)
    layers = int(config.num_hidden_layers)
    names = get_tensor_name_map(architecture, layers)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config)
    places: dict[str, str] = {}
    for place, parameter in model.state_dict().items():
        name = names.get_name(place, try_suffixes=(".weight", ".bias"))
        if place == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if name is None or name not in header.tensors:
            raise header.refused(f"lacks the tensor {name or place}", _DAMAGED)
        shape = [int(size) for size in reversed(header.tensors[name].shape)]
        wanted = (
            list(reversed(parameter.shape))
            if is_convolution(header.architecture, name)
            else list(parameter.shape)
        )
        if shape != wanted:
            raise header.refused(f"holds {name} in the shape {shape}, not {wanted}", _DAMAGED)
        places[name] = place
    if spare := [name for name in header.tensors if name not in places and name != FREQUENCIES]:
        raise header.refused(f"holds the tensor {spare[0]}, which {_class_of(config)} does not have")
    return places


def _dequantised(header: Header, tensor: Any, config: PreTrainedConfig) -> Tensor:
    """In the type that the file stores. Blocks of quantised weights become float16, which has three bits more
    than bfloat16, or float32 where a weight is out of its range."""
    own = _OWN_TYPES.get(tensor.tensor_type.name, torch.float16)
    values = _in_type(tensor, own)
    if values is None and (values := _in_type(tensor, torch.float32)) is None:
        raise header.refused(f"holds numbers that are not finite in {tensor.name}", _DAMAGED)
    if header.architecture == "llama" and ".attn_q." in tensor.name:
        return _unrotated(values, int(config.num_attention_heads))
    if header.architecture == "llama" and ".attn_k." in tensor.name:
        return _unrotated(values, int(config.num_key_value_heads))
    return values.T.contiguous() if is_convolution(header.architecture, tensor.name) else values


def is_convolution(architecture: str, name: str) -> bool:
    """Whether transformers keeps a matrix the other way round, inputs by outputs: GPT-2's ``Conv1D``."""
    kinds = ("attn_qkv.weight", "attn_output.weight", "ffn_up.weight", "ffn_down.weight")
    return architecture == "gpt2" and name.endswith(kinds)


def _in_type(tensor: Any, dtype: torch.dtype) -> Tensor | None:
    """A tensor's values, some rows at a time, since float32 takes many times the room of the blocks.

    None where a value is not finite in that type.
    """
    from gguf import dequantize

    values = torch.empty([int(size) for size in reversed(tensor.shape)], dtype=dtype)
    step = max(1, _PIECE * len(values) // values.numel())
    for start in range(0, len(values), step):
        piece = dequantize(tensor.data[start : start + step], tensor.tensor_type)
        part = torch.from_numpy(np.require(piece, np.float32, ["C", "W"])).to(dtype)
        if not part.isfinite().all():
            return None
        values[start : start + step] = part
    return values


def _unrotated(values: Tensor, heads: int) -> Tensor:
    """Rows in the order that transformers rotates: a head's first halves of all pairs, then the second. In
    GGUF, Llama's are interleaved (``permute`` of llama.cpp's convert_hf_to_gguf.py, undone)."""
    paired = values.reshape(heads, -1, 2, *values.shape[1:])
    return paired.swapaxes(1, 2).reshape(values.shape)


def _write_weights(directory: Path, tensors: Iterator[tuple[str, Tensor]]) -> torch.dtype:
    """Write safetensors files of some 256 MiB, with an index where there are several.

    Returns the type of most weights.
    """
    waiting: dict[str, Tensor] = {}
    files: list[list[str]] = []
    stored: Counter[torch.dtype] = Counter()
    size = total = 0

    def flush() -> None:
        save_file(waiting, directory / f"part-{len(files)}", metadata={"format": "pt"})
        files.append(list(waiting))
        waiting.clear()

    for name, tensor in tensors:
        waiting[name] = tensor.contiguous()
        stored[tensor.dtype] += tensor.numel()
        size, total = size + tensor.nbytes, total + tensor.nbytes
        if size >= _FILE_BYTES:
            flush()
            size = 0
    if waiting:
        flush()
    where: dict[str, str] = {}
    for number, names in enumerate(files):
        file = (
            "model.safetensors"
            if len(files) == 1
            else f"model-{number + 1:05}-of-{len(files):05}.safetensors"
        )
        (directory / f"part-{number}").rename(directory / file)
        where |= dict.fromkeys(names, file)
    if len(files) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": where}
        text = json.dumps(index, indent=2)
        (directory / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    return stored.most_common(1)[0][0]
