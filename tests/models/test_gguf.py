import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from tests.support.gguf_files import CONTROL, UNUSED, USER_DEFINED, write_gguf
from tests.support.tiny import CODE, CPU, save_model, tiny_config, tiny_model, tiny_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, Qwen3Config
from transformers.integrations.gguf.dequant import dequantize as torch_dequantize

from codestill.errors import ModelError
from codestill.models import StudentConfig
from codestill.models.gguf import convert
from codestill.models.gguf.store import folder_of, quantization_of, store
from codestill.models.load import resolve
from codestill.models.student import Student
from codestill.models.tokenizers import load_tokenizer
from codestill.teachers.local import LocalTeacherConfig

KINDS = ("llama", "qwen2", "starcoder2", "qwen3")
CHAT = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return store()


@pytest.fixture
def source(saved: Callable[[str], Path]) -> Path:
    return saved("llama")


@pytest.fixture
def file(source: Path, tmp_path: Path) -> Path:
    return write_gguf(source, tmp_path / "tiny.gguf")


def _source(kind: str, place: Path, **changes: Any) -> Path:
    if kind == "qwen3":
        shape: dict[str, Any] = tiny_config("qwen2", **changes).to_dict()
        own = ("model_type", "architectures", "layer_types", "use_sliding_window")
        shape = {name: value for name, value in shape.items() if name not in own}
        shape["head_dim"] = 16
        return save_model(place, Qwen3Config(**shape), tiny_tokenizer())
    return tiny_model(place, kind, **changes)


def _logits(place: Path | str) -> torch.Tensor:
    """Logits [1, T, V] in float32 at 100 positions."""
    model: Any = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()
    tokens = torch.arange(100)[None] % model.config.vocab_size
    with torch.no_grad():
        return model(tokens).logits


# what comes out


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_the_model_computes_what_its_source_does(kind: str, tied: bool, tmp_path: Path) -> None:
    changes = {"rope_parameters": {"rope_type": "default", "rope_theta": 123_456.0}}
    source = _source(kind, tmp_path / "source", tie_word_embeddings=tied, **changes)
    folder = folder_of(write_gguf(source, tmp_path / "tiny.gguf"))
    torch.testing.assert_close(_logits(folder), _logits(source), rtol=0, atol=0)
    config, made = AutoConfig.from_pretrained(source), AutoConfig.from_pretrained(folder)
    assert made.max_position_embeddings == config.max_position_embeddings == 128
    assert made.rope_parameters["rope_theta"] == 123_456.0
    assert made.tie_word_embeddings == tied
    assert made.architectures == config.architectures
    assert made.dtype == torch.float32
    assert not hasattr(made, "quantization_config")


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_0"])
def test_weights_keep_the_precision_of_the_file(source: Path, tmp_path: Path, kind: str) -> None:
    folder = folder_of(write_gguf(source, tmp_path / "tiny.gguf", kind))
    before: Any = AutoModelForCausalLM.from_pretrained(source)
    after: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert after.dtype == torch.float16
    assert quantization_of(folder) == kind
    for name in ("embed_tokens.weight", "layers.1.mlp.down_proj.weight", "layers.0.input_layernorm.weight"):
        wanted = before.model.get_parameter(name).detach().numpy()
        if wanted.ndim == 2 and kind != "F16":
            stored = GGMLQuantizationType[kind]
            wanted = dequantize(quantize(wanted, stored), stored)
        assert np.array_equal(after.model.get_parameter(name).detach().numpy(), wanted.astype(np.float16))


def test_k_quants(tmp_path: Path) -> None:
    source = tiny_model(tmp_path / "source", "qwen2", hidden_size=256, num_hidden_layers=1)
    blocks = np.random.default_rng(0).integers(0, 256, (64, 144), np.uint8)
    blocks[:, :4] = np.full((64, 2), 0.01, np.float16).view(np.uint8)  # scale and minimum of a block
    kind = GGMLQuantizationType.Q4_K
    file = write_gguf(source, tmp_path / "tiny.gguf", raw={"blk.0.ffn_up.weight": (blocks, kind)},
                      metadata={"general.file_type": 15})  # fmt: skip
    folder = folder_of(file)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    wanted = torch_dequantize(torch.from_numpy(blocks), kind.value).reshape(64, 256)
    torch.testing.assert_close(model.model.layers[0].mlp.up_proj.weight.data.float(), wanted.half().float())
    assert quantization_of(folder) == "Q4_K_M"


