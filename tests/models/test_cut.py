"""Students cut out of a model: the kept layers compute what they computed, and the rest is not there."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tests.support.tiny import CPU, tiny_model
from torch import nn
from transformers import AutoModelForCausalLM, GPTNeoConfig, PreTrainedModel

from codestill.cli import main
from codestill.cli.settings import read_settings
from codestill.errors import ModelError
from codestill.models import StudentConfig, load, model_table
from codestill.models.cut import cut_config, spaced
from codestill.recipes import sft

KINDS = {
    "gpt2": "transformer.h",
    "llama": "model.layers",
    "qwen2": "model.layers",
    "starcoder2": "model.layers",
}
SIZE = {"gpt2": "n_layer"}
TOKENS = torch.tensor([[1, 5, 9, 3, 2, 44, 17]])


def whole(kind: str, place: Path, layers: int = 5, **changes: Any) -> Path:
    return tiny_model(place, kind, **{SIZE.get(kind, "num_hidden_layers"): layers}, **changes)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_model_is_the_whole_one_without_the_other_layers(kind: str, tmp_path: Path) -> None:
    place = whole(kind, tmp_path / "whole")
    student = StudentConfig(model=str(place), layers=(0, 3, 4)).build(placement=CPU)
    skipping = AutoModelForCausalLM.from_pretrained(place).eval()
    holder = skipping.get_submodule(KINDS[kind].rpartition(".")[0])
    name = KINDS[kind].rpartition(".")[2]
    # Independently: the same model, whose list lacks the layers; without a cache their numbers do not matter.
    setattr(holder, name, nn.ModuleList([getattr(holder, name)[layer] for layer in (0, 3, 4)]))
    skipping.config.num_hidden_layers = 3
    with torch.no_grad():
        expected = skipping(TOKENS, use_cache=False).logits
        torch.testing.assert_close(student.model(TOKENS, use_cache=False).logits, expected)
        # With a cache, too: layers know their new places in it.
        cached = student.model(TOKENS[:, :4], use_cache=True)
        last = student.model(TOKENS[:, 4:], past_key_values=cached.past_key_values).logits
        torch.testing.assert_close(last, expected[:, 4:], atol=1e-5, rtol=1e-4)
    saved = AutoModelForCausalLM.from_pretrained(student.save(tmp_path / "saved")).eval()
    with torch.no_grad():
        torch.testing.assert_close(saved(TOKENS).logits, expected)
    assert saved.config.num_hidden_layers == 3 and "layers 0+3+4" in student.name
    whole_size = sum(weight.numel() for weight in skipping.parameters())
    assert student.model.num_parameters() == whole_size


def test_layers_at_even_distances() -> None:
    assert spaced(8, 24) == (0, 3, 7, 10, 13, 16, 20, 23)
    assert spaced(1, 24) == (0,) and spaced(2, 24) == (0, 23)
    for count in range(1, 25):
        layers = spaced(count, 24)
        assert len(set(layers)) == count and [*layers] == sorted(layers)


def test_a_number_of_layers(tmp_path: Path) -> None:
    place = whole("llama", tmp_path / "whole")
    by_count = StudentConfig.model_validate({"model": str(place), "layers": 3}).build(placement=CPU)
    by_number = StudentConfig.model_validate({"model": str(place), "layers": [0, 2, 4]}).build(placement=CPU)
    for name, value in by_count.model.state_dict().items():
        assert torch.equal(value, by_number.model.state_dict()[name])
    assert by_count.name == by_number.name


def test_numbers_as_an_option() -> None:
    assert StudentConfig.model_validate({"model": "x", "layers": "0,3,6"}).layers == (0, 3, 6)
    assert StudentConfig.model_validate({"model": "x", "layers": "3"}).layers == 3


def test_the_same_shape_from_scratch(tmp_path: Path) -> None:
    place = whole("qwen2", tmp_path / "whole")
    settings = {"model": str(place), "layers": 2}
    cut = StudentConfig.model_validate(settings).build(placement=CPU)
    fresh = StudentConfig.model_validate(settings | {"from_scratch": True}).build(placement=CPU)
    shapes = [{name: value.shape for name, value in s.model.state_dict().items()} for s in (cut, fresh)]
    assert shapes[0] == shapes[1]
    assert not torch.equal(cut.model.lm_head.weight, fresh.model.lm_head.weight)  # type: ignore[union-attr]


def test_what_is_listed_for_every_layer_is_cut_too(tmp_path: Path) -> None:
    kinds = ["full_attention", "sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    place = whole("qwen2", tmp_path / "whole", layer_types=kinds, use_sliding_window=True, sliding_window=3)
    student = StudentConfig(model=str(place), layers=(1, 4)).build(placement=CPU)
    assert student.model.config.layer_types == ["sliding_attention", "full_attention"]


def test_a_list_that_has_as_many_items_by_chance_is_left_as_it_is(tmp_path: Path) -> None:
    place = whole("llama", tmp_path / "whole", eos_token_id=[0, 5, 6, 7, 8])
    student = StudentConfig(model=str(place), layers=(1, 4)).build(placement=CPU)
    assert student.model.config.eos_token_id == [0, 5, 6, 7, 8]


def test_kinds_that_come_of_a_pattern_are_cut_too(tmp_path: Path) -> None:
    config = GPTNeoConfig(num_layers=4, attention_types=[[["global", "local"], 2]])
    cut_config(config, (0, 2)).save_pretrained(tmp_path)
    read = GPTNeoConfig.from_pretrained(tmp_path)
    assert (read.num_layers, read.attention_layers) == (2, ["global", "global"])


def test_only_what_is_kept_goes_to_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device stands for a GPU."""
    moved: list[tuple[int, str]] = []
    to = PreTrainedModel.to

    def recorded(model: Any, *where: Any) -> Any:
        moved.append((model.config.num_hidden_layers, str(where[0])))
        return to(model, *where)

    pick = load.pick_device
    monkeypatch.setattr(load, "pick_device", lambda d: torch.device("meta") if d == "auto" else pick(d))
    monkeypatch.setattr(PreTrainedModel, "to", recorded)
    place = whole("llama", tmp_path / "whole")
    student = StudentConfig(model=str(place), layers=(1, 4)).build()
    assert student.model.device.type == "meta"
    assert [layers for layers, where in moved if where == "meta"] == [2]


