"""Settings that decide speed and memory alone are never part of what a run is."""

from pathlib import Path

import pytest

from codestill.models import Placement
from codestill.recipes import RECIPES, load_recipe
from codestill.run import Run


@pytest.mark.parametrize("name", [*Placement.model_fields, "threads", "workers"])
@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_a_setting_of_speed_alone_refuses_no_run_directory(tmp_path: Path, recipe: str, name: str) -> None:
    others = {"device": "cpu", "compile": True, "fused_loss": False, "attention": "eager"}
    other = (others | {"gradient_checkpointing": True}).get(name, 3)
    config = load_recipe(recipe).Config
    with Run.open(tmp_path / "run", config()) as run:
        first = run.fingerprint
    with Run.open(tmp_path / "run", config.model_validate({"execution": {name: other}})) as run:
        assert run.fingerprint == first


def test_no_other_group_has_a_setting_of_batches_that_only_cost_memory() -> None:
    """What evaluation, validation, training answers and attempts decode is one setting, which all follow."""
    speed = {"decode_batch", "prefill_tokens", "batch_size", "capture_batch_tokens", "fused_loss"}
    for recipe in RECIPES:
        dumped = load_recipe(recipe).Config().model_dump(exclude={"execution"})
        assert not speed & set(_keys(dumped)), recipe


def _keys(value: object) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(key for inner in value.values() for key in _keys(inner))]
    return []
