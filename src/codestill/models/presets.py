"""Student shapes that ship with codestill, as plain data: no weights, and no torch at import."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from codestill.types import Record

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

PresetName = Literal[
    "gpt2-44m",
    "gpt2-202m",
    "llama-44m",
    "pocket-0.1m",
    "pocket-0.4m",
    "pocket-0.9m",
    "pocket-1.6m",
    "pocket-2.9m",
]
CODE_VOCABULARY = 49_152
"""Number of ids of the StarCoder2 tokenizer."""
POCKET_VOCABULARY = 1_024


@dataclass(frozen=True)
class Preset:
    """The shape of a decoder-only transformer whose head is tied to its embedding."""

    architecture: Literal["gpt2", "llama"]
    layers: int
    width: int
    heads: int
    positions: int
    vocabulary: int
    intermediate: int
    """Width of the feed-forward layer; the Llama shape has three such matrices per layer, GPT-2 two."""

    @property
    def parameters(self) -> int:
        """Exact number of parameters; the tied head counts once."""
        width, inner = self.width, self.intermediate
        if self.architecture == "gpt2":
            norms, attention = 4 * width, 4 * width * (width + 1)
            layer = norms + attention + 2 * width * inner + inner + width
            return (self.vocabulary + self.positions) * width + self.layers * layer + 2 * width
        layer = 2 * width + 4 * width * width + 3 * width * inner
        return self.vocabulary * width + self.layers * layer + width

    def transformers_config(self, **token_ids: Any) -> "PreTrainedConfig":
        """The transformers config of this shape; ``token_ids`` are its bos, eos and pad ids.

        Dropout is 0 instead of GPT-2's default 0.1: distillation makes few passes over its data, and noise in
        the student would enter the divergence from the teacher. It also leaves the layers as the only
        difference between the shapes.
        """
        from transformers import GPT2Config, LlamaConfig

        if self.architecture == "gpt2":
            return GPT2Config(
                vocab_size=self.vocabulary,
                n_positions=self.positions,
                n_embd=self.width,
                n_layer=self.layers,
                n_head=self.heads,
                n_inner=self.intermediate,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                tie_word_embeddings=True,
                **token_ids,
            )
        return LlamaConfig(
            vocab_size=self.vocabulary,
            max_position_embeddings=self.positions,
            hidden_size=self.width,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            tie_word_embeddings=True,
            **token_ids,
        )


def _gpt2(layers: int, width: int, heads: int) -> Preset:
    return Preset("gpt2", layers, width, heads, 512, CODE_VOCABULARY, 4 * width)


def _pocket(layers: int, width: int, heads: int, intermediate: int) -> Preset:
    return Preset("llama", layers, width, heads, 512, POCKET_VOCABULARY, intermediate)


PRESETS: dict[PresetName, Preset] = {
    "gpt2-44m": _gpt2(layers=6, width=512, heads=8),
    "gpt2-202m": _gpt2(layers=12, width=1024, heads=16),
    "llama-44m": Preset("llama", 6, 512, 8, 1024, CODE_VOCABULARY, 1408),
    "pocket-0.1m": _pocket(layers=2, width=48, heads=3, intermediate=128),
    "pocket-0.4m": _pocket(layers=3, width=96, heads=4, intermediate=256),
    "pocket-0.9m": _pocket(layers=4, width=128, heads=4, intermediate=352),
    "pocket-1.6m": _pocket(layers=5, width=160, heads=5, intermediate=384),
    "pocket-2.9m": _pocket(layers=6, width=192, heads=6, intermediate=512),
}
PRESET_NAMES: tuple[PresetName, ...] = get_args(PresetName)


# GPT-2's own ids (50,256) lie outside these vocabularies.
NO_IDS: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


class SizeRow(Record):
    """A shape with its exact size."""

    name: str
    architecture: str
    layers: int
    width: int
    heads: int | None
    """None for a model without attention."""
    positions: int | None
    """None where the config names no limit."""
    vocabulary: int
    parameters: int
    """Exact number; a tied head counts once."""
    fp32_megabytes: float
    """Size of the weights, in MB (10^6 bytes)."""
    bf16_megabytes: float


def preset_table() -> tuple[SizeRow, ...]:
    """Every preset with its exact parameter count, by arithmetic."""
    return tuple(
        SizeRow(
            name=name,
            architecture=preset.architecture,
            layers=preset.layers,
            width=preset.width,
            heads=preset.heads,
            positions=preset.positions,
            vocabulary=preset.vocabulary,
            parameters=preset.parameters,
            fp32_megabytes=preset.parameters * 4 / 1e6,
            bf16_megabytes=preset.parameters * 2 / 1e6,
        )
        for name, preset in PRESETS.items()
    )


def model_table(source: str, layers: Sequence["int | tuple[int, ...]"] = ()) -> tuple[SizeRow, ...]:
    """A model, and students that keep some of its layers (as ``student.layers``), with their exact parameter
    counts; no weight is loaded. Raises ModelError."""
    from codestill.models.cut import chosen, cut_config, named
    from codestill.models.load import load_config, resolve

    config = load_config(resolve(source), revision=None, trust_remote_code=False)
    rows = [size_row(Path(source).name, config)]
    for wanted in layers:
        kept = chosen(wanted, config, source)
        rows.append(size_row(named("", kept).lstrip(", "), cut_config(config, kept)))
    return tuple(rows)


def size_row(name: str, config: "PreTrainedConfig") -> SizeRow:
    """The shape of a causal language model with this config."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return SizeRow(
        name=name,
        architecture=config.model_type,
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        heads=getattr(config, "num_attention_heads", None),
        positions=getattr(config, "max_position_embeddings", None),
        vocabulary=config.vocab_size,
        parameters=parameters,
        fp32_megabytes=parameters * 4 / 1e6,
        bf16_megabytes=parameters * 2 / 1e6,
    )
