"""Fill-in-the-middle: the control tokens behind which a model reads what stands before and after a gap.

A text is given as prefix, suffix, middle (PSM; Bavarian et al. 2022, arXiv 2207.14255, section 3): the model
writes the middle last, as it writes any text. Models spell the three control tokens in their own ways.
"""

from collections.abc import Mapping
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

FIM_TOKENS: dict[str, tuple[str, ...]] = {
    "fim_pre": ("<|fim_prefix|>", "<fim_prefix>", "<fim-prefix>", "<｜fim▁begin｜>", "▁<PRE>"),
    "fim_suf": ("<|fim_suffix|>", "<fim_suffix>", "<fim-suffix>", "<｜fim▁hole｜>", "▁<SUF>"),
    "fim_mid": ("<|fim_middle|>", "<fim_middle>", "<fim-middle>", "<｜fim▁end｜>", "▁<MID>"),
    "fim_pad": ("<|fim_pad|>", "<fim_pad>", "<fim-pad>"),
    "fim_rep": ("<|repo_name|>", "<|fim_repo|>", "<repo_name>", "<reponame>"),
    "fim_sep": ("<|file_sep|>", "<file_sep>"),
}
"""Tokens of fill-in-the-middle by the role that GGUF has a key for, as models spell them."""


class FimIds(NamedTuple):
    """Ids of the tokens before the prefix, the suffix and the middle."""

    prefix: int
    suffix: int
    middle: int


def fim_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """A tokenizer's tokens of fill-in-the-middle, by their role."""
    spelled: Mapping[str, int] = tokenizer.get_vocab()
    found = {
        role: next((name for name in spellings if name in spelled), "")
        for role, spellings in FIM_TOKENS.items()
    }
    return {role: name for role, name in found.items() if name}


def fim_ids(tokenizer: PreTrainedTokenizerBase) -> FimIds | None:
    """The ids that frame a gap; None where the tokenizer lacks one of them."""
    tokens = fim_tokens(tokenizer)
    if not {"fim_pre", "fim_suf", "fim_mid"} <= tokens.keys():
        return None
    vocabulary = tokenizer.get_vocab()
    return FimIds(*(vocabulary[tokens[role]] for role in ("fim_pre", "fim_suf", "fim_mid")))
