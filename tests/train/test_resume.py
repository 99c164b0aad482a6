"""Whatever the moment of a kill, the same command ends with the same bytes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.support.worlds import DieAt, assert_killed, die, examples, metrics, open_run, student, weights

from codestill.errors import RunError
from codestill.files.serialize import write_object
from codestill.losses import CrossEntropy
from codestill.models.student import Student
from codestill.train import TrainConfig, fit
from codestill.train.checkpoints import COMPLETE, Checkpoints
from codestill.train.loop import DistillationTrainer
from codestill.train.optimizers import Both, build_optimizer
from codestill.types import Event

CONFIG = TrainConfig(
    max_steps=8,  # epochs of five steps: checkpoints at 3 and 6 lie within the first and the second
    batch_tokens=500,
    accumulation=1,
    optimizer="muon",
    learning_rate=1e-2,
    schedule="cosine",
    checkpoint_steps=3,
    keep="best",
)


def train(directory: Path, model: Path, *observers: Callable[[Event], None]) -> Student:
    given, held_out = examples(12), examples(3, "validation")
    with open_run(directory, *observers) as run:
        return fit(student(model), given, CrossEntropy(), CONFIG, run, validation=held_out)


def die_at_step(directory: Path, model: Path, step: int) -> None:
    train(directory, model, DieAt("train", step))


def die_before_marking(directory: Path, model: Path, step: int) -> None:
    mark = Checkpoints.on_save

    def on_save(self: Checkpoints, args, state, control, **kwargs) -> None:  # type: ignore[no-untyped-def]
        if state.global_step == step:
            (self.directory / f"checkpoint-{step}" / "optimizer.pt").unlink()  # as if not yet written
            die()
        mark(self, args, state, control, **kwargs)

    Checkpoints.on_save = on_save  # type: ignore[method-assign]
    train(directory, model)


def die_before_saving(directory: Path, model: Path, _: int) -> None:
    Student.save = lambda self, directory: die()  # type: ignore[method-assign]
    train(directory, model)


def die_before_finishing(directory: Path, model: Path, _: int) -> None:
    Checkpoints.finish = lambda self: die()  # type: ignore[method-assign]
    train(directory, model)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, with_dropout: Path) -> Path:
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("uninterrupted") / "run"
    train(directory, with_dropout)
    steps = [event.step for event in metrics(directory)]
    assert steps == list(range(1, 9))
    losses = {event.step: float(event.metrics["loss"] or 0) for event in metrics(directory, "validation")}
    assert list(losses) == [3, 6, 8]
    assert losses[6] < losses[3], losses
    assert metrics(directory)[4].metrics["epoch"] == 1.0, "epochs must have five steps here"
    return directory


@pytest.mark.parametrize(
    ("death", "step", "resumes_at"),
    [
        pytest.param(die_at_step, 1, 0, marks=pytest.mark.slow),
        (die_at_step, 4, 3),
        pytest.param(die_at_step, 7, 6, marks=pytest.mark.slow),
        pytest.param(die_before_marking, 3, 0, marks=pytest.mark.slow),
        (die_before_marking, 8, 6),
        (die_before_saving, 8, 8),
        pytest.param(die_before_finishing, 8, 8, marks=pytest.mark.slow),
    ],
)
def test_killed_training_ends_with_the_same_bytes(
    death: Callable[[Path, Path, int], None],
    step: int,
    resumes_at: int,
    uninterrupted: Path,
    with_dropout: Path,
    tmp_path: Path,
) -> None:
    directory = tmp_path / "run"
    assert_killed(death, directory, with_dropout, step)
    said: list[str] = []
    train(directory, with_dropout, lambda event: said.append(event.message))
    assert (f"continues from step {resumes_at}" in said) == (resumes_at > 0)
    assert weights(directory) == weights(uninterrupted)
    for stage in ("train", "validation"):
        assert metrics(directory, stage) == metrics(uninterrupted, stage)


def test_moved_training_still_knows_its_best(uninterrupted: Path, with_dropout: Path, tmp_path: Path) -> None:
    """The best checkpoint is found by its step: a path would be stale."""
    assert_killed(die_before_saving, tmp_path / "here", with_dropout, 0)
    (tmp_path / "here").rename(tmp_path / "there")
    train(tmp_path / "there", with_dropout)
    assert weights(tmp_path / "there") == weights(uninterrupted)


def test_finished_training_is_loaded(
    uninterrupted: Path, with_dropout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "run"
    shutil.copytree(uninterrupted, directory)
    before = (directory / "metrics.jsonl").read_bytes()
    monkeypatch.setattr(DistillationTrainer, "__init__", lambda *_, **__: pytest.fail("trains again"))
    again = train(directory, with_dropout)
    assert weights(directory) == weights(uninterrupted)
    assert (directory / "metrics.jsonl").read_bytes() == before
    saved = Student.load(uninterrupted / "student", device="cpu").model.state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in again.model.state_dict().items())
    assert not list((directory / "checkpoints").glob("checkpoint-*")), "optimiser states are not needed again"


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "trainer_state.json", "rng_state.pth"])
def test_a_checkpoint_with_a_changed_bit_is_refused(name: str, with_dropout: Path, tmp_path: Path) -> None:
    assert_killed(die_at_step, tmp_path, with_dropout, 4)
    path = tmp_path / "checkpoints" / "checkpoint-3" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunError, match=rf"checkpoint-3/{name} is damaged") as caught:
        train(tmp_path, with_dropout)
    assert "checkpoint-3, and run the same command again" in caught.value.next_step
    path.unlink()
    with pytest.raises(RunError, match="is missing"):
        train(tmp_path, with_dropout)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_student_with_a_changed_bit_is_refused(
    name: str, uninterrupted: Path, with_dropout: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    shutil.copytree(uninterrupted, directory)
    path = directory / "student" / name
    data = bytearray(path.read_bytes())
    data[-9] ^= 2
    path.write_bytes(data)
    with pytest.raises(RunError, match=rf"student/{name} is damaged") as caught:
        train(directory, with_dropout)
    assert f"Delete {directory / 'checkpoints'}" in caught.value.next_step
    (directory / "checkpoints" / "student.json").unlink()
    with pytest.raises(RunError, match="does not say what was saved"):
        train(directory, with_dropout)


def test_only_marked_checkpoints_count(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest() is None
    for step in (9, 10, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
    assert checkpoints.latest() is None
    for step in (9, 10):
        write_object(tmp_path / f"checkpoint-{step}" / COMPLETE, {})
    latest = checkpoints.latest()
    assert latest is not None
    assert checkpoints.step(latest) == 10


@pytest.mark.parametrize(("keep", "step"), [("last", 6), ("best", 3)])
def test_kept_checkpoint(keep: str, step: int, tmp_path: Path) -> None:
    for number in (3, 6):
        (tmp_path / f"checkpoint-{number}").mkdir()
        write_object(tmp_path / f"checkpoint-{number}" / COMPLETE, {})
        state = {"best_global_step": 3, "best_model_checkpoint": "/somewhere/else/checkpoint-3"}
        (tmp_path / f"checkpoint-{number}" / "trainer_state.json").write_text(json.dumps(state))
    assert Checkpoints(tmp_path).kept(keep).name == f"checkpoint-{step}"  # type: ignore[arg-type]


def test_both_optimizers_continue_exactly(with_dropout: Path, tmp_path: Path) -> None:
    def parts() -> tuple[torch.nn.Module, Both, torch.optim.lr_scheduler.LRScheduler]:
        model = student(with_dropout).model
        optimizer = build_optimizer(model, CONFIG)
        assert isinstance(optimizer, Both)
        return model, optimizer, torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, 6)

    def step(model: torch.nn.Module, optimizer: Both, schedule: torch.optim.lr_scheduler.LRScheduler) -> None:
        tokens = torch.arange(40).reshape(2, 20)
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()

    model, optimizer, schedule = parts()
    for _ in range(3):
        step(model, optimizer, schedule)
    torch.save([model.state_dict(), optimizer.state_dict(), schedule.state_dict()], tmp_path / "state.pt")
    again = parts()
    for part, state in zip(again, torch.load(tmp_path / "state.pt"), strict=True):
        part.load_state_dict(state)
    rates = [group["lr"] for group in again[1].param_groups]
    assert rates == [group["lr"] for group in optimizer.param_groups]
    assert len(set(rates)) == 2, "Muon and AdamW have rates of their own"
    for _ in range(3):
        step(model, optimizer, schedule)
        step(*again)
    for name, value in model.state_dict().items():
        assert torch.equal(value, again[0].state_dict()[name]), name
    assert [group["lr"] for part in again[1].parts for group in part.param_groups] == [
        group["lr"] for group in optimizer.param_groups
    ]


def test_muon_takes_hidden_matrices_only(with_dropout: Path) -> None:
    model = student(with_dropout).model
    optimizer = build_optimizer(model, CONFIG)
    assert isinstance(optimizer, Both)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    muon, rest = ({names[id(p)] for g in part.param_groups for p in g["params"]} for part in optimizer.parts)
    assert muon | rest == set(names.values())
    assert not muon & rest
    assert {"transformer.wte.weight", "transformer.wpe.weight"} <= rest
    assert all("attn" in name or "mlp" in name for name in muon)
    assert len(muon) == 2 * 4
