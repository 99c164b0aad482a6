import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from tests.support.tiny import CODE, CPU, tiny_config, tiny_model, tiny_tokenizer
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from codestill.errors import ModelError, VocabularyError
from codestill.models import PRESETS, Decoding, SamplingConfig, StudentConfig, preset_table
from codestill.models.presets import NO_IDS, PRESET_NAMES, PresetName, size_row
from codestill.models.student import Student
from codestill.models.timing import calmest
from codestill.models.tokenizers import load_tokenizer, same_ids
from codestill.types import Request

STRANGER = """
import json, sys
from transformers import AutoModelForCausalLM, AutoTokenizer
for place in sys.argv[2:]:
    model = AutoModelForCausalLM.from_pretrained(place)
    tokenizer = AutoTokenizer.from_pretrained(place)
    prompt = tokenizer(sys.argv[1], return_tensors="pt")
    new = model.generate(**prompt, max_new_tokens=16, do_sample=False)[0, prompt["input_ids"].shape[1]:]
    print(json.dumps({"text": tokenizer.decode(new, skip_special_tokens=True), "dtype": str(model.dtype),
                      "ids": prompt["input_ids"][0].tolist()}))
assert not any(name.startswith("codestill") for name in sys.modules)
"""


def same_weights(a: Student, b: Student) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.model.parameters(), b.model.parameters(), strict=True))


def test_presets_have_exact_sizes() -> None:
    sizes = {row.name: row.parameters for row in preset_table()}
    assert sizes["gpt2-44m"] == 44_343_296
    assert sizes["gpt2-202m"] == 202_012_672
    assert sizes["llama-44m"] == 44_440_064
    assert [sizes[name] for name in PRESET_NAMES if name.startswith("pocket")] == [
        104_688,
        430_752,
        935_040,
        1_599_200,
        2_853_312,
    ]
    assert tuple(PRESETS) == PRESET_NAMES
    assert preset_table()[0].bf16_megabytes == pytest.approx(88.686592)


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_sizes_by_arithmetic_are_those_of_the_models(name: PresetName) -> None:
    rows = {row.name: row for row in preset_table()}
    assert rows[name] == size_row(name, PRESETS[name].transformers_config(**NO_IDS))


