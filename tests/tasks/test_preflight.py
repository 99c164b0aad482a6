"""Task sets are loaded and told apart before anything is paid for."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.recipes import SETTINGS

from codestill.errors import TaskError
from codestill.examples import ExamplesConfig
from codestill.recipes import load_recipe
from codestill.run import Run
from codestill.tasks.preflight import preflight
from codestill.types import Event

POCKET = {"source": "pocket", "split": "train", "count": 20, "depths": [1, 2]}
TEST = {"tasks": POCKET | {"split": "test", "depths": [2]}}
RECIPES = [name for name in SETTINGS if not name.startswith("pocket_")]


def config(recipe: str, **values: Any) -> Any:
    return load_recipe(recipe.split()[0]).Config.model_validate(SETTINGS[recipe] | values)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_smallest_forms_share_no_task(recipe: str) -> None:
    places = [placed.place for placed in preflight(config(recipe))]
    assert "evaluate.tasks" in places and len(places) >= 2


@pytest.mark.parametrize("recipe", ["persd", "opd", "iterkd", "amr_evol"])
def test_the_defaults_share_no_task(recipe: str) -> None:
    assert preflight(load_recipe(recipe).Config())


@pytest.mark.parametrize(
    ("recipe", "values", "said"),
    [
        ("persd", {"tasks": POCKET | {"skip": 4}}, "1 of the 40 tasks of tasks are also in warm_up.tasks"),
        (
            "persd",
            {"tasks": POCKET | {"skip": 5, "count": 4}, "warm_up": {"tasks": POCKET | {"skip": 8}}},
            "tasks",
        ),
        ("opd", {"evaluate": {"tasks": POCKET | {"count": 5}}}, "evaluate.tasks are also in warm_up.tasks"),
        ("sft", {"evaluate": {"tasks": POCKET}}, "evaluate.tasks are also in examples.tasks"),
        (
            "sft",
            {"evaluate": TEST | {"likelihood": POCKET}},
            "evaluate.likelihood are also in examples.tasks",
        ),
        ("iterkd", {"validation": POCKET | {"skip": 5}}, "validation are also in tasks"),
        ("amr_evol", {"evaluate": {"tasks": POCKET | {"depths": [2]}}}, "evaluate.tasks are also in tasks"),
    ],
)
def test_a_shared_task_is_refused_by_name(recipe: str, values: dict[str, Any], said: str) -> None:
    with pytest.raises(TaskError, match=said) as refused:
        preflight(config(recipe, **values))
    assert "pocket/train" in str(refused.value)


def test_later_rounds_are_looked_at_too() -> None:
    # The second round's tasks are the next four: 9 to 12.
    warm_up = {"tasks": POCKET | {"skip": 11, "count": 1}}
    with pytest.raises(TaskError, match="are also in warm_up"):
        preflight(config("persd", warm_up=warm_up))
    assert preflight(config("persd", warm_up=warm_up, rounds=1))


def test_who_means_to_train_on_the_test_may() -> None:
    examples = SETTINGS["sft"]["examples"] | {"allow_test_split": True}
    assert preflight(config("sft", examples=examples, evaluate={"tasks": POCKET}))


def test_layout_does_not_hide_a_task(tmp_path: Path) -> None:
    def written(name: str, prompt: str, split: str) -> str:
        row = {"task_id": name, "split": split, "prompt": prompt, "entry_point": "f"}
        row |= {"reference": "    return x\n", "tests": ["assert f(1) == 1"]}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
        return f"{tmp_path / name}.jsonl:{split}"

    mine = written("mine", 'def f(x):\n    """Same."""\n', "train")
    theirs = written("theirs", 'def f(x):\n\n    """Same."""\n', "test")
    with pytest.raises(TaskError, match="theirs"):
        preflight(config("sft", examples={"tasks": mine}, evaluate={"tasks": theirs}))


@pytest.mark.parametrize("recipe", ["sft", "logit_kd", "persd", "opd", "iterkd", "amr_evol"])
def test_nothing_is_done_before(recipe: str, tmp_path: Path) -> None:
    """The evaluation's file is missing: no stage is begun, and no answer paid."""
    asked: list[Event] = []
    module = load_recipe(recipe)
    broken = config(recipe, evaluate={"tasks": f"{tmp_path}/absent.jsonl"})
    with pytest.raises(TaskError, match="absent"), Run.open(tmp_path / "run", broken, [asked.append]) as run:
        module.distill(broken, run)
    assert not (tmp_path / "run" / "stages").exists() and asked == []


def test_own_tasks_are_not_validated_on_a_benchmark() -> None:
    assert ExamplesConfig().validation is not None
    own = ExamplesConfig.model_validate({"tasks": POCKET})
    assert own.validation is None
    given = ExamplesConfig.model_validate({"tasks": POCKET, "validation": "mbpp:validation"})
    assert given.validation is not None
    with pytest.raises(ValueError, match="give some of yours"):
        load_recipe("iterkd").Config.model_validate({"tasks": "mbpp:train"})
