"""Recipes: one file or folder, one ``Config``, one ``distill(config, run)`` that reads like its paper.

A recipe is a file here, a folder with ``recipe.py``, or a file in a folder without one, named after both:
``sft.py`` is sft, ``persd/recipe.py`` persd, ``pocket/teacher.py`` pocket_teacher. What only one of them uses
lives in its folder. A stranger's recipe is any Python file with these two names; nothing is registered or
subclassed.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from codestill.errors import ConfigError


def _bundled() -> dict[str, str]:
    """Name -> module of every recipe below this folder."""
    here = Path(__file__).parent
    found = {path.stem: path.stem for path in here.glob("[!_]*.py")}
    for folder in here.glob("[!_]*/"):
        if (folder / "recipe.py").exists():
            found[folder.name] = folder.name
        else:
            found |= {f"{folder.name}_{p.stem}": f"{folder.name}.{p.stem}" for p in folder.glob("[!_]*.py")}
    return dict(sorted(found.items()))


RECIPES = _bundled()


def load_recipe(name: str) -> ModuleType:
    """A bundled recipe by name, or any Python file by path. Raises ConfigError."""
    if name in RECIPES:
        return importlib.import_module(f"codestill.recipes.{RECIPES[name]}")
    path = Path(name)
    if path.suffix != ".py":
        raise ConfigError(
            f"no recipe {name!r}.", next_step=f"Use one of {', '.join(RECIPES)}, or the path of a .py file."
        )
    if not path.is_file():
        raise ConfigError(f"no recipe file {path}.", next_step="Check the path.")
    name = f"recipe_file_{path.stem}"  # a name of its own: the file may be called like a module in use
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    missing = [wanted for wanted in ("Config", "distill") if not hasattr(module, wanted)]
    if missing:
        raise ConfigError(
            f"{path} defines no {' and no '.join(missing)}.",
            next_step="A recipe file has a pydantic model `Config` and a function `distill(config, run)`.",
        )
    return module