def test_a_recipe_that_the_file_does_not_hold_is_not_named(source: Path, tmp_path: Path) -> None:
    file = write_gguf(source, tmp_path / "tiny.gguf", "Q8_0", metadata={"general.file_type": 15})
    assert quantization_of(folder_of(file)) == "Q8_0"


def test_large_models_come_in_several_files(
    source: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "_FILE_BYTES", 20_000)
    monkeypatch.setattr(convert, "_PIECE", 100)
    folder = folder_of(file)
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 2
    torch.testing.assert_close(_logits(folder), _logits(source), rtol=0, atol=0)


def test_scaled_positions(tmp_path: Path) -> None:
    linear = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}
    source = tiny_model(tmp_path / "linear", "llama", rope_parameters=linear)
    stated = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    folder = folder_of(write_gguf(source, tmp_path / "linear.gguf", metadata=stated))
    torch.testing.assert_close(_logits(folder), _logits(source), rtol=0, atol=0)

    llama3 = {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    source = tiny_model(tmp_path / "llama3", "llama", rope_parameters=llama3, head_dim=32)
    plain = 500_000.0 ** (-np.arange(0, 32, 2) / 32)
    model: Any = AutoModelForCausalLM.from_pretrained(source)
    divisors = (plain / model.model.rotary_emb.inv_freq.numpy()).astype(np.float32)
    assert divisors[0] == 1
    assert 1 < divisors[-6] < 8

    def with_divisors(tensors: dict[str, np.ndarray]) -> None:
        tensors["rope_freqs.weight"] = divisors

    folder = folder_of(write_gguf(source, tmp_path / "llama3.gguf", edit=with_divisors))
    assert AutoConfig.from_pretrained(folder).rope_parameters == llama3
    torch.testing.assert_close(_logits(folder), _logits(source), rtol=0, atol=0)
    divisors = divisors + 0.1
    with pytest.raises(ModelError, match=r"not Llama 3\.1's"):
        folder_of(write_gguf(source, tmp_path / "other.gguf", edit=with_divisors))


# tokenizers


def test_tokens_and_their_kinds(tmp_path: Path) -> None:
    extra = {"<|im_start|>": CONTROL, "<|im_end|>": CONTROL, "<think>": USER_DEFINED, "[PAD323]": UNUSED}
    count = len(tiny_tokenizer(316))
    place = save_model(tmp_path / "source", tiny_config("llama"), tiny_tokenizer(316))
    stated = {
        "tokenizer.chat_template": CHAT,
        "tokenizer.ggml.eos_token_id": count + 1,
        "tokenizer.ggml.bos_token_id": count,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
    }
    folder = folder_of(write_gguf(place, tmp_path / "tiny.gguf", tokens=extra, metadata=stated))
    tokenizer = load_tokenizer(str(folder))
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert tokenizer.pad_token_id == 0
    assert tokenizer.chat_template == CHAT
    assert "[PAD323]" not in tokenizer.get_vocab()
    assert tokenizer("<think>x").input_ids == [count, count + 2, tokenizer.convert_tokens_to_ids("x")]
    added = tokenizer.added_tokens_decoder
    assert [added[id].special for id in (count, count + 1, count + 2)] == [True, True, False]
    assert GenerationConfig.from_pretrained(folder).eos_token_id == [count + 1, 0]
    student = Student.load(folder, device="cpu")
    assert {0, count + 1} <= student.stop_ids
    assert student.codec.prompt("x") == [count, tokenizer.convert_tokens_to_ids("x")]


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_the_source_tokenizers(kind: str, tmp_path: Path) -> None:
    source = _source(kind, tmp_path / "source")
    folder = folder_of(write_gguf(source, tmp_path / "tiny.gguf"))
    ours, wanted = load_tokenizer(str(folder)), tiny_tokenizer()
    text = CODE + "\r\n\tx = 12345.678  # it's naïve → 漢字\n\n\n    y  =  10"
    assert ours(text).input_ids == wanted(text).input_ids
    assert ours.decode(ours(text).input_ids) == text
    assert ours.get_vocab() == wanted.get_vocab()


PROBE = "if x1 >= 1024:\n\n    return  it's(aB2)\n"
PIECES = {
    # A digit is a piece of its own, and no space is joined to it.
    "smollm": ["if", " x", "1", " >=", " ", "1", "0", "2", "4", ":", "\n\n   ", " return", " ", " it", "'s",
               "(", "aB", "2", ")", "\n"],
    # A word takes the sign before it, and signs the line ends behind them; a digit is alone.
    "qwen2": ["if", " x", "1", " >=", " ", "1", "0", "2", "4", ":\n\n", "   ", " return", " ", " it", "'s",
              "(aB", "2", ")\n"],
    # The same, with digits in threes.
    "llama-bpe": ["if", " x", "1", " >=", " ", "102", "4", ":\n\n", "   ", " return", " ", " it", "'s",
                  "(aB", "2", ")\n"],
    # The same, with a capital at the start of a piece.
    "tekken": ["if", " x", "1", " >=", " ", "1", "0", "2", "4", ":\n\n", "   ", " return", " ", " it", "'s",
               "(a", "B", "2", ")\n"],
    "gpt-2": ["if", " x", "1", " >=", " 1024", ":", "\n\n   ", " return", " ", " it", "'s", "(", "aB", "2",
              ")", "\n"],
    "deepseek-coder": ["if", " x", "1", " >= ", "1", "0", "2", "4", ":", "\n", "\n", "   ", " return", " ",
                       " it", "'", "s", "(", "aB", "2", ")", "\n"],
}  # fmt: skip


@pytest.mark.parametrize("name", PIECES)
def test_text_is_split_as_the_file_says(source: Path, tmp_path: Path, name: str) -> None:
    file = write_gguf(source, tmp_path / "tiny.gguf", metadata={"tokenizer.ggml.pre": name})
    backend: Any = load_tokenizer(str(folder_of(file))).backend_tokenizer
    spelled = [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(PROBE)]
    assert [piece.replace("Ġ", " ").replace("Ċ", "\n") for piece in spelled] == PIECES[name]


def test_qwen2_composes_accents(source: Path, tmp_path: Path) -> None:
    for name, same in (("qwen2", True), ("deepseek-r1-qwen", False)):
        file = write_gguf(source, tmp_path / f"{name}.gguf", metadata={"tokenizer.ggml.pre": name})
        tokenizer = load_tokenizer(str(folder_of(file)))
        assert (tokenizer("e\u0301").input_ids == tokenizer("é").input_ids) == same


def test_llama3_takes_whole_words(source: Path, tmp_path: Path) -> None:
    stated = {"tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.merges": ["x y"]}
    tokens = {"counted": 1, "xy": 1}
    place = save_model(tmp_path / "source", tiny_config("llama"), tiny_tokenizer(260))
    file = write_gguf(place, tmp_path / "tiny.gguf", metadata=stated, tokens=tokens)
    tokenizer = load_tokenizer(str(folder_of(file)))
    assert tokenizer.tokenize("counted") == ["counted"]
    assert tokenizer.tokenize("xyz") == ["xy", "z"]


# what is refused


def _refused(file: Path, message: str, step: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        resolve(str(file))
    assert file.name in caught.value.message
    assert step in caught.value.next_step
    assert not list(store().glob("[0-9a-f]*"))


def test_files_that_are_no_whole_gguf(file: Path, tmp_path: Path) -> None:
    data = file.read_bytes()
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    for name, content, message, step in (
        ("cut.gguf", data[:-2000], "cut short, damaged", "SHA-256"),
        ("header.gguf", data[:5000], "cut short, damaged", "SHA-256"),
        ("start.gguf", data[:10], "cut short, damaged", "SHA-256"),
        ("newer.gguf", b"GGUF" + (9).to_bytes(4, "little") + data[8:], "version 9", "gguf"),
        ("empty.gguf", b"", "is no GGUF file", "download"),
        ("other.gguf", b"PK\3\4" + data[4:], r"begins with b'PK", "download"),
        ("pointer.gguf", pointer, "Git LFS pointer", "git lfs pull"),
        ("model-00002-of-00003.gguf", data, "one of 3 parts", "--merge model-00001-of-00003.gguf model.gguf"),
        ("model.bin", b"PK\3\4", "is a file", "GGUF file"),
    ):
        (tmp_path / name).write_bytes(content)
        _refused(tmp_path / name, message, step)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (
            {"general.architecture": "mamba"},
            "architecture mamba; those that can be read are gpt2, llama",
        ),
        ({"general.type": "adapter"}, "holds no model but a adapter"),
        ({"split.count": 3}, "one of 3 parts"),
        ({"llama.expert_count": 8}, "mixture of experts"),
        ({"llama.attention.sliding_window": 64}, "states llama.attention.sliding_window = 64"),
        ({"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0}, "by the method yarn"),
        ({"llama.rope.dimension_count": 4}, "rope.dimension_count = 4"),
        ({"llama.embedding_length": None}, "lacks llama.embedding_length"),
        ({"llama.feed_forward_length": 32}, r"in the shape \[64, 32\], not \[32, 32\]"),
        ({"llama.block_count": 3}, "lacks the tensor blk.2"),
        ({"llama.block_count": 1}, "holds the tensor blk.1"),
        ({"tokenizer.ggml.model": "llama"}, "of the kind 'llama'"),
        ({"tokenizer.ggml.pre": "novel"}, "by the rule 'novel'"),
        ({"tokenizer.ggml.pre": None}, "lacks tokenizer.ggml.pre"),
        ({"tokenizer.ggml.tokens": None}, "lacks tokenizer.ggml.tokens"),
        ({"tokenizer.ggml.token_type": None}, "lacks tokenizer.ggml.token_type"),
        ({"tokenizer.ggml.merges": None}, "lacks tokenizer.ggml.merges"),
        ({"tokenizer.ggml.eos_token_id": None}, "no end-of-sequence"),
        ({"tokenizer.ggml.merges": ["unheard of"]}, "tokenizer that makes no sense"),
    ],
)
def test_models_that_would_not_be_themselves(
    source: Path, tmp_path: Path, metadata: dict[str, Any], message: str
) -> None:
    _refused(write_gguf(source, tmp_path / "tiny.gguf", metadata=metadata), message, "")


def test_weights_that_cannot_be_used(source: Path, tmp_path: Path) -> None:
    def spoil(tensors: dict[str, np.ndarray]) -> None:
        tensors["blk.1.ffn_up.weight"][3, 3] = np.nan

    _refused(write_gguf(source, tmp_path / "nan.gguf", edit=spoil), "not finite in blk.1.ffn_up", "again")

    def large(tensors: dict[str, np.ndarray]) -> None:
        tensors["blk.1.ffn_up.weight"][3, 3] = 1e6

    folder = folder_of(write_gguf(source, tmp_path / "large.gguf", "Q8_0", edit=large))
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert model.model.layers[1].mlp.up_proj.weight[3, 3] > 9e5
    shutil.rmtree(folder)
    raw = {"blk.0.ffn_up.weight": (np.zeros((64, 292), np.uint8), GGMLQuantizationType.Q8_K)}
    wide = tiny_model(tmp_path / "wide", "llama", hidden_size=256, num_hidden_layers=1)
    _refused(write_gguf(wide, tmp_path / "q8k.gguf", raw=raw), "weights as Q8_K", "Q4_K_M")


def test_the_package_is_named_where_it_is_missing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    _refused(file, "is a GGUF file", "pip install 'codestill[gguf]'")


# where a model is named


def test_students_and_teachers(source: Path, file: Path, tmp_path: Path) -> None:
    student = StudentConfig.model_validate(str(file)).build(placement=CPU)
    assert (student.name, student.quantization) == ("tiny.gguf", "F32")
    again = Student.load(student.save(tmp_path / "saved"), device="cpu")
    assert again.quantization is None
    fresh = StudentConfig(model=str(file), from_scratch=True).build(placement=CPU)
    assert fresh.model.num_parameters() == student.model.num_parameters()
    assert fresh.quantization is None
    teacher = LocalTeacherConfig.model_validate(str(file))
    assert teacher.tokenizer().get_vocab() == student.tokenizer.get_vocab()
    assert teacher.build(CPU).name == "tiny.gguf"
    preset = StudentConfig(preset="pocket-0.1m", tokenizer=str(file)).build(placement=CPU)
    assert preset.tokenizer.get_vocab() == student.tokenizer.get_vocab()
    (tmp_path / "link.gguf").symlink_to(file)
    assert Student.load(tmp_path / "link.gguf", device="cpu").name == "link.gguf"
