"""Adapters: the same losses and gradients, the same bytes after a kill, and a plain student in the end."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from tests.support.tiny import CPU, tiny_gpt2
from tests.support.worlds import DieAt, assert_killed, die, examples, metrics, open_run, weights
from transformers import AutoModelForCausalLM

from codestill.errors import TrainingError
from codestill.losses import CrossEntropy, Distillation
from codestill.losses.batch import LossOptions
from codestill.losses.compute import compute
from codestill.losses.linear import linear_loss
from codestill.models import Placement, StudentConfig
from codestill.models.adapters import attach
from codestill.models.heads import hidden_states_alone, linear_head
from codestill.models.student import Student
from codestill.teachers import LocalTeacherConfig
from codestill.train import TrainConfig, fit
from codestill.train.batches import Collator, tokenize
from codestill.train.checkpoints import Checkpoints
from codestill.train.optimizers import Both, build_optimizer
from codestill.types import Event

SETTINGS: dict[str, dict[str, Any]] = {
    "adapter": {"adapter": {"rank": 4, "dropout": 0.1}},  # dropout draws random numbers in every step
    "nf4": {"adapter": {"rank": 4}, "quantize": "nf4"},
    "8 bit": {},
}
CONFIG = TrainConfig(
    max_steps=6,
    batch_tokens=500,
    accumulation=1,
    learning_rate=3e-3,
    checkpoint_steps=2,
    keep="best",
)


def student(model: str | Path = "pocket-base-0.1m", placement: Placement = CPU, **settings: Any) -> Student:
    return StudentConfig.model_validate({"model": str(model), **settings}).build(placement=placement)


def train(directory: Path, kind: str, *observers: Callable[[Event], None], **changes: Any) -> Student:
    optimizer = {"optimizer": "adamw_8bit"} if kind == "8 bit" else {}
    config = CONFIG.model_copy(update=optimizer | changes)
    with open_run(directory, *observers) as run:
        held_out = examples(3, "validation")
        return fit(student(**SETTINGS[kind]), examples(12), CrossEntropy(), config, run, validation=held_out)


def left(directory: Path) -> dict[str, bytes]:
    """What a training is for."""
    paths = [path for name in ("student", "adapter") for path in (directory / name).rglob("*")]
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


# Gradients


@pytest.mark.parametrize("objective", [CrossEntropy(), Distillation(temperature=2.0)], ids=lambda o: o.type)
@pytest.mark.parametrize("rank", [1, 8])
@pytest.mark.parametrize(
    "settings",
    [{}, {"quantize": "nf4", "dtype": "float32"}, {"model": "gpt2"}],
    ids=["llama", "nf4", "gpt2"],
)
def test_hidden_states_give_the_gradients_of_whole_logits(
    settings: dict[str, Any], rank: int, objective: CrossEntropy | Distillation, tmp_path: Path
) -> None:
    settings = {"adapter": {"rank": rank}} | settings
    if "model" in settings:
        settings["model"] = tiny_gpt2(tmp_path / "gpt2", positions=512)
    given = student(**settings)
    assert given.adapter is not None
    model = attach(given.model, given.adapter, given.quantize, seed=1).eval()  # GPT-2 has dropout
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name and p.dtype == torch.float32 for name, p in trained.items())
    with torch.no_grad():  # B is zero at first, and A would have no gradient
        for number, parameter in enumerate(trained.values()):
            parameter.normal_(0, 0.05, generator=torch.Generator().manual_seed(number))
    rows = list(enumerate(tokenize(examples(4), given.codec, 512)))
    batch = Collator(given.pad_id)(rows)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    shape = (*batch["labels"].shape, given.vocabulary_size)
    teacher_BTV = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    head = linear_head(model)
    assert head is not None

    def gradients(loss: Any) -> dict[str, torch.Tensor]:
        model.zero_grad()
        loss.total.backward()
        return {name: p.grad.clone() for name, p in trained.items() if p.grad is not None}

    whole = gradients(compute(objective, model(**inputs).logits, batch["labels"], teacher_BTV, LossOptions()))
    hidden_BTD = model(**inputs, **hidden_states_alone(model)).hidden_states[-1]
    found = gradients(linear_loss(objective, hidden_BTD, head, batch["labels"], teacher_BTV, LossOptions()))
    assert found.keys() == whole.keys() == trained.keys()
    for name, gradient in whole.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_an_adapter_makes_as_few_logits_as_the_model(tmp_path: Path) -> None:
    given = student(adapter={})
    assert given.adapter is not None
    model = attach(given.model, given.adapter, None, seed=0)
    arguments = hidden_states_alone(model)
    assert arguments["logits_to_keep"] == 1
    assert model(input_ids=torch.zeros((2, 9), dtype=torch.long), **arguments).logits.shape[1] == 1


# Kills


def die_at_step(directory: Path, kind: str, step: int) -> None:
    train(directory, kind, DieAt("train", step))


def die_before_saving(directory: Path, kind: str, _: int) -> None:
    Student.save = lambda self, directory: die()  # type: ignore[method-assign]
    train(directory, kind)


def die_before_finishing(directory: Path, kind: str, _: int) -> None:
    Checkpoints.finish = lambda self: die()  # type: ignore[method-assign]
    train(directory, kind)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("uninterrupted")

    def made(kind: str) -> Path:
        if not (root / kind).exists():
            train(root / kind, kind)
        return root / kind

    return made


FAST = {("adapter", 3), ("nf4", 5), ("8 bit", 3)}


@pytest.mark.parametrize(
    ("kind", "death", "step"),
    [
        pytest.param(kind, die_at_step, step, marks=[] if (kind, step) in FAST else [pytest.mark.slow])
        for kind in SETTINGS
        for step in range(1, 7)
    ]
    + [
        ("adapter", die_before_saving, 0),
        ("adapter", die_before_finishing, 0),
        pytest.param("nf4", die_before_saving, 0, marks=pytest.mark.slow),
        pytest.param("nf4", die_before_finishing, 0, marks=pytest.mark.slow),
    ],
)
def test_killed_training_ends_with_the_same_bytes(
    kind: str,
    death: Callable[[Path, str, int], None],
    step: int,
    uninterrupted: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    directory, wanted = tmp_path / "run", uninterrupted(kind)
    assert_killed(death, directory, kind, step)
    train(directory, kind)
    assert left(directory) == left(wanted)
    assert len(left(wanted)) > 4 + (2 if SETTINGS[kind] else 0)
    for stage in ("train", "validation"):
        assert metrics(directory, stage) == metrics(wanted, stage)


# What is saved

ALONE = """
import json, sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        blocked = name.partition(".")[0] in ("peft", "codestill", "bitsandbytes")
        return None if blocked else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
import torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
logits = model(torch.tensor([[5, 6, 7]])).logits[0, -1]
assert "peft" not in sys.modules
print(json.dumps([str(model.dtype), logits.tolist()]))
"""


@pytest.mark.parametrize("kind", ["adapter", "nf4"])
def test_the_saved_student_is_a_plain_model(kind: str, tmp_path: Path) -> None:
    trained = train(tmp_path, kind)
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(tmp_path / "student")], capture_output=True, text=True, check=True
    )
    dtype, logits = json.loads(done.stdout)
    tokens = torch.tensor([[5, 6, 7]])
    assert dtype == ("torch.bfloat16" if kind == "nf4" else "torch.float32")
    assert trained.model(tokens).logits[0, -1].tolist() == pytest.approx(logits, rel=1e-4, abs=1e-4)
    assert type(trained.model).__module__.startswith("transformers.")
    assert trained.adapter is not None, "a later round trains an adapter again"
    bare = Student.load("pocket-base-0.1m", device="cpu").model(tokens).logits[0, -1]
    assert (bare - torch.tensor(logits)).abs().max() > 0.1, "it has learnt something"


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's
def test_the_adapter_is_saved_in_pefts_format(tmp_path: Path) -> None:
    trained = train(tmp_path, "adapter")
    source = str(Student.load("pocket-base-0.1m").model.name_or_path)
    base = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    wrapped = PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    tokens = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(
        wrapped(input_ids=tokens).logits, trained.model(tokens).logits, rtol=1e-4, atol=1e-4
    )
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] is None, "a place on this machine says nothing elsewhere"
    assert config["target_modules"] == sorted(config["target_modules"])


def test_what_merging_changes_is_told(tmp_path: Path) -> None:
    differences = {}
    for kind in ("adapter", "nf4"):
        said: list[str] = []
        train(tmp_path / kind, kind, lambda event, said=said: said.append(event.message))
        (merged,) = [text for text in said if "merged" in text]
        differences[kind] = float(merged.partition("at most ")[2].split()[0])
        assert any("loss from hidden states" in text and "an adapter of rank 4" in text for text in said)
    assert differences["adapter"] < 1e-4
    assert 1e-4 < differences["nf4"] < 1, "rounded to bfloat16, but the weights of the training"


def test_the_best_adapter_is_kept(tmp_path: Path) -> None:
    """At this rate the last is not the best."""
    changes = {"learning_rate": 0.03, "checkpoint_steps": 1, "schedule": "constant"}
    train(tmp_path / "best", "adapter", **changes)
    losses = [float(event.metrics["loss"] or 0) for event in metrics(tmp_path / "best", "validation")]
    best = losses.index(min(losses)) + 1
    assert best < len(losses), losses
    train(tmp_path / "short", "adapter", max_steps=best, **changes)
    assert weights(tmp_path / "best") == weights(tmp_path / "short")


@pytest.mark.parametrize("kind", ["adapter", "nf4"])
def test_a_further_training_goes_on_from_the_merged_student(kind: str, tmp_path: Path) -> None:
    first = train(tmp_path / "first", kind)
    losses: list[float] = []
    with open_run(tmp_path / "second") as run:
        second = fit(first, examples(12), CrossEntropy(), CONFIG, run)
    for name in ("first", "second"):
        losses += [float(event.metrics["loss"] or 0) for event in metrics(tmp_path / name)]
    assert losses[6] < 0.85 * losses[0], losses
    assert second.adapter == first.adapter and second.quantize == first.quantize
    assert (
        left(tmp_path / "first")["adapter/adapter_model.safetensors"]
        != left(tmp_path / "second")["adapter/adapter_model.safetensors"]
    )


def test_a_diverging_adapter_is_saved_with_its_batch(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="training stopped at step"):
        train(tmp_path, "adapter", learning_rate=1e30, max_grad_norm=1e30)
    (place,) = (tmp_path / "checkpoints").glob("not-finite-step-*")
    assert {"adapter_model.safetensors", "batches.pt"} <= {path.name for path in place.iterdir()}


# Settings


@pytest.mark.parametrize(
    ("adapter", "rate", "expected"),
    [(None, None, 5e-5), ({}, None, 5e-4), ({}, 5e-5, 5e-5), ({}, 1e-3, 1e-3), (None, 1e-3, 1e-3)],
)
def test_an_adapter_has_a_rate_of_its_own_where_none_is_given(
    adapter: Any, rate: float | None, expected: float, tmp_path: Path
) -> None:
    config = TrainConfig(max_steps=1, warmup_fraction=0, schedule="constant", learning_rate=rate)
    with open_run(tmp_path) as run:
        fit(student(adapter=adapter), examples(2), CrossEntropy(), config, run)
    assert metrics(tmp_path)[0].metrics["learning_rate"] == pytest.approx(expected)


def test_distils_a_teachers_logits_into_an_adapter(tmp_path: Path) -> None:
    teacher = LocalTeacherConfig(model="pocket", dtype="float32").build(CPU)
    with open_run(tmp_path) as run:
        fit(student(adapter={"rank": 8}), examples(12), Distillation(), CONFIG, run, teacher=teacher)
    divergence = [float(event.metrics["divergence"] or 0) for event in metrics(tmp_path)]
    assert divergence[-1] < 0.8 * divergence[0], divergence


@pytest.mark.parametrize("adapter", [None, {"rank": 4, "dropout": 0.1}], ids=["whole", "adapter"])
def test_gradient_checkpointing_changes_nothing_but_memory(adapter: Any, tmp_path: Path) -> None:
    saved: dict[bool, int] = {}
    for on in (False, True):
        kept: list[int] = []
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda x, kept=kept: (kept.append(x.nbytes), x)[1], lambda x: x
        )
        placement = Placement(device="cpu", gradient_checkpointing=on)
        with open_run(tmp_path / str(on)) as run, hooks:
            fit(student("pocket-base", placement, adapter=adapter), examples(12), CrossEntropy(), CONFIG, run)
        saved[on] = sum(kept)
    assert left(tmp_path / "True") == left(tmp_path / "False")
    assert saved[True] < 0.5 * saved[False], saved


def test_attention_reaches_the_layers(tmp_path: Path) -> None:
    for name in ("eager", "sdpa"):
        given = student(placement=Placement(device="cpu", attention=name))
        with open_run(tmp_path / name) as run:
            fit(given, examples(12), CrossEntropy(), CONFIG, run)
        assert given.model.config._attn_implementation == name
    losses = [[event.metrics["loss"] for event in metrics(tmp_path / name)] for name in ("eager", "sdpa")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert weights(tmp_path / "eager") != weights(tmp_path / "sdpa"), "they round differently"


def test_states_of_matrices_alone_have_8_bits(tmp_path: Path) -> None:
    given = student("pocket-base")
    config = TrainConfig(optimizer="adamw_8bit", learning_rate=1e-3)
    optimizer = build_optimizer(given.model, config)
    tokens = torch.arange(40).reshape(2, 20)
    given.model(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
    assert isinstance(optimizer, Both)
    states = [(p, state) for part in optimizer.parts for p, state in part.state.items()]
    names = {id(p): name for name, p in given.model.named_parameters()}
    small = {names[id(p)] for p, s in states if s.get("state1", torch.empty(0)).dtype == torch.uint8}
    assert small == {name for name in names.values() if "proj" in name}
    assert {names[id(p)] for p, _ in states} == set(names.values())
    assert [group["lr"] for group in optimizer.param_groups] == [1e-3] * 3
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.01, 0.0]
