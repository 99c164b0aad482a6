"""Tiny random models and a tokenizer trained on the spot, saved where a test wants them."""

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Starcoder2Config,
)

from codestill.models import Placement
from codestill.models.fim import FIM_TOKENS

CPU = Placement(device="cpu")
EOS = "<|endoftext|>"
CODE = '''
def add(first, second):
    """Return the sum of two numbers."""
    total = first + second
    return total


def count_words(text):
    counts = {}
    for word in text.split():
        counts[word] = counts.get(word, 0) + 1
    return counts


class Stack:
    def __init__(self, items=None):
        self.items = list(items or [])

    def push(self, value):
        if value is not None and value >= 10:
            self.items.append(value * 2 - 345)
        return len(self.items)
'''


@lru_cache
def _trained(vocabulary: int) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        [CODE],
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[EOS],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return tokenizer.to_str()


def tiny_tokenizer(vocabulary: int = 320) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of at most ``vocabulary`` (>= 257) ids; id 0 ends a text and pads."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained(vocabulary)), eos_token=EOS, pad_token=EOS
    )


def fim_tokenizer(spelling: int = 0, special: bool = True) -> PreTrainedTokenizerFast:
    """The same with the three tokens of fill-in-the-middle, as some models spell them."""
    backend = tiny_tokenizer().backend_tokenizer
    names = [FIM_TOKENS[role][spelling] for role in ("fim_pre", "fim_suf", "fim_mid")]
    backend.add_tokens([AddedToken(name, special=special) for name in names])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=EOS, pad_token=EOS)


def save_model(
    directory: Path, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast, seed: int = 0
) -> Path:
    """A model of ``config`` with lively random weights (its text varies), saved with its tokenizer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(std=0.3)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(str(directory))
    return directory


def tiny_config(kind: str, vocabulary: int = 320, positions: int = 128, **changes: Any) -> PreTrainedConfig:
    """A config of two layers, width 32; ``kind`` is gpt2, llama, starcoder2 or qwen2."""
    shared: dict[str, Any] = {
        "vocab_size": vocabulary,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
        "tie_word_embeddings": True,
    }
    if kind == "gpt2":
        shared.update(n_positions=positions, n_embd=32, n_layer=2, n_head=4)
        return GPT2Config(**(shared | changes))
    shared.update(
        max_position_embeddings=positions,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    kinds = {"llama": LlamaConfig, "starcoder2": Starcoder2Config, "qwen2": Qwen2Config}
    return kinds[kind](**(shared | changes))


def tiny_gpt2(directory: Path, **changes: Any) -> Path:
    return tiny_model(directory, "gpt2", **changes)


def tiny_llama(directory: Path, **changes: Any) -> Path:
    return tiny_model(directory, "llama", **changes)


def tiny_starcoder2(directory: Path, **changes: Any) -> Path:
    return tiny_model(directory, "starcoder2", **changes)


def tiny_qwen2(directory: Path, **changes: Any) -> Path:
    return tiny_model(directory, "qwen2", **changes)


def tiny_model(directory: Path, kind: str, seed: int = 0, vocabulary: int = 320, **changes: Any) -> Path:
    """Save a tiny model of ``kind`` with a tokenizer of ``vocabulary`` ids; returns ``directory``."""
    return save_model(directory, tiny_config(kind, vocabulary, **changes), tiny_tokenizer(vocabulary), seed)