@pytest.mark.parametrize(
    ("layers", "problem"),
    [
        ((2, 1), "ascend"),
        ((1, 1), "ascend"),
        ((), "at least one"),
        (0, "greater than 0"),
        ((-1, 2), "equal to 0"),
    ],
)
def test_wrong_numbers_are_refused(layers: object, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        StudentConfig.model_validate({"model": "x", "layers": layers})


def test_a_preset_has_its_own_layers() -> None:
    with pytest.raises(ValidationError, match="a preset has its own"):
        StudentConfig.model_validate({"preset": "gpt2-44m", "layers": 3})


@pytest.mark.parametrize("layers", [6, (0, 5)])
def test_layers_that_are_not_there_are_refused(layers: object, tmp_path: Path) -> None:
    place = whole("llama", tmp_path / "whole")
    with pytest.raises(ModelError, match=r"has 5 layers.*\n.*0 to 4"):
        StudentConfig.model_validate({"model": str(place), "layers": layers}).build(placement=CPU)


@pytest.mark.parametrize("kind", KINDS)
def test_the_sizes_of_a_model_and_of_students_cut_out_of_it(kind: str, tmp_path: Path) -> None:
    place = whole(kind, tmp_path / "whole")
    rows = model_table(str(place), [2, (0, 1, 4)])
    assert [row.layers for row in rows] == [5, 2, 3] and rows[2].name == "layers 0+1+4"
    for row, layers in zip(rows, (5, 2, (0, 1, 4)), strict=True):
        student = StudentConfig.model_validate({"model": str(place), "layers": layers}).build(placement=CPU)
        assert row.parameters == student.model.num_parameters()


def test_the_command_lists_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = whole("llama", tmp_path / "whole")
    with pytest.raises(SystemExit, match="0"):
        main(["students", str(place), "--layers", "2", "--layers", "0,4"])
    out = capsys.readouterr().out
    assert "layers 0+4" in out and f"{model_table(str(place), [2])[1].parameters:,}" in out
    with pytest.raises(SystemExit, match="2"):
        main(["students", "--layers", "2"])
    assert "Name one" in capsys.readouterr().err


@pytest.mark.parametrize(("given", "expected"), [("3", 3), ("[0, 2]", (0, 2))])
def test_layers_in_a_file(given: str, expected: object, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(f"student: {{model: pocket-base, layers: {given}}}\n")
    read = read_settings(sft.Config, "run sft", ["--config", str(tmp_path / "c.yaml")])
    assert read is not None and read[1].student.layers == expected


def test_an_adapters_targets_in_a_file_and_as_an_option(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("student: {model: pocket-base, adapter: {targets: [q_proj, v_proj]}}\n")
    read = read_settings(sft.Config, "run sft", ["--config", str(tmp_path / "c.yaml")])
    option = ["--student.model", "pocket-base", "--student.adapter.targets", "q_proj,v_proj"]
    other = read_settings(sft.Config, "run sft", option)
    for settings in (read, other):
        assert settings is not None and settings[1].student.adapter.targets == ("q_proj", "v_proj")
