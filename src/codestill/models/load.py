"""Load a causal language model from a directory or the hub, or explain why that is impossible."""

import logging
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.utils import logging as transformers_logging

from codestill.errors import ModelError
from codestill.models.gguf.header import is_gguf
from codestill.models.gguf.store import folder_of
from codestill.models.settings import Device, Dtype
from codestill.pocket import BUNDLED, bundled_directory

transformers_logging.disable_progress_bar()  # the run shows its own
# bitsandbytes, which transformers imports where it is installed, says there that it lacks a kernel for CPUs
# that only a package of its own would bring.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

DTYPES: dict[Dtype, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_WANTED = "a directory that holds config.json, model.safetensors and tokenizer.json, or a GGUF file"


def pick_device(device: Device) -> torch.device:
    """The torch device; ``auto`` is CUDA if available, else the CPU. Raises ModelError."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("CUDA is requested, but torch sees no GPU.", next_step="Use device auto or cpu.")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def resolve(source: str, *, weights: bool = True) -> str:
    """A directory's path or a hub id, from either of them, a GGUF file or the name of a bundled model.

    ``pocket`` is the bundled teacher, ``pocket-base`` the bundled base student of 0.4M parameters; other
    sizes are ``pocket-base-0.1m`` and ``pocket-base-1.6m``. Without ``weights``, a directory may hold only a
    tokenizer. A GGUF file is dequantised into a directory of the cache, once. Raises ModelError.
    """
    if source in BUNDLED:
        source = str(bundled_directory(source))
    path = Path(source).expanduser()
    if path.is_dir():
        if weights and not (path / "config.json").is_file():
            raise ModelError(
                f"{source} holds no config.json, so it is not a saved model.", next_step=f"Give {_WANTED}."
            )
        return str(path)
    if path.is_file() and is_gguf(path):
        return str(folder_of(path))
    elsewhere = source.startswith((".", "/", "~")) or source.count("/") > 1 or path.suffix == ".gguf"
    if path.exists() or elsewhere:
        reason = "is a file" if path.exists() else "does not exist"
        raise ModelError(
            f"{source} {reason}, so no model can be loaded from it.", next_step=f"Give {_WANTED}."
        )
    if near := get_close_matches(source, BUNDLED, n=1, cutoff=0.8):  # the hub has no such name
        raise ModelError(
            f"{source} is no directory, and no bundled model.", next_step=f"Did you mean {near[0]}?"
        )
    return source


def load_config(source: str, *, revision: str | None, trust_remote_code: bool) -> PreTrainedConfig:
    """The config of a causal language model. Raises ModelError for any other kind of model."""
    try:
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=trust_remote_code)
    except Exception as error:  # OSError offline, ValueError for a type or code, KeyError in a bad file
        raise _explain(source, error) from error
    architectures: list[str] = config.architectures or []
    causal: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    remote = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    known = causal is not None and (not architectures or causal.__name__ in architectures)
    if getattr(config, "is_encoder_decoder", False) or not (known or remote):
        kind = ", ".join(architectures) or config.model_type
        raise ModelError(
            f"{source} is not a causal language model but {kind}.",
            next_step="Students and teachers must generate text from left to right: give a model of the "
            "GPT-2, Llama, Qwen2, StarCoder2, ... kind, saved with its language-model head.",
        )
    return config


def load_weights(
    source: str, *, revision: str | None, trust_remote_code: bool, dtype: Dtype, device: Device
) -> PreTrainedModel:
    """The model with its saved weights, in eval mode on ``device``. Raises ModelError."""
    where = pick_device(device)
    config = load_config(source, revision=revision, trust_remote_code=trust_remote_code)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source,
            config=config,
            revision=revision or "main",
            trust_remote_code=trust_remote_code,
            dtype=DTYPES[dtype],
            output_loading_info=True,
        )
    except Exception as error:
        raise _explain(source, error) from error
    model, info = loaded
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"The weights of {source} lack {len(missing)} tensors, such as {missing[0]}; "
            "transformers would have filled them with random numbers.",
            next_step="Save the model again with its language-model head, or use `from_scratch`.",
        )
    return model.to(where).eval()


def fresh_weights(
    config: PreTrainedConfig, *, seed: int, trust_remote_code: bool, dtype: Dtype, device: Device
) -> PreTrainedModel:
    """A model with random weights that depend only on ``config`` and ``seed``; eval mode, on ``device``."""
    where = pick_device(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = AutoModelForCausalLM.from_config(
            config, trust_remote_code=trust_remote_code, dtype=torch.float32
        )
    return model.to(where, DTYPES[dtype]).eval()


def _explain(source: str, error: Exception) -> ModelError:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    if "trust_remote_code" in str(error):
        return ModelError(
            f"{source} comes with Python code of its own, which is not run without permission.",
            next_step="Read that code; if you trust it, set `trust_remote_code: true` for this model.",
        )
    if Path(source).is_dir():
        return ModelError(f"{source} cannot be loaded: {text}", next_step=f"Give {_WANTED}.")
    return ModelError(
        f"{source} is not a directory here, and it could not be loaded from the Hugging Face hub: {text}",
        next_step="Check the spelling (`codestill students` lists the presets); with a network, unset "
        f"HF_HUB_OFFLINE and log in for a gated model; without one, give {_WANTED}.",
    )
