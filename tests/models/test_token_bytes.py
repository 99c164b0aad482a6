"""The bytes of tokens, in every family of tokenizers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.token_families import FAMILIES, changed, family
from tokenizers import normalizers

from codestill.errors import VocabularyError
from codestill.models.codec import TextCodec
from codestill.models.token_bytes import token_bytes

WITH_BYTES = [name for name in FAMILIES if not name.startswith("slow")]
TEXTS = st.text("abdef \t\n():=0123456789éñ漢字→🙂_", max_size=40)


@pytest.mark.parametrize("name", WITH_BYTES)
@given(text=TEXTS)
def test_the_tokens_of_a_completion_join_to_its_bytes(name: str, text: str) -> None:
    codec = TextCodec(family(name))
    found = token_bytes(codec)
    ((_, ids),) = codec.examples([("def f(x):\n", text)])
    assert b"".join(found[id] for id in ids) == text.encode()


@pytest.mark.parametrize("name", WITH_BYTES)
def test_control_tokens_have_no_bytes(name: str) -> None:
    codec = TextCodec(family(name))
    found = token_bytes(codec)
    assert not found.keys() & codec.controls.keys()
    assert len(found) >= len(codec.tokenizer.get_vocab()) - len(codec.controls) - 1


def test_the_preferred_id_of_the_same_bytes_comes_last() -> None:
    """Llama's newline is a piece, and a byte of last resort; indentation that is added is what text has."""
    llama, chat = TextCodec(family("llama-first")), TextCodec(family("chat"))
    for codec, text in ((llama, "\n"), (llama, "a"), (chat, "    ")):
        ids = {data: id for id, data in token_bytes(codec).items()}
        ((_, written),) = codec.examples([("x:", text)])
        assert written == [ids[text.encode()]]


@pytest.mark.parametrize(
    ("name", "normalizer", "reason"),
    [
        ("gpt2", normalizers.Lowercase(), "its normaliser Lowercase changes texts"),
        ("gpt2", normalizers.Sequence([normalizers.NFC(), normalizers.NFKC()]), "its normaliser NFKC"),
        ("llama-first", normalizers.NFC(), "its normaliser NFC"),
        ("slow", None, "written in Python"),
    ],
)
def test_a_tokenizer_that_does_not_tell_its_bytes_is_refused_by_name(
    name: str, normalizer: Any, reason: str
) -> None:
    tokenizer = changed(name)
    tokenizer.name_or_path = "models/odd"
    if normalizer is not None:
        tokenizer.backend_tokenizer.normalizer = normalizer
    with pytest.raises(VocabularyError, match=f"models/odd cannot be aligned with another: .*{reason}"):
        token_bytes(TextCodec(tokenizer))


def test_a_tokenizer_of_words_is_refused() -> None:
    tokenizer = changed("llama-first")
    tokenizer.backend_tokenizer.decoder = None
    with pytest.raises(VocabularyError, match="neither byte-level nor fall back to bytes"):
        token_bytes(TextCodec(tokenizer))


def test_unicode_composition_is_left_to_the_comparison_of_texts() -> None:
    """Qwen2's normaliser."""
    tokenizer = changed("gpt2")
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    assert token_bytes(TextCodec(tokenizer)) == token_bytes(TextCodec(family("gpt2")))
