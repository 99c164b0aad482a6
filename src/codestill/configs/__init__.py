"""Configs that ship with the package: ``--config NAME`` instead of a file."""

from pathlib import Path

CONFIGS = Path(__file__).parent


def recipe_configs(recipe: str) -> dict[str, Path]:
    """A recipe's bundled configs by name: `real` of persd is ``configs/real/persd.yaml``."""
    return {path.parent.name: path for path in sorted(CONFIGS.glob("*/*.yaml")) if path.stem == recipe}


def comparisons() -> dict[str, Path]:
    """The bundled comparisons by name: `quickstart` is ``configs/quickstart.yaml``."""
    return {path.stem: path for path in sorted(CONFIGS.glob("*.yaml"))}
