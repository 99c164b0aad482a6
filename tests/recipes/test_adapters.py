"""Every recipe trains an adapter where its student has one, round after round, and survives kills."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.support.recipes import SETTINGS
from tests.support.worlds import DieAt, assert_killed

from codestill.evaluation import read_evaluation
from codestill.models.student import Student
from codestill.recipes import load_recipe
from codestill.run import Observer, Run

STUDENT = {"model": "pocket-base-0.1m", "adapter": {"rank": 4, "dropout": 0.1}}
SHARED: dict[str, dict[str, Any]] = {
    "persd": {"start": "last"},
    "iterkd": {"retention_tasks": 1},
}
TRAININGS = {
    "persd": ["warm-up", "round-1", ""],
    "iterkd": ["warm-up", "round-1", ""],
    "pocket_teacher": ["first", ""],
}
"""Where a recipe leaves its students; the last is the run's."""


def distil(recipe: str, directory: Path, *observers: Observer, **changes: Any) -> Any:
    torch.set_num_threads(1)
    module = load_recipe(recipe.split()[0])
    given = SETTINGS[recipe] | {"student": STUDENT} | SHARED.get(recipe, {}) | changes
    with Run.open(directory, module.Config.model_validate(given), observers) as run:
        return module.distill(module.Config.model_validate(given), run)


def die_at(recipe: str, directory: Path, stage: str, done: int) -> None:
    distil(recipe, directory, DieAt(stage, done))


def results(directory: Path) -> dict[str, bytes]:
    """Students, adapters, records and evaluations."""
    kinds = {"student", "adapter", "stages", "results", "samples"}
    paths = [path for path in directory.rglob("*") if path.is_file()]
    names = {str(path.relative_to(directory)): path for path in paths}
    return {name: path.read_bytes() for name, path in names.items() if kinds & {*Path(name).parts}}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("uninterrupted")

    def made(recipe: str) -> Path:
        if not (root / recipe).exists():
            distil(recipe, root / recipe)
        return root / recipe

    return made


QUICK = {"sft", "logit_kd", "persd", "iterkd"}
KINDS = [recipe if recipe in QUICK else pytest.param(recipe, marks=pytest.mark.slow) for recipe in SETTINGS]


@pytest.mark.parametrize("recipe", KINDS)
def test_every_recipe_trains_adapters(recipe: str, uninterrupted: Callable[[str], Path]) -> None:
    directory = uninterrupted(recipe)
    for result in (directory / "results").glob("*.json"):
        assert read_evaluation(result).task_count == 3
    before = None
    for place in TRAININGS.get(recipe.split()[0], [""]):
        adapter = load_file(directory / place / "adapter" / "adapter_model.safetensors")
        assert len(adapter) == 2 * 14 and all(
            tensor.shape[0] == 4 or tensor.shape[1] == 4 for tensor in adapter.values()
        )
        student = Student.load(directory / place / "student", device="cpu").model
        weights = dict(student.named_parameters())
        if before is not None:  # what an adapter adds to the last round's student is all that is new
            name = "model.layers.0.mlp.up_proj"
            low, high = (adapter[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
            added = 32 / 4 * high @ low
            torch.testing.assert_close(weights[f"{name}.weight"], before[f"{name}.weight"] + added)
            assert added.abs().max() > 1e-6
            assert torch.equal(weights["model.embed_tokens.weight"], before["model.embed_tokens.weight"])
        before = weights


@pytest.mark.parametrize(
    ("recipe", "stage", "done"),
    [
        ("sft", "train", 3),
        ("persd", "round-2/attempts", 2),
        pytest.param("logit_kd", "train", 2, marks=pytest.mark.slow),
        pytest.param("persd", "round-1/train", 2, marks=pytest.mark.slow),
        pytest.param("iterkd", "round-1/train", 3, marks=pytest.mark.slow),
        pytest.param("iterkd", "round-2/judgements", 1, marks=pytest.mark.slow),
    ],
)
def test_killed_run_ends_with_the_same_bytes(
    recipe: str, stage: str, done: int, uninterrupted: Callable[[str], Path], tmp_path: Path
) -> None:
    assert_killed(die_at, recipe, tmp_path / "run", stage, done)
    distil(recipe, tmp_path / "run")
    found, wanted = results(tmp_path / "run"), results(uninterrupted(recipe))
    assert found.keys() == wanted.keys()
    for name, content in found.items():
        assert content == wanted[name], name


@pytest.mark.slow
def test_rounds_above_4_bit_weights(tmp_path: Path) -> None:
    student = distil("persd", tmp_path / "run", student=STUDENT | {"quantize": "nf4"})
    assert student.dtype == "bfloat16"
    assert student.quantize == "nf4"
    assert (tmp_path / "run" / "round-1" / "adapter" / "adapter_model.safetensors").exists()
