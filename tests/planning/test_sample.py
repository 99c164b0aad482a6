"""A small part of a job."""

from typing import Any

import pytest
from pydantic import BaseModel

from codestill.planning.sample import sample, sizes
from codestill.recipes import RECIPES, load_recipe
from codestill.records import GROWS
from codestill.tasks import TasksConfig
from codestill.train import TrainConfig

OFFLINE = {"examples": {"tasks": {"source": "pocket", "split": "train", "count": 40}}}
POCKET = {"evaluate": {"tasks": {"source": "pocket", "count": 50}}}


def whole(recipe: str) -> Any:
    model = load_recipe(recipe).Config
    return model.model_validate(POCKET | (OFFLINE if "examples" in model.model_fields else {}))


def parts(value: Any, path: str = "") -> dict[str, Any]:
    """Every group of settings and every setting that grows, by its path."""
    found: dict[str, Any] = {}
    if isinstance(value, BaseModel):
        found[path] = value
        for name, field in type(value).model_fields.items():
            inner = getattr(value, name)
            found |= {f"{path}.{name}": inner} if GROWS in field.metadata else parts(inner, f"{path}.{name}")
    return found


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if not recipe.startswith("pocket")])
def test_every_recipe_is_tried_on_a_share_of_all_that_it_has(recipe: str) -> None:
    config = whole(recipe)
    before, after = parts(config), parts(sample(config, 0.1, 6))
    assert before.keys() == after.keys()
    for path, value in before.items():
        small = after[path]
        if isinstance(value, TasksConfig):
            assert len(small.load()) == max(2, -(-len(value.load()) // 10)), path
        elif isinstance(value, TrainConfig):
            assert small.checkpoint_steps == (6 if value.max_steps else value.checkpoint_steps)
            assert small.max_steps == (value.max_steps and 6) and small.batch_tokens == value.batch_tokens
        elif isinstance(value, int):
            assert small == min(value, max(2, -(-value // 10))), path
    (tasks, evaluated), (few, few_evaluated) = sizes(config), sizes(sample(config, 0.1, 6))
    assert (few, few_evaluated) == (-(-tasks // 10), -(-evaluated // 10)) == (few, 5)


def test_there_are_settings_that_grow() -> None:
    marked = {
        path.rpartition(".")[2] for name in ("amr_evol", "iterkd", "persd") for path in parts(whole(name))
    }
    assert {"count", "proposals", "retention_tasks", "max_examples"} <= marked
