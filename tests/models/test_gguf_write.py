"""A saved model as a GGUF file: read back it is the same model with the same ids."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader
from gguf.quants import dequantize, quantize
from tests.support.gguf_files import write_gguf as written_for_tests
from tests.support.tiny import CODE, tiny_model, tiny_tokenizer
from tests.support.token_families import family
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast

from codestill.errors import ModelError
from codestill.models.fim import FIM_TOKENS
from codestill.models.gguf.store import folder_of, quantization_of
from codestill.models.gguf.tokenizer import RULES, splitting
from codestill.models.gguf.write import rule_of, write_gguf
from codestill.models.tokenizers import load_tokenizer
from codestill.pocket import bundled_directory

from .test_gguf import _logits, _source

KINDS = ("gpt2", "llama", "qwen2", "qwen3", "starcoder2")
CHAT = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def read(path: Path) -> GGUFReader:
    return GGUFReader(path)


def value(path: Path, key: str) -> Any:
    field = read(path).get_field(key)
    return None if field is None else field.contents()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read_back_as_the_same_model(kind: str, tied: bool, tmp_path: Path) -> None:
    source = _source(kind, tmp_path / "source", tie_word_embeddings=tied)
    write_gguf(source, tmp_path / "model.gguf", "f32")
    folder = folder_of(tmp_path / "model.gguf")
    torch.testing.assert_close(_logits(folder), _logits(source), rtol=0, atol=0)
    made, own = load_tokenizer(str(folder)), load_tokenizer(str(source))
    assert made(CODE).input_ids == own(CODE).input_ids and made.get_vocab() == own.get_vocab()
    assert (made.eos_token, made.pad_token) == (own.eos_token, own.pad_token)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "starcoder2"])
def test_the_tensors_are_those_of_an_independent_writer(kind: str, tmp_path: Path) -> None:
    source = _source(kind, tmp_path / "source")
    write_gguf(source, tmp_path / "ours.gguf", "f32")
    written_for_tests(source, tmp_path / "theirs.gguf", "F32")
    ours, theirs = ({t.name: t for t in read(tmp_path / f"{n}.gguf").tensors} for n in ("ours", "theirs"))
    assert ours.keys() == theirs.keys()
    assert all((ours[name].data == theirs[name].data).all() for name in ours)


@pytest.mark.parametrize("stored", ["f16", "bf16", "q8_0", "q4_0"])
def test_matrices_are_stored_as_asked_and_all_else_in_float32(
    stored: Any, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(saved("gpt2"), path, stored)
    tensors = {tensor.name: tensor for tensor in read(path).tensors}
    up = tensors["blk.0.ffn_up.weight"]
    assert up.tensor_type.name == stored.upper()
    for name in ("blk.0.attn_norm.weight", "blk.0.ffn_up.bias", "position_embd.weight"):
        assert tensors[name].tensor_type.name == "F32"
    before: Any = AutoModelForCausalLM.from_pretrained(saved("gpt2"))
    wanted = before.transformer.h[0].mlp.c_fc.weight.detach().T.contiguous().numpy()
    assert (
        dequantize(up.data, up.tensor_type) == dequantize(quantize(wanted, up.tensor_type), up.tensor_type)
    ).all()
    assert quantization_of(folder_of(path)) == stored.upper()


def test_rows_that_are_no_whole_blocks_are_float16(tmp_path: Path) -> None:
    source = tiny_model(tmp_path / "source", "llama", intermediate_size=40)
    write_gguf(source, tmp_path / "model.gguf", "q8_0")
    kinds = {tensor.name: tensor.tensor_type.name for tensor in read(tmp_path / "model.gguf").tensors}
    assert kinds["blk.0.ffn_down.weight"] == "F16" and kinds["blk.0.ffn_up.weight"] == "Q8_0"
    assert _logits(folder_of(tmp_path / "model.gguf")).isfinite().all()


def test_a_chat_model_keeps_its_template_and_both_of_its_ends(tmp_path: Path) -> None:
    source = tiny_model(tmp_path / "source", "qwen2")
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(source)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHAT
    model: Any = AutoModelForCausalLM.from_pretrained(source)
    model.resize_token_embeddings(len(tokenizer))
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.generation_config = GenerationConfig(eos_token_id=[end, tokenizer.eos_token_id])
    model.save_pretrained(tmp_path / "chat")
    tokenizer.save_pretrained(tmp_path / "chat")
    write_gguf(tmp_path / "chat", tmp_path / "chat.gguf", "f16")
    assert value(tmp_path / "chat.gguf", "tokenizer.chat_template") == CHAT
    assert value(tmp_path / "chat.gguf", "tokenizer.ggml.eot_token_id") == end
    folder = folder_of(tmp_path / "chat.gguf")
    assert load_tokenizer(str(folder)).chat_template == CHAT
    assert set(GenerationConfig.from_pretrained(folder).eos_token_id) == {end, tokenizer.eos_token_id}


def test_tokens_of_fill_in_the_middle_are_named(tmp_path: Path) -> None:
    source = tiny_model(tmp_path / "source", "starcoder2")
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(source)
    write_gguf(source, tmp_path / "without.gguf", "f16")
    assert value(tmp_path / "without.gguf", "tokenizer.ggml.fim_pre_token_id") is None
    roles = ("fim_pre", "fim_suf", "fim_mid")
    named = [FIM_TOKENS[role][1] for role in roles]
    tokenizer.add_special_tokens({"additional_special_tokens": named})
    model: Any = AutoModelForCausalLM.from_pretrained(source)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(tmp_path / "fim")
    tokenizer.save_pretrained(tmp_path / "fim")
    write_gguf(tmp_path / "fim", tmp_path / "fim.gguf", "f16")
    for role, token in zip(roles, named, strict=True):
        id = tokenizer.convert_tokens_to_ids(token)
        assert value(tmp_path / "fim.gguf", f"tokenizer.ggml.{role}_token_id") == id


def test_rows_without_a_token_stay_without_one(tmp_path: Path) -> None:
    source = tiny_model(tmp_path / "source", "llama")
    config = AutoConfig.from_pretrained(source)
    model: Any = AutoModelForCausalLM.from_pretrained(source)
    model.resize_token_embeddings(config.vocab_size + 7)
    model.save_pretrained(tmp_path / "wide")
    tiny_tokenizer().save_pretrained(tmp_path / "wide")
    write_gguf(tmp_path / "wide", tmp_path / "wide.gguf", "f32")
    assert len(value(tmp_path / "wide.gguf", "tokenizer.ggml.tokens")) == config.vocab_size + 7
    assert load_tokenizer(str(folder_of(tmp_path / "wide.gguf"))).get_vocab() == tiny_tokenizer().get_vocab()


@pytest.mark.parametrize(
    ("kind", "changes", "named"),
    [
        ("starcoder2", {"sliding_window": 16}, "sliding_window is 16"),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 16}, "use_sliding_window is True"),
        ("gpt2", {"activation_function": "relu"}, "activation_function is relu"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act is gelu"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "rope_type is dynamic",
        ),
    ],
)
def test_what_a_file_cannot_state_is_refused(
    kind: str, changes: dict[str, Any], named: str, tmp_path: Path
) -> None:
    source = tiny_model(tmp_path / "source", kind, **changes)
    with pytest.raises(ModelError) as caught:
        write_gguf(source, tmp_path / "model.gguf", "f16")
    assert named in caught.value.message
    assert not list(tmp_path.glob("*.gguf*"))


def test_linear_positions_are_stated(tmp_path: Path) -> None:
    rope = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}
    source = tiny_model(tmp_path / "source", "llama", rope_parameters=rope)
    write_gguf(source, tmp_path / "model.gguf", "f32")
    torch.testing.assert_close(_logits(folder_of(tmp_path / "model.gguf")), _logits(source), rtol=0, atol=0)


def test_a_tokenizer_that_llama_cpp_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no name for"):
        write_gguf(bundled_directory("pocket-base-0.1m"), tmp_path / "model.gguf", "f16")
    assert list(tmp_path.glob("*gguf*")) == []


@pytest.mark.parametrize("name", ["llama-legacy", "unigram"])
def test_sentencepiece_is_refused(name: str) -> None:
    tokenizer: Any = family(name)
    with pytest.raises(ModelError, match="only byte-level BPE"):
        rule_of(tokenizer)


@pytest.mark.parametrize("name", RULES)
def test_rules_are_told_apart_whatever_is_merged(name: str) -> None:
    whole = PreTrainedTokenizerFast(tokenizer_object=splitting({"a": 0}, [], RULES[name]))
    assert RULES[rule_of(whole)] == replace(RULES[name], bos=RULES[rule_of(whole)].bos)


def test_a_space_that_is_put_before_a_text_is_another_rule() -> None:
    tokenizer: Any = family("prefix-space")
    with pytest.raises(ModelError, match="has no name for"):
        rule_of(tokenizer)
