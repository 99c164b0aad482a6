import json
from pathlib import Path

import pytest
from tests.support.tiny import tiny_qwen2, tiny_tokenizer
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from codestill.errors import VocabularyError
from codestill.models.student import Student
from codestill.teachers import require_same_vocabulary


def test_padded_widths_share_the_smaller(tmp_path: Path) -> None:
    student = Student.load(tiny_qwen2(tmp_path / "student", vocab_size=384), device="cpu")
    teacher = Student.load(tiny_qwen2(tmp_path / "teacher", vocab_size=512), device="cpu")
    arguments = (student.tokenizer, teacher.tokenizer, student.vocabulary_size, teacher.vocabulary_size)
    assert require_same_vocabulary(*arguments) == 384


def test_different_tokens_are_named() -> None:
    said = "disagree on 20 tokens: 'No' is no token for the student, id 300 for the teacher; "
    with pytest.raises(VocabularyError, match=said) as caught:
        require_same_vocabulary(tiny_tokenizer(300), tiny_tokenizer(320), 320, 320)
    assert caught.value.message.count("for the student") == 3
    assert "teacher's tokenizer" in caught.value.next_step


def test_an_added_token_counts() -> None:
    more = tiny_tokenizer()
    more.add_special_tokens({"additional_special_tokens": ["<fim_middle>"]})
    with pytest.raises(VocabularyError, match="'<fim_middle>' is no token for the student, id 320"):
        require_same_vocabulary(tiny_tokenizer(), more, 512, 512)


def test_swapped_ids_are_seen() -> None:
    backend = json.loads(tiny_tokenizer().backend_tokenizer.to_str())
    vocabulary = backend["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    other = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(backend)), eos_token="<|endoftext|>"
    )
    with pytest.raises(VocabularyError, match=r"disagree on 2 tokens: 'a' is id 65 .*; 'b' is id 66"):
        require_same_vocabulary(tiny_tokenizer(), other, 320, 320)


def test_widths_must_cover_the_tokenizer() -> None:
    with pytest.raises(VocabularyError, match="320 ids, but the student has logits for 319 only"):
        require_same_vocabulary(tiny_tokenizer(), tiny_tokenizer(), 319, 512)
