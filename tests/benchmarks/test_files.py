"""Comparisons that the project publishes can be run."""

from pathlib import Path

import pytest
import yaml

from codestill.compare import CompareConfig
from codestill.recipes import load_recipe

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
COMPARISONS = [
    path for path in sorted(BENCHMARKS.glob("*.yaml")) if "\narms:" in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("path", COMPARISONS, ids=lambda path: path.stem)
def test_every_arm_is_a_config_of_its_recipe(path: Path):
    made = yaml.safe_load(path.read_text(encoding="utf-8"))
    for arm in CompareConfig.model_validate(made).arms:
        if arm.recipe is not None:
            load_recipe(arm.recipe).Config.model_validate(arm.config)
