"""Which adapters and 4-bit weights a student can have, and what is refused before anything is paid."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tests.support.tiny import CPU, tiny_gpt2
from torch import nn

from codestill.errors import ModelError
from codestill.models import AdapterConfig, Placement, StudentConfig
from codestill.models.adapters import attach, merge, probe, targets
from codestill.models.student import Student
from codestill.train import TrainConfig

BASE = "pocket-base-0.1m"


def build(placement: Placement = CPU, **settings: Any) -> Student:
    return StudentConfig.model_validate({"model": BASE, **settings}).build(placement=placement)


@pytest.mark.parametrize(
    ("target", "reason", "step"),
    [
        ("lm_head", "is the model's head", "train the whole model"),
        ("embed_tokens", "is an embedding", "train the whole model"),
        ("model.embed_tokens", "is an embedding", "train the whole model"),
        ("q_porj", "is no linear layer", "down_proj, gate_proj, k_proj"),
        ("self_attn", "is no linear layer", "q_proj"),
        ("input_layernorm", "is no linear layer", "q_proj"),
    ],
)
def test_targets_that_are_not_adapted_are_refused(target: str, reason: str, step: str) -> None:
    with pytest.raises(ModelError, match=reason) as caught:
        build(adapter={"targets": ["v_proj", target]})
    assert step in caught.value.next_step


def test_embeddings_of_positions_are_refused(tmp_path: Path) -> None:
    for target in ("wte", "wpe", "lm_head"):
        with pytest.raises(ModelError, match=target):
            build(model=str(tiny_gpt2(tmp_path / "gpt2")), adapter={"targets": [target]})


def test_targets_choose_the_layers(tmp_path: Path) -> None:
    given = build()
    cases: list[tuple[Any, set[str]]] = [
        ("all-linear", {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
        (("v_proj", "mlp.up_proj"), {"v_proj", "up_proj"}),
    ]
    for chosen, expected in cases:
        adapter = AdapterConfig(rank=2, targets=chosen)
        wrapped = attach(build().model, adapter, None, seed=0)
        trained = {name.split(".")[-4] for name, p in wrapped.named_parameters() if p.requires_grad}
        assert trained == expected
    gpt2 = Student.load(tiny_gpt2(tmp_path / "gpt2"), device="cpu").model
    names = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    assert targets(gpt2, AdapterConfig()) == [f"transformer.h.{n}.{name}" for n in range(2) for name in names]
    assert not any("lora" in name for name, _ in given.model.named_parameters())


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"preset": "pocket-0.1m", "adapter": {}}, "trained weights"),
        ({"model": BASE, "from_scratch": True, "adapter": {}}, "trained weights"),
        ({"model": BASE, "quantize": "nf4"}, "set `adapter`"),
        ({"model": BASE, "adapter": {"rank": 0}}, "greater than 0"),
        ({"model": BASE, "adapter": {"targets": []}}, "at least 1"),
        ({"model": BASE, "adapter": {"dropout": 1.0}}, "less than 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        StudentConfig.model_validate(settings)


def test_weights_under_nf4_have_16_bits_by_default() -> None:
    settings = {"model": BASE, "adapter": {}, "quantize": "nf4"}
    given = StudentConfig.model_validate(settings)
    assert given.dtype == "bfloat16"
    assert StudentConfig.model_validate(given.model_dump()) == given
    assert StudentConfig.model_validate(settings | {"dtype": "float32"}).dtype == "float32"
    assert StudentConfig.model_validate({"model": BASE, "adapter": {}}).dtype == "float32"


@pytest.mark.parametrize(("package", "extra"), [("peft", "adapters"), ("bitsandbytes", "quantize")])
def test_a_missing_package_is_named(package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelError, match=f"needs the package {package}") as caught:
        build(adapter={}, quantize="nf4")
    assert f"codestill[{extra}]" in caught.value.next_step


def test_a_missing_optimizer_is_told_with_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ValidationError, match=r"codestill\[quantize\]"):
        TrainConfig(optimizer="adamw_8bit")


def test_a_device_without_kernels_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from bitsandbytes.nn.modules import Linear4bit

    def fails(*_: Any, **__: Any) -> None:
        raise NotImplementedError("no kernel image is available")

    monkeypatch.setattr(Linear4bit, "forward", fails)
    with pytest.raises(ModelError, match="cannot quantise weights on cpu: no kernel image"):
        build(adapter={}, quantize="nf4")


def test_attention_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot use the attention flash_attention_2") as caught:
        build(Placement(device="cpu", attention="flash_attention_2"))
    assert "execution.attention" in caught.value.next_step


def test_a_new_adapter_changes_nothing_and_depends_on_the_seed_alone() -> None:
    tokens = [5, 6, 7, 8]
    before = probe(build().model, tokens)
    first = {}
    for number, seed in enumerate((3, 3, 4)):
        torch.manual_seed(number)
        wrapped = attach(build().model, AdapterConfig(rank=2), None, seed)
        assert torch.equal(probe(wrapped, tokens), before)
        first[number] = next(p for name, p in wrapped.named_parameters() if "lora_A" in name).detach()
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_4_bit_weights_come_back_as_they_counted(dtype: Any) -> None:
    """Merged are the values of the training, whether or not a layer has an adapter."""
    given = build(dtype="float32")
    original = {name: p.detach().clone() for name, p in given.model.named_parameters()}
    wrapped = attach(given.model, AdapterConfig(rank=2, targets=("v_proj", "down_proj")), "nf4", seed=0)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    kept = sum(p.nbytes for name, p in wrapped.named_parameters() if "proj" in name and "lora" not in name)
    plain = sum(p.nbytes for name, p in original.items() if "proj" in name)
    assert kept == plain / 8
    tokens = list(range(20))
    before = probe(wrapped, tokens)
    merged = merge(wrapped, {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype])
    after = probe(merged.to(torch.float32), tokens)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(after, before, rtol=0, atol=1e-4 if dtype == "float32" else 0.3)
    assert {name for name, _ in merged.named_parameters()} == original.keys()
    assert all(type(m) is nn.Linear for name, m in merged.named_modules() if name.endswith("proj"))
    changed = [n for n, p in merged.named_parameters() if not torch.equal(p, original[n].to(p.dtype))]
    assert all("proj" in name for name in changed) and len(changed) == 14


def test_looking_at_4_bit_weights_does_not_change_them() -> None:
    """A validation must leave the weights as a continued training finds them."""
    given = build(dtype="bfloat16")
    wrapped = attach(given.model, AdapterConfig(rank=2), "nf4", seed=0)
    layers = [m for m in wrapped.modules() if type(m).__name__ == "Linear4bit" and hasattr(m, "quant_state")]
    assert len(layers) == 14
    before = [m.weight.detach().clone() for m in layers]
    first = probe(wrapped, [5, 6, 7])
    assert torch.equal(probe(wrapped, [5, 6, 7]), first)
    assert all(torch.equal(m.weight, weight) for m, weight in zip(layers, before, strict=True))
    assert not any(m.support_avx512bf16_for_cpu for m in layers)


def test_a_model_without_linear_layers_cannot_be_quantised(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no linear layers that bitsandbytes"):
        build(model=str(tiny_gpt2(tmp_path / "gpt2")), adapter={}, quantize="nf4")


@pytest.mark.parametrize("chosen", ["all-linear", ("up_proj",)])
def test_a_head_whose_last_name_layers_have_too_is_left_as_it_is(chosen: Any) -> None:
    model: Any = build().model
    model.up_proj = model.lm_head
    del model.lm_head
    model.get_output_embeddings = lambda: model.up_proj
    if chosen != "all-linear":
        with pytest.raises(ModelError, match="is the model's head"):
            targets(model, AdapterConfig(targets=chosen))
        chosen = ("mlp.up_proj",)
    wrapped = attach(model, AdapterConfig(rank=2, targets=chosen), None, seed=0)
    trained = {name for name, p in wrapped.named_parameters() if p.requires_grad}
    assert any("mlp.up_proj" in name for name in trained)
    assert all(".layers." in name for name in trained), trained
