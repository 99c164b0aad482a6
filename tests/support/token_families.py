"""One tiny tokenizer of each family that code models come with, trained on the spot."""

import json
from functools import lru_cache
from typing import Any

from tests.support.tiny import CODE, EOS, tiny_tokenizer
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import ByT5Tokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast, PythonBackend

_SPECIAL = ["<unk>", "<s>", "</s>"]
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def _byte_level(prefix_space: bool = False, pattern: str | None = None, **model: Any) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(**model))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space, use_regex=pattern is None)
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated")] if pattern else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [CODE] * 3,
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=[EOS], initial_alphabet=alphabet, show_progress=False
        ),
    )
    return tokenizer


def _sentence_piece(kind: str) -> Tokenizer:
    """Like Llama's: ``legacy`` puts a space before every text by a normalizer, the others by Metaspace."""
    unigram = kind == "unigram"
    tokenizer = Tokenizer(
        models.Unigram() if unigram else models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    )
    if kind == "legacy":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
            prepend_scheme="always" if kind == "split" else "first", split=kind == "split"
        )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer: Any = (
        trainers.UnigramTrainer(
            vocab_size=400, special_tokens=_SPECIAL + _BYTES, unk_token="<unk>", show_progress=False
        )
        if unigram
        else trainers.BpeTrainer(vocab_size=480, special_tokens=_SPECIAL + _BYTES, show_progress=False)
    )
    tokenizer.train_from_iterator([CODE] * 3, trainer)
    saved = json.loads(tokenizer.to_str())
    saved["added_tokens"] = saved["added_tokens"][: len(_SPECIAL)]  # bytes are no special tokens
    saved["model"]["byte_fallback"] = True
    tokenizer = Tokenizer.from_str(json.dumps(saved))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def _gpt2() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=_byte_level(pattern=_GPT2), bos_token=EOS, eos_token=EOS, unk_token=EOS
    )


def _spaced() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=_byte_level(prefix_space=True), eos_token=EOS)


def _chat() -> PreTrainedTokenizerFast:
    """ChatML: turns end at <|im_end|>, texts at <|endoftext|>; some markers are not declared special."""
    backend = _byte_level(pattern=_GPT2, ignore_merges=True)
    backend.add_special_tokens([AddedToken("<|im_start|>"), AddedToken("<|im_end|>")])
    backend.add_tokens(["<|file_sep|>", "<｜User｜>", "<think>", "    "])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token=EOS)
    tokenizer.chat_template = CHATML
    return tokenizer


CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _llama(kind: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=_sentence_piece(kind), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


class SlowLlama(PythonBackend):
    """Python alone: bytes and pieces, a space before every text, and a BOS."""

    def __init__(self, **settings: Any) -> None:
        pieces = [*_SPECIAL, *_BYTES, "▁", "▁▁▁▁", "return", "▁return", *"abcdefghijklmnopqrstuvwxyz():=\n"]
        self.pieces = {piece: number for number, piece in enumerate(pieces)}
        super().__init__(bos_token="<s>", eos_token="</s>", unk_token="<unk>", **settings)

    @property
    def vocab_size(self) -> int:
        return len(self.pieces)

    def get_vocab(self) -> dict[str, int]:
        return self.pieces | self.added_tokens_encoder

    def _tokenize(self, text: str, **_: Any) -> list[str]:
        longest = sorted(list(self.pieces)[len(_SPECIAL + _BYTES) :], key=len, reverse=True)
        tokens, rest = [], "▁" + text.replace(" ", "▁")
        while rest:
            piece = next((piece for piece in longest if rest.startswith(piece)), "")
            tokens += [piece] if piece else [f"<0x{byte:02X}>" for byte in rest[0].encode()]
            rest = rest[len(piece) or 1 :]
        return tokens

    def _convert_token_to_id(self, token: str) -> int:
        return self.pieces.get(token, 0)

    def _convert_id_to_token(self, index: int) -> str:
        return list(self.pieces)[index]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        data = b"".join(
            bytes([int(token[3:5], 16)]) if token.startswith("<0x") else token.replace("▁", " ").encode()
            for token in tokens
        )
        return data.decode(errors="replace").removeprefix(" ")

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        return [1, *token_ids_0, *(token_ids_1 or [])]


_MAKERS = {
    "byte-level": tiny_tokenizer,
    "gpt2": _gpt2,
    "prefix-space": _spaced,
    "chat": _chat,
    "llama-legacy": lambda: _llama("legacy"),
    "llama-first": lambda: _llama("first"),
    "llama-split": lambda: _llama("split"),
    "unigram": lambda: _llama("unigram"),
    "slow": ByT5Tokenizer,
    "slow-llama": SlowLlama,
}
FAMILIES = tuple(_MAKERS)
PREFIXED = ("prefix-space", "llama-legacy", "llama-first", "llama-split", "unigram", "slow-llama")
"""Those that put a space before a text."""


@lru_cache
def family(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a family; do not change it."""
    return changed(name)


def changed(name: str) -> Any:
    """A tokenizer of a family to change."""
    tokenizer: Any = _MAKERS[name]()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