def test_config_needs_no_torch() -> None:
    code = (
        "import sys, codestill.models, codestill.teachers\n"
        "codestill.models.StudentConfig.model_validate('gpt2-44m')\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_config_takes_a_string_and_one_origin() -> None:
    assert StudentConfig.model_validate("pocket-0.4m").preset == "pocket-0.4m"
    assert StudentConfig.model_validate("some/model").model == "some/model"
    for wrong in ({}, {"preset": "gpt2-44m", "model": "some/model"}, {"preset": "gpt2-45m"}, {"modle": "x"}):
        with pytest.raises(ValidationError):
            StudentConfig.model_validate(wrong)


def test_preset_takes_the_teachers_tokenizer_and_its_seed() -> None:
    def build(seed: int) -> Student:
        return StudentConfig(preset="pocket-0.1m").build(tiny_tokenizer(), placement=CPU, seed=seed)

    state = torch.get_rng_state()
    a, b, other = build(0), build(0), build(1)
    assert torch.equal(torch.get_rng_state(), state)
    assert same_weights(a, b)
    assert not same_weights(a, other)
    assert a.vocabulary_size == 1024
    assert a.stop_ids == {0}
    assert a.name == "pocket-0.1m"


def test_gpt2_presets_have_no_dropout() -> None:
    config = PRESETS["gpt2-44m"].transformers_config()
    assert config.attn_pdrop == config.embd_pdrop == config.resid_pdrop == 0


def test_tokenizer_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    big = PreTrainedTokenizerFast(
        tokenizer_object=tiny_tokenizer().backend_tokenizer, eos_token="<|endoftext|>"
    )
    big.add_tokens([f"<extra_{i}>" for i in range(1024)])
    with pytest.raises(VocabularyError, match="1,024 rows"):
        StudentConfig(preset="pocket-0.1m").build(big, placement=CPU)
    with pytest.raises(VocabularyError, match="300 rows"):
        Student.load(tiny_model(tmp_path / "narrow", "llama", vocab_size=300), device="cpu")


def test_saved_students_need_transformers_alone(saved: Callable[[str], Path], tmp_path: Path) -> None:
    kinds = {"gpt2": "float32", "llama": "bfloat16", "starcoder2": "float32"}
    prompt, expected = CODE[:40], []
    for kind, dtype in kinds.items():
        config = StudentConfig.model_validate({"model": str(saved(kind)), "dtype": dtype})
        student = config.build(placement=CPU)
        assert {file.name for file in student.save(tmp_path / kind).iterdir()} == {
            "config.json",
            "codestill.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
        }
        (ours,) = student.complete(
            [Request(task_id="t", prompt=prompt)], Decoding(SamplingConfig(max_new_tokens=16))
        )
        ids = student.tokenizer.encode(prompt)
        expected.append({"text": ours.text, "dtype": f"torch.{dtype}", "ids": ids})
    assert {file.name for file in tmp_path.iterdir()} == set(kinds)  # nothing temporary is left
    places = [str(tmp_path / kind) for kind in kinds]
    process = subprocess.run(
        [sys.executable, "-c", STRANGER, prompt, *places], check=True, capture_output=True, text=True
    )
    assert [json.loads(line) for line in process.stdout.splitlines() if line.startswith("{")] == expected


def test_reload_keeps_weights_ids_and_dtype(student: Student, tmp_path: Path) -> None:
    again = Student.load(student.save(tmp_path / "a"), device="cpu")
    before, after = student.model.state_dict(), again.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert again.tokenizer.get_vocab() == student.tokenizer.get_vocab()
    assert again.tokenizer.encode(CODE) == student.tokenizer.encode(CODE) == tiny_tokenizer().encode(CODE)
    assert again.stop_ids == student.stop_ids
    third = Student.load(again.save(tmp_path / "a"), device="cpu")  # over an existing one
    assert third.tokenizer.encode(CODE) == student.tokenizer.encode(CODE)


def test_qwen2_keeps_a_custom_pre_tokenizer(
    saved: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    student = Student.load(saved("qwen2"), device="cpu")
    place = str(student.save(tmp_path / "student"))
    plain = PreTrainedTokenizerFast.from_pretrained(place)
    assert same_ids(student.tokenizer, tiny_tokenizer())
    assert same_ids(plain, tiny_tokenizer())
    assert not same_ids(AutoTokenizer.from_pretrained(place), tiny_tokenizer())  # the trap is there
    assert "PreTrainedTokenizerFast" in caplog.text


def test_kill_while_saving_leaves_the_old_student(saved: Callable[[str], Path], tmp_path: Path) -> None:
    place = tmp_path / "student"
    code = (
        "import sys; from codestill.models.student import Student\n"
        "student = Student.load(sys.argv[1], device='cpu')\n"
        "while True: student.save(sys.argv[2]); print('saved', flush=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(saved("gpt2")), str(place)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    whole = place if place.exists() else tmp_path / ".student.old"
    Student.load(whole, device="cpu").save(place)
    assert [file.name for file in tmp_path.iterdir()] == ["student"]


def test_fresh_weights_from_a_models_shape(saved: Callable[[str], Path]) -> None:
    config = StudentConfig(model=str(saved("qwen2")), from_scratch=True)
    fresh, trained = (
        config.build(placement=CPU, seed=3),
        Student.load(saved("qwen2"), device="cpu"),
    )
    assert fresh.vocabulary_size == trained.vocabulary_size
    assert not same_weights(fresh, trained)


def test_padding_never_adds_an_id(saved: Callable[[str], Path], tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    ids = len(tokenizer)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(str(tmp_path))
    loaded = load_tokenizer(str(tmp_path))
    assert len(loaded) == ids
    assert loaded.pad_token_id == loaded.eos_token_id == 0


def test_a_tokenizer_may_stand_alone_in_its_directory(tmp_path: Path) -> None:
    Student.load("pocket-base-0.1m").tokenizer.save_pretrained(tmp_path / "alone")
    config = StudentConfig(preset="pocket-0.1m", tokenizer=str(tmp_path / "alone"))
    assert config.build(placement=CPU).tokenizer.get_vocab() == Student.load("pocket").tokenizer.get_vocab()
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        Student.load(tmp_path / "alone")


def test_tokenizer_without_eos_is_refused(tmp_path: Path) -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer().backend_tokenizer)
    bare.save_pretrained(str(tmp_path))
    with pytest.raises(ModelError, match="no end-of-sequence token") as caught:
        load_tokenizer(str(tmp_path))
    assert "tokenizer_config.json" in caught.value.next_step


def test_other_models_are_refused(tmp_path: Path) -> None:
    small: dict[str, Any] = {
        "vocab_size": 320,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    bert = tmp_path / "bert"
    BertForMaskedLM(BertConfig(**small, intermediate_size=32)).save_pretrained(bert)
    t5 = tmp_path / "t5"
    T5ForConditionalGeneration(T5Config(vocab_size=320, d_model=16, d_ff=32, num_layers=1)).save_pretrained(
        t5
    )
    for place, kind in ((bert, "BertForMaskedLM"), (t5, "T5ForConditionalGeneration")):
        tiny_tokenizer().save_pretrained(str(place))
        with pytest.raises(ModelError, match=f"not a causal language model but {kind}"):
            Student.load(place, device="cpu")


def test_missing_pieces_are_named(tmp_path: Path) -> None:
    for missing in (str(tmp_path / "nowhere"), "nowhere.gguf"):  # the second is no hub id
        with pytest.raises(ModelError, match="does not exist"):
            Student.load(missing, device="cpu")
    with pytest.raises(ModelError, match=r"no config\.json"):
        Student.load(tmp_path, device="cpu")
    file = tmp_path / "model.bin"
    file.touch()
    with pytest.raises(ModelError, match="is a file"):
        Student.load(file, device="cpu")
    with pytest.raises(ModelError, match="could not be loaded from the Hugging Face hub") as caught:
        Student.load("nobody/nothing", device="cpu")
    assert "HF_HUB_OFFLINE" in caught.value.next_step
    with pytest.raises(ModelError, match="CUDA"):
        if torch.cuda.is_available():
            pytest.skip("this machine has a GPU")
        Student.load(tiny_model(tmp_path / "gpt2", "gpt2"), device="cuda")


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    place = tiny_model(tmp_path / "model", "llama")
    file = place / "model.safetensors"
    weights = load_file(file)
    lost = weights.pop("model.layers.0.mlp.up_proj.weight")
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lack 1 tensors"):
        Student.load(place, device="cpu")
    save_file(weights | {"model.layers.0.mlp.up_proj.weight": lost[:3].clone()}, file, {"format": "pt"})
    with pytest.raises(ModelError, match="cannot be loaded"):
        Student.load(place, device="cpu")
    file.unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        Student.load(place, device="cpu")


def test_code_of_its_own_is_not_run_unasked(tmp_path: Path) -> None:
    place = tmp_path / "custom"
    place.mkdir()
    config = tiny_config("llama").to_dict() | {
        "model_type": "unheard_of",
        "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"},
    }
    (place / "config.json").write_text(json.dumps(config))
    (place / "code.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ModelError, match="Python code of its own") as caught:
        Student.load(place, device="cpu")
    assert "trust_remote_code: true" in caught.value.next_step


def test_times_that_scatter_are_taken_again_and_the_calmest_kept() -> None:
    steady, wild, wilder = (
        [(0.1, token) for token in tokens] for tokens in ((1.0, 1.01, 1.02), (1.0, 2.0, 3.0), (1.0, 5.0, 9.0))
    )

    def taken(*every: list[tuple[float, float]]) -> tuple[list[tuple[float, float]], int]:
        left = iter(every)
        return calmest(lambda: next(left), 3)

    assert taken(steady) == (steady, 1)
    assert taken(wilder, steady) == (steady, 2)
    assert taken(wilder, wild, wilder) == (wild, 3)


def test_profile_counts_and_measures(saved: Callable[[str], Path]) -> None:
    student = Student.load(saved("gpt2"), device="cpu")
    profile = student.profile(prompt_tokens=100, new_tokens=100, repeats=2, threads=1)
    assert profile.parameters == sum(p.numel() for p in student.model.parameters())
    assert profile.file_megabytes * 1e6 == pytest.approx(profile.parameters * 4, rel=0.05)
    assert (profile.prompt_tokens, profile.new_tokens) == (64, 64)  # of 128 positions
    assert profile.token_quartiles is not None
    assert profile.token_quartiles[0] <= profile.token_milliseconds <= profile.token_quartiles[1]
    assert 1 <= profile.measured <= 3
    assert profile.prompt_milliseconds > 0
    assert profile.tokens_per_second == pytest.approx(1000 / profile.token_milliseconds)
    assert 50 < profile.peak_memory_megabytes < 5000
    assert (profile.device, profile.dtype, profile.threads, profile.repeats) == ("cpu", "float32", 1, 2)
