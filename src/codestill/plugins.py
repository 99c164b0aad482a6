"""A user's own class or object, named as ``module:object`` where a setting also takes a built-in name."""

import difflib
import importlib
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from codestill.errors import ConfigError

_SPEC = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def is_plugin(name: str) -> bool:
    """Whether it has the form ``module:object``."""
    return _SPEC.fullmatch(name) is not None


def load_plugin(spec: str, kind: str) -> Any:
    """Import the object that ``module:object`` names, e.g. ``my_module:MyTracker``.

    The module is looked up as in any import, and after that in the working directory. ``kind``, e.g.
    ``tracker``, stands in messages. Raises ConfigError where the module cannot be imported or lacks the
    object.
    """
    module_name, _, name = spec.partition(":")
    _search_working_directory()
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the module's own code raises
        if isinstance(error, ModuleNotFoundError) and error.name and _is_within(module_name, error.name):
            raise ConfigError(
                f"the {kind} {spec} cannot be loaded: there is no module {error.name!r}.",
                next_step=f"Install it, put {module_name.replace('.', '/')}.py into the working directory, "
                "or add its directory to PYTHONPATH.",
            ) from error
        raise ConfigError(
            f"the {kind} {spec} cannot be loaded: importing {module_name} raised {type(error).__name__}: "
            f"{error}",
            next_step=f"Correct {module_name}: `python -c 'import {module_name}'` shows where it fails.",
        ) from error
    if not hasattr(module, name):
        public = [known for known in vars(module) if not known.startswith("_")]
        raise ConfigError(
            f"the {kind} {spec} cannot be loaded: {module_name} defines no {name!r}.",
            next_step=suggestion(name, public, f"Define it in {module.__file__ or module_name}."),
        )
    return getattr(module, name)


def suggestion(name: str, known: Iterable[str], otherwise: str) -> str:
    """``Did you mean 'x'?`` for the known name nearest to ``name``, else ``otherwise``."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {near[0]!r}?" if near else otherwise


def _is_within(module: str, missing: str) -> bool:
    """Whether the missing module is the one asked for, or a package that holds it."""
    return module == missing or module.startswith(f"{missing}.")


def _search_working_directory() -> None:
    """A console script does not search it; last, so that nothing there hides an installed module."""
    directory = str(Path.cwd())
    if directory not in sys.path and "" not in sys.path:
        sys.path.append(directory)
        importlib.invalidate_caches()
