"""Published experiments can be run: every arm is a valid config of its recipe, every YAML file is checked."""

from pathlib import Path

import pytest
import yaml

from codestill.compare import CompareConfig
from codestill.recipes import load_recipe

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
FILES = sorted(EXPERIMENTS.glob("*/*.yaml"))
COMPARISONS = [path for path in FILES if "arms" in yaml.safe_load(path.read_text(encoding="utf-8"))]
REAL = ("sft", "logit_kd", "persd", "amr_evol", "iterkd")
RECIPES = {"amr_evol/start.yaml": "sft", "real/references.yaml": "sft", "real/aligned.yaml": "logit_kd"}
RECIPES |= {f"real/{recipe}.yaml": recipe for recipe in REAL}


def name(path: Path) -> str:
    return path.relative_to(EXPERIMENTS).as_posix()


@pytest.mark.parametrize("path", COMPARISONS, ids=name)
def test_every_arm_is_a_config_of_its_recipe(path: Path):
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    for arm in CompareConfig.model_validate(values).arms:
        if arm.recipe is not None:
            load_recipe(arm.recipe).Config.model_validate(arm.config)


def test_every_other_file_is_a_config_of_its_recipe():
    assert {name(path) for path in FILES if path not in COMPARISONS} == set(RECIPES)
    for file, recipe in RECIPES.items():
        values = yaml.safe_load((EXPERIMENTS / file).read_text(encoding="utf-8"))
        load_recipe(recipe).Config.model_validate(values)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_the_readme_gives_the_command_of_every_file(path: Path):
    readme = (path.parent / "README.md").read_text(encoding="utf-8")
    assert f"experiments/{name(path)}" in readme
