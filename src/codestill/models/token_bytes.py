"""The bytes that a tokenizer's ids stand for: what texts cut by different tokenizers have in common."""

import json
import re
from collections.abc import Iterator
from typing import Any

from transformers import PreTrainedTokenizerBase

from codestill.errors import VocabularyError
from codestill.models.codec import TextCodec

_PRINTABLE = (*range(33, 127), *range(161, 173), *range(174, 256))
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "▁"
# Normalisers that leave the bytes of code as they are, but for texts whose bytes are compared later.
_HARMLESS = {"byte-level": {"NFC"}, "byte fallback": {"Prepend", "Replace"}}


def token_bytes(codec: TextCodec) -> dict[int, bytes]:
    """The bytes of every id that stands for some; control tokens have none.

    Where several ids have the same bytes, the one that the tokenizer prefers comes last. Raises
    VocabularyError, which names the reason, for a tokenizer that does not say which bytes its tokens are.
    """
    kind, vocabulary = _kind(codec.tokenizer), codec.tokenizer.get_vocab()
    added = {id: token.content for id, token in codec.tokenizer.added_tokens_decoder.items()}
    plain = {id: token for token, id in vocabulary.items() if id not in added and id not in codec.controls}
    bytes_of = _byte_level if kind == "byte-level" else _byte_fallback
    spelled = {id: bytes_of(token) for id, token in sorted(plain.items())}
    found = sorted(spelled.items(), key=lambda item: _BYTE.fullmatch(plain[item[0]]) is None)
    literal = ((id, text.encode()) for id, text in sorted(added.items()) if id not in codec.controls)
    return {id: data for id, data in (*found, *literal) if data}


def _kind(tokenizer: PreTrainedTokenizerBase) -> str:
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise _refused(tokenizer, "it is written in Python, and does not tell the bytes of its tokens")
    saved = json.loads(backend.to_str())
    decoders = {part["type"] for part in _parts(saved["decoder"])}
    vocabulary = tokenizer.get_vocab()
    if "ByteLevel" in decoders:
        kind = "byte-level"
    elif "ByteFallback" in decoders and all(f"<0x{byte:02X}>" in vocabulary for byte in range(256)):
        kind = "byte fallback"
    else:
        raise _refused(tokenizer, "its tokens are neither byte-level nor fall back to bytes")
    for part in _parts(saved["normalizer"]):
        if part["type"] not in _HARMLESS[kind]:
            raise _refused(tokenizer, f"its normaliser {part['type']} changes texts")
    return kind


def _parts(component: Any) -> Iterator[dict[str, Any]]:
    """The parts of a component of ``tokenizer.json``, which may be a sequence of others, or nothing."""
    for part in [component] if component else []:
        nested = part.get("decoders") or part.get("normalizers")
        yield from [part] if nested is None else (inner for one in nested for inner in _parts(one))


def _refused(tokenizer: PreTrainedTokenizerBase, why: str) -> VocabularyError:
    name = tokenizer.name_or_path or type(tokenizer).__name__
    return VocabularyError(
        f"the tokenizer {name} cannot be aligned with another: {why}.",
        next_step="Train on the teacher's text (recipe sft), or use models that share a tokenizer "
        "(cache.vocabularies=same).",
    )


def _alphabet() -> dict[str, int]:
    """GPT-2's: the character for each byte; unprintable ones have characters from 256 on."""
    others = (byte for byte in range(256) if byte not in _PRINTABLE)
    return {chr(byte): byte for byte in _PRINTABLE} | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTE_OF = _alphabet()


def _byte_level(token: str) -> bytes:
    """Nothing for a token that no text has, because it is not spelled in the alphabet."""
    return bytes(_BYTE_OF[char] for char in token) if _BYTE_OF.keys() >= set(token) else b""


def _byte_fallback(token: str) -> bytes:
    byte = _BYTE.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace(_SPACE, " ").encode()
