"""Low-rank adapters: around a model while it is trained, and merged into it when it is saved."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from codestill import matmul
from codestill.errors import ModelError
from codestill.files.whole import written_whole
from codestill.models.nf4 import has_4_bits, quantize, require_nf4, restored
from codestill.models.settings import AdapterConfig, Quantization

ADAPTER = "default"
"""peft's name of a model's only adapter."""


def require_adaptable(
    model: PreTrainedModel, adapter: AdapterConfig, quantization: Quantization | None
) -> None:
    """Raises ModelError where the adapter's targets are no layers of the model, or are its embeddings or
    head; where the model cannot be quantised as asked; and where a package is missing that training needs."""
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise ModelError(
            "student.adapter needs the package peft.", next_step="pip install 'codestill[adapters]'"
        ) from error
    targets(model, adapter)
    if quantization is not None:
        require_nf4(model)


def targets(model: PreTrainedModel, adapter: AdapterConfig) -> list[str]:
    """The full names of the layers to adapt, sorted: by their last names alone, a head could be one of them.
    Raises ModelError; see :func:`require_adaptable`."""
    head = model.get_output_embeddings()
    linear = {
        name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear | Conv1D) and layer is not head
    }
    if adapter.targets == "all-linear":
        return sorted(linear)
    chosen: set[str] = set()
    for target in adapter.targets:
        found = [(n, layer) for n, layer in model.named_modules() if f".{n}".endswith(f".{target}")]
        for name, layer in found:
            if layer is head or isinstance(layer, nn.Embedding):
                what = "the model's head" if layer is head else "an embedding"
                raise ModelError(
                    f"student.adapter.targets: {target!r} is {what} ({name}), which an adapter leaves as it "
                    "is: a head that is tied to the embedding would be changed in one place and not in the "
                    "other.",
                    next_step="Leave it out of student.adapter.targets; where tokens must be learnt anew, "
                    "leave student.adapter out and train the whole model.",
                )
        here = {name for name, _ in found} & linear
        if not here:
            known = sorted({name.rpartition(".")[2] for name in linear})
            raise ModelError(
                f"student.adapter.targets: {target!r} is no linear layer of the model.",
                next_step=f"Use all-linear, or some of {', '.join(known)}.",
            )
        chosen |= here
    return sorted(chosen)


def attach(
    model: PreTrainedModel, adapter: AdapterConfig, quantization: Quantization | None, seed: int
) -> Any:
    """The model with a new adapter, which changes no logit yet, as peft's wrapper; the model itself is
    changed. Only the adapter is trainable; its values come from ``seed``, in float32.

    Raises ModelError; see :func:`require_adaptable`.
    """
    require_adaptable(model, adapter, quantization)
    matmul.take_slices(model.get_output_embeddings())  # which is frozen now
    from peft import LoraConfig, get_peft_model

    if quantization is not None:
        quantize(model)
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=adapter.dropout,
        target_modules=targets(model, adapter),
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in model.modules()),  # GPT-2's
        task_type="CAUSAL_LM",
    )
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), warnings.catch_warnings():
        # peft reads a property of the model that transformers has renamed.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        torch.manual_seed(seed)
        wrapped = get_peft_model(model, config)
    # With a name, every checkpoint would ask the hub for the model's vocabulary.
    wrapped.peft_config[ADAPTER].base_model_name_or_path = ""
    return wrapped


def read_adapter(wrapped: Any, checkpoint: Path) -> None:
    """Take the adapter of a checkpoint. Raises ModelError where it is another model's."""
    from peft import load_peft_weights, set_peft_model_state_dict

    weights = load_peft_weights(str(checkpoint), device=str(wrapped.device))
    result = set_peft_model_state_dict(wrapped, weights)
    lost = [name for name in result.missing_keys if "lora_" in name] + result.unexpected_keys
    if lost:
        raise ModelError(
            f"{checkpoint} holds another model's adapter: {lost[0]} has no counterpart.",
            next_step="Delete the checkpoint, and run the same command again.",
        )


def save_adapter(wrapped: Any, directory: Path, base: str | None = None, revision: str | None = None) -> None:
    """Write the adapter in peft's format, all of it or nothing. ``base`` is the hub id of the model that it
    belongs to, with the ``revision`` that was asked for; None for another, which has to be named where the
    adapter is loaded."""
    with written_whole(directory) as temporary:
        wrapped.save_pretrained(temporary)
        (temporary / "README.md").unlink(missing_ok=True)  # peft's form, not filled in
        path = temporary / "adapter_config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config |= {"base_model_name_or_path": base, "revision": revision}
        config["target_modules"] = sorted(config["target_modules"])  # of a set: their order is random
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def merge(wrapped: Any, dtype: torch.dtype) -> PreTrainedModel:
    """The plain model with the adapter in its weights. Weights in 4 bits become ``dtype`` first, with the
    values that they had in training, and are never quantised again."""
    model = wrapped.get_base_model()
    for name, layer in list(model.named_modules()):
        if hasattr(layer, "get_delta_weight") and has_4_bits(layer.get_base_layer()):
            added = layer.get_delta_weight(ADAPTER).detach()
            model.set_submodule(name, restored(layer.get_base_layer(), added, dtype))
    for name, layer in list(model.named_modules()):
        if has_4_bits(layer):  # no target of the adapter
            model.set_submodule(name, restored(layer, None, dtype))
    model.is_loaded_in_4bit = False
    return wrapped.merge_and_unload()


@torch.no_grad()
def probe(model: Any, tokens: list[int]) -> Tensor:
    """Logits [T, V] of one sequence, in float32."""
    was_training = model.training
    ids_BT = torch.tensor([tokens], device=model.device)
    logits_BTV = model.eval()(input_ids=ids_BT, use_cache=False).logits
    model.train(was_training)
    return logits_BTV[0].float().cpu()
