"""Load tokenizers that keep their ids, and turn prompts into ids and ids into completions."""

import logging
from collections.abc import Sequence
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import cached_file  # pyright: ignore[reportPrivateImportUsage]

from codestill.errors import ModelError, VocabularyError
from codestill.models.codec import TextCodec

_log = logging.getLogger(__name__)

# Digits, indentation, tabs, contractions, accents and CJK: where pre-tokenizers disagree.
_PROBE = (
    "def add_12345(x, y):\n\t# it's naïve → 漢字\n\n    return  x+y"
    "  if x>=1e-10 else 'a  b'\r\n\n\n        pass"
)


def load_tokenizer(
    source: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer of a directory or hub id, with an end-of-sequence and a padding token.

    AutoTokenizer replaces the pre-tokenizer of some model types (Qwen2) by its own, which gives other ids
    than ``tokenizer.json``; then the file takes precedence. Raises ModelError.
    """
    options: dict[str, Any] = {"revision": revision or "main", "trust_remote_code": trust_remote_code}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        if cached_file(source, "tokenizer.json", revision=revision, **_MAY_BE_MISSING):
            plain = PreTrainedTokenizerFast.from_pretrained(source, revision=revision or "main")
            if not same_ids(tokenizer, plain):
                tokenizer = plain
    except Exception as error:  # transformers raises OSError, ValueError, KeyError, ... for a bad tokenizer
        raise ModelError(
            f"No tokenizer can be loaded from {source}: {_first_line(error)}",
            next_step="Check that it holds tokenizer.json and tokenizer_config.json, "
            "or name another with `tokenizer`.",
        ) from error
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"The tokenizer of {source} has no end-of-sequence token, so no completion could end.",
            next_step='Name one of its tokens as "eos_token" in tokenizer_config.json, '
            "or use another with `tokenizer`.",
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # a new token would change the vocabulary
    return tokenizer


_MAY_BE_MISSING: dict[str, Any] = {
    "_raise_exceptions_for_missing_entries": False,
    "_raise_exceptions_for_connection_errors": False,
    "_raise_exceptions_for_gated_repo": False,
}


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def same_ids(a: PreTrainedTokenizerBase, b: PreTrainedTokenizerBase) -> bool:
    """Whether both encode a probe text to the same ids (special tokens aside)."""
    return a.encode(_PROBE, add_special_tokens=False) == b.encode(_PROBE, add_special_tokens=False)


def warn_if_reload_differs(directory: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Warn when AutoTokenizer, loading a saved tokenizer, gives other ids than the tokenizer itself."""
    if not same_ids(tokenizer, AutoTokenizer.from_pretrained(directory)):
        _log.warning(
            "%s: AutoTokenizer replaces the pre-tokenizer for this model type and gives other ids. "
            "Outside codestill load it with PreTrainedTokenizerFast.from_pretrained.",
            directory,
        )


def id_count(tokenizer: PreTrainedTokenizerBase) -> int:
    """The largest id plus one; a model's rows beyond it are padding."""
    return max(tokenizer.get_vocab().values()) + 1


def require_rows(tokenizer: PreTrainedTokenizerBase, rows: int, model: str) -> None:
    """Raise VocabularyError when the tokenizer has ids for which the model's embedding has no row."""
    if id_count(tokenizer) > rows:
        raise VocabularyError(
            f"The tokenizer has {id_count(tokenizer):,} ids, but {model} has {rows:,} rows.",
            next_step="Choose a preset or model with a vocabulary at least as large, or another `tokenizer`.",
        )


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """Ids of a prompt; see :meth:`TextCodec.prompt`."""
    return TextCodec(tokenizer).prompt(prompt)


def decode_completion(
    tokenizer: PreTrainedTokenizerBase, prompt_ids: Sequence[int], new_ids: Sequence[int]
) -> str:
    """Text of ``new_ids`` as a continuation of the prompt; see :meth:`TextCodec.decode`."""
    return TextCodec(tokenizer).decode(prompt_ids, new_ids)
