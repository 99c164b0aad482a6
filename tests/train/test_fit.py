import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tests.support.tiny import CPU
from tests.support.worlds import examples, metrics, open_run, student, weights
from torch.nn import functional

from codestill.errors import ConfigError, LogitsError, TrainingError
from codestill.losses import CrossEntropy, Distillation, Objective
from codestill.models import Placement
from codestill.models.student import Student
from codestill.teachers import LocalTeacherConfig
from codestill.teachers.frozen import LocalTeacher
from codestill.train import TrainConfig, fit
from codestill.train.batches import tokenize
from codestill.train.loop import DistillationTrainer
from codestill.train.optimizers import build_optimizer
from codestill.types import Example

HINTON = Distillation(alpha=0.7, temperature=2.0)
ONE_STEP = TrainConfig(max_steps=1, batch_tokens=100_000, accumulation=1, precision="float32")


@pytest.fixture(scope="module")
def teacher() -> LocalTeacher:
    return LocalTeacherConfig(model="pocket", dtype="float32").build(CPU)


@pytest.fixture
def gradients(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """The gradient of every step, as it is before clipping."""
    seen: list[dict[str, torch.Tensor]] = []
    clip = DistillationTrainer._clip_grad_norm

    def watched(self: DistillationTrainer, model: torch.nn.Module) -> Any:
        seen.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        return clip(self, model)

    monkeypatch.setattr(DistillationTrainer, "_clip_grad_norm", watched)
    return seen


@torch.no_grad()
def terms_per_token(model: Student, teacher: LocalTeacher, given: Sequence[Example]) -> tuple[float, float]:
    """Cross-entropy, and KL(teacher || student) at temperature 2, one example at a time, without padding."""
    cross_entropy, divergence, count = 0.0, 0.0, 0
    for example in tokenize(given, model.codec, 512):
        tokens = torch.tensor([example.tokens])
        rows = slice(example.prompt_length - 1, len(example.tokens) - 1)
        mine, its = (m(input_ids=tokens).logits[0, rows].double() for m in (model.model, teacher.model))
        target = tokens[0, example.prompt_length :]
        cross_entropy += float(functional.cross_entropy(mine, target, reduction="sum"))
        p, q = torch.log_softmax(its / 2, dim=-1), torch.log_softmax(mine / 2, dim=-1)
        divergence += float((p.exp() * (p - q)).sum())
        count += len(target)
    return cross_entropy / count, divergence / count


@pytest.mark.parametrize("objective", [CrossEntropy(), HINTON], ids=["cross_entropy", "distillation"])
def test_gradient_does_not_depend_on_the_split(
    objective: Objective, teacher: LocalTeacher, gradients: list[dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    given = examples(10)
    for name, tokens, accumulation in (("whole", 100_000, 1), ("split", 200, 10)):
        config = ONE_STEP.model_copy(update={"batch_tokens": tokens, "accumulation": accumulation})
        with open_run(tmp_path / name) as run:
            fit(student(), given, objective, config, run, teacher=teacher)
    whole, split = gradients
    assert whole.keys() == split.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(gradient, split[name], rtol=1e-4, atol=1e-5)
    first, second = (metrics(tmp_path / name)[0].metrics for name in ("whole", "split"))
    assert first["epoch"] == second["epoch"] == 1.0, "one step must hold every example"
    assert first["loss"] == pytest.approx(second["loss"], abs=1e-5)


def test_logged_terms_are_per_token(teacher: LocalTeacher, tmp_path: Path) -> None:
    given, held_out = examples(9), examples(4, "validation")
    expected = terms_per_token(student(), teacher, given)
    config = ONE_STEP.model_copy(update={"batch_tokens": 300, "accumulation": 20})
    with open_run(tmp_path) as run:
        after = fit(student(), given, HINTON, config, run, teacher=teacher, validation=held_out)
    for event, (cross_entropy, divergence) in (
        (metrics(tmp_path)[0], expected),
        (metrics(tmp_path, "validation")[0], terms_per_token(after, teacher, held_out)),
    ):
        assert event.metrics["cross_entropy"] == pytest.approx(cross_entropy, rel=1e-5)
        assert event.metrics["divergence"] == pytest.approx(divergence, rel=1e-5)
        assert event.metrics["loss"] == pytest.approx(0.7 * 4 * divergence + 0.3 * cross_entropy, rel=1e-5)


def test_alpha_zero_is_cross_entropy(teacher: LocalTeacher, tmp_path: Path) -> None:
    config = TrainConfig(max_steps=3, batch_tokens=400, accumulation=2, precision="float32")
    for name, objective in (("plain", CrossEntropy()), ("zero", Distillation(alpha=0))):
        with open_run(tmp_path / name) as run:
            fit(student(), examples(8), objective, config, run, teacher=teacher)
    assert weights(tmp_path / "plain") == weights(tmp_path / "zero")
    assert metrics(tmp_path / "plain") == metrics(tmp_path / "zero")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_loss_falls(optimizer: Any, teacher: LocalTeacher, tmp_path: Path) -> None:
    config = TrainConfig(
        max_steps=15, batch_tokens=2000, accumulation=1, optimizer=optimizer, learning_rate=1e-2
    )
    given = examples(12)
    with open_run(tmp_path) as run:
        trained = fit(student(), given, HINTON, config, run, teacher=teacher)
    losses = [float(event.metrics["loss"] or 0) for event in metrics(tmp_path)]
    assert len(losses) == 15
    assert losses[-1] < 0.8 * losses[0]
    before, after = terms_per_token(student(), teacher, given), terms_per_token(trained, teacher, given)
    assert after[0] < before[0]
    assert after[1] < before[1]


def test_optimizers_differ(tmp_path: Path) -> None:
    for optimizer in ("adamw", "muon"):
        with open_run(tmp_path / optimizer) as run:
            config = ONE_STEP.model_copy(update={"optimizer": optimizer})
            fit(student(), examples(4), CrossEntropy(), config, run)
    assert weights(tmp_path / "adamw") != weights(tmp_path / "muon")


def test_matrices_alone_decay() -> None:
    model = student().model
    groups = build_optimizer(model, TrainConfig(weight_decay=0.3)).param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert {(p.ndim >= 2, decay[id(p)]) for p in model.parameters()} == {(True, 0.3), (False, 0.0)}


def test_seed_decides_the_result(tmp_path: Path) -> None:
    config = TrainConfig(max_steps=3, batch_tokens=300, accumulation=1)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        with open_run(tmp_path / name, seed=seed) as run:
            fit(student(), examples(8), CrossEntropy(), config, run)
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")


def test_best_checkpoint_is_kept(tmp_path: Path) -> None:
    given = examples(3)
    # What training never shows becomes less likely with every step, on any machine.
    held_out = [made.model_copy(update={"completion": "~^|" * 8}) for made in examples(6, "validation")]
    config = TrainConfig(
        max_steps=6,
        batch_tokens=1000,
        accumulation=1,
        learning_rate=0.01,
        schedule="constant",
        checkpoint_steps=1,
    )
    teacher = student()  # read by nothing: terms_per_token wants one
    for keep in ("last", "best"):
        with open_run(tmp_path / keep) as run:
            kept = fit(
                student(), given, CrossEntropy(), config.model_copy(update={"keep": keep}), run,
                validation=held_out,
            )  # fmt: skip
        losses = [float(event.metrics["loss"] or 0) for event in metrics(tmp_path / keep, "validation")]
        assert len(losses) == 6, losses
        assert min(losses) < losses[-1], "the last checkpoint must not be the best one here"
        wanted = losses[-1] if keep == "last" else min(losses)
        frozen = LocalTeacher(teacher.model, teacher.tokenizer, "none")
        assert terms_per_token(kept, frozen, held_out)[0] == pytest.approx(wanted, rel=1e-5)


def test_bfloat16_trains_and_leaves_no_autocast(tmp_path: Path) -> None:
    """What ``fit`` returns computes as the saved student does, whatever training computed in."""
    given = examples(8)
    for precision in ("bfloat16", "float32"):
        config = TrainConfig(max_steps=4, batch_tokens=2000, learning_rate=1e-2, precision=precision)
        with open_run(tmp_path / precision) as run:
            trained = fit(student(), given, CrossEntropy(), config, run)
        losses = [float(event.metrics["loss"] or 0) for event in metrics(tmp_path / precision)]
        assert losses[-1] < losses[0]
        tokens = torch.tensor([tokenize(given[:1], trained.codec, 512)[0].tokens])
        loaded = Student.load(tmp_path / precision / "student", device="cpu")
        with torch.no_grad():
            assert torch.equal(trained.model(tokens).logits, loaded.model(tokens).logits)
    assert weights(tmp_path / "bfloat16") != weights(tmp_path / "float32")


def test_returned_student_keeps_its_name(tmp_path: Path) -> None:
    for _ in range(2):  # trained, then loaded
        with open_run(tmp_path) as run:
            trained = fit(student(), examples(2), CrossEntropy(), ONE_STEP, run)
        assert trained.name == "pocket-0.1m"
        assert not trained.model.training


@pytest.mark.parametrize("wanted", [False, True])
def test_compile_reaches_the_trainer(wanted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(
        DistillationTrainer, "train", lambda self, **_: seen.append(self.args.torch_compile) or 1 / 0
    )
    learner = replace(student(), placement=Placement(compile=wanted))
    with open_run(tmp_path) as run, pytest.raises(ZeroDivisionError):
        fit(learner, examples(2), CrossEntropy(), ONE_STEP, run)
    assert seen == [wanted]


def test_poisoned_weight_stops_and_names_the_batch(tmp_path: Path) -> None:
    model, given = student(), examples(3)
    with torch.no_grad():
        model.model.get_input_embeddings().weight[5] = math.nan  # type: ignore[index]
    with open_run(tmp_path) as run, pytest.raises(TrainingError, match=r"step 1: the loss is nan") as raised:
        fit(model, given, CrossEntropy(), ONE_STEP, run)
    directory = tmp_path / "checkpoints" / "not-finite-step-1"
    assert raised.value.exit_code == 1
    assert str(directory) in str(raised.value)
    assert all(example.example_id in str(raised.value) for example in given)
    saved = Student.load(directory, device="cpu")
    assert saved.model.get_input_embeddings().weight.isnan().any()  # type: ignore[union-attr]
    state = torch.load(directory / "batches.pt")
    assert set(state["example_ids"]) == {example.example_id for example in given}


def test_exploding_rate_stops(tmp_path: Path) -> None:
    config = TrainConfig(
        max_steps=3, batch_tokens=1000, accumulation=1, learning_rate=1e37, schedule="constant"
    )
    given = examples(3)
    for _ in range(2):  # at first, and when the same command is given again
        with open_run(tmp_path) as run, pytest.raises(TrainingError, match="training stopped at") as raised:
            fit(student(), given, CrossEntropy(), config, run)
        assert "step 2: the gradient's norm is" in str(raised.value)
        assert all(example.example_id in str(raised.value) for example in given)
    assert not (tmp_path / "student").exists()


def test_validation_loss_that_is_not_finite_stops(with_dropout: Path, tmp_path: Path) -> None:
    model = student(with_dropout)
    with torch.no_grad():
        model.model.get_parameter("transformer.wpe.weight")[40:] = math.nan  # training does not reach it
    short = [Example(example_id="short", prompt="x = ", completion="1")]
    with open_run(tmp_path) as run, pytest.raises(TrainingError, match="step 1: the validation loss is nan"):
        fit(model, short, CrossEntropy(), ONE_STEP, run, validation=examples(2, "validation"))
    assert (tmp_path / "checkpoints" / "not-finite-step-1" / "model.safetensors").exists()


def test_steps_are_made_with_clipped_gradients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    step = torch.optim.AdamW.step

    def watched(self: torch.optim.AdamW, *args: Any, **kwargs: Any) -> Any:
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.nn.utils.get_total_norm(gradients)))
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    config = ONE_STEP.model_copy(update={"max_steps": 2, "max_grad_norm": 0.01})
    with open_run(tmp_path) as run:
        fit(student(), examples(4), CrossEntropy(), config, run)
    assert norms == pytest.approx([0.01, 0.01], rel=1e-3)
    assert all(float(event.metrics["gradient_norm"] or 0) > 0.1 for event in metrics(tmp_path))


@pytest.mark.parametrize("rate", [math.inf, math.nan, 0.0, -1.0])
def test_rate_must_be_a_positive_number(rate: float) -> None:
    with pytest.raises(ValidationError, match="learning_rate"):
        TrainConfig(learning_rate=rate)


def test_distillation_needs_a_teacher(tmp_path: Path) -> None:
    with open_run(tmp_path) as run, pytest.raises(LogitsError, match="needs a teacher"):
        fit(student(), examples(2), HINTON, ONE_STEP, run)


def test_ranks_that_do_not_meet_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torchrun's rendezvous each process would train alone, on a part of the data."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with open_run(tmp_path) as run, pytest.raises(ConfigError, match="WORLD_SIZE is 2"):
        fit(student(), examples(2), CrossEntropy(), ONE_STEP, run)


@pytest.mark.parametrize(("count", "steps"), [(4, 1), (24, 40)])
def test_few_examples_and_many_passes_are_named(count: int, steps: int, tmp_path: Path) -> None:
    given = [
        one.model_copy(update={"example_id": f"{one.example_id}/{number}"})
        for number, one in enumerate(examples(4) * (count // 4))
    ]
    with open_run(tmp_path) as run:
        config = ONE_STEP.model_copy(update={"max_steps": steps})
        fit(student("pocket-base-0.1m"), given, CrossEntropy(), config, run)
        said = run.metrics_path.read_text(encoding="utf-8")
    assert ("over 4 examples (few: hardly more" in said) == (count == 4)
    assert ("passes (many: lower train.max_steps" in said) == (steps == 40)
