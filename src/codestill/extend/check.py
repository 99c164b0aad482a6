"""What a file defines, and whether it works."""

import sys
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

from codestill.errors import ConfigError
from codestill.extend.finding import Finding
from codestill.files.serialize import fingerprint


def check(path: Path) -> Iterator[Finding]:
    """Check every recipe, task family and divergence that a Python file defines, as each finding is made.

    The file's own code runs here. Raises ConfigError where it cannot be imported or defines none of these.
    """
    from codestill.losses import DIVERGENCES

    before = dict(DIVERGENCES)
    module = _imported(path)
    divergences = [name for name, entry in DIVERGENCES.items() if before.get(name) is not entry]
    families = [name for name, value in vars(module).items() if _is_family(value, module)]
    is_recipe = hasattr(module, "Config") and hasattr(module, "distill")
    if not (divergences or families or is_recipe):
        raise ConfigError(
            f"{path} defines no recipe, no task family and no divergence.",
            next_step="codestill new recipe|tasks|divergence NAME writes one to start from.",
        )
    if divergences:
        from codestill.extend.divergence import check_divergence

        for name in divergences:
            yield from check_divergence(name)
    for name in families:
        yield from _check_family(getattr(module, name), name)
    if is_recipe:
        from codestill.extend.recipe import check_recipe

        yield from check_recipe(path, module)


def _imported(path: Path) -> ModuleType:
    if path.suffix != ".py" or not path.is_file():
        raise ConfigError(f"{path} is no Python file.", next_step="Give the path of a .py file.")
    # By its text, too: families are remembered by the name of their module.
    name = f"{path.stem}_{fingerprint(path.read_text(encoding='utf-8'))}"
    spec = util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the file's own code raises
        raise ConfigError(
            f"{path} cannot be imported: {type(error).__name__}: {error}", next_step="Correct the file."
        ) from error
    return module


def _is_family(value: Any, module: ModuleType) -> bool:
    own = isinstance(value, type) and value.__module__ == module.__name__
    return own and hasattr(value, "splits") and hasattr(value, "load")


def _check_family(family: type, name: str) -> Iterator[Finding]:
    """References pass and nothing else does; no task is both trained on and tested; a round brings no task
    of the test."""
    from codestill.evaluation import known_answers
    from codestill.sandbox import Sandbox, SandboxConfig
    from codestill.tasks import TasksConfig

    made = family()
    settings = {"source": f"{family.__module__}:{name}", "count": _TASKS, "limit": _TASKS}
    configs = {split: TasksConfig.model_validate(settings | {"split": split}) for split in made.splits}
    prompts: dict[str, set[str]] = {}
    with Sandbox(SandboxConfig()) as sandbox:
        for split, config in configs.items():
            tasks = config.load()
            prompts[split] = {task.prompt for task in tasks}
            report = known_answers(tasks, sandbox)
            detail = "; ".join(map(str, report.findings[:3])) or f"{len(tasks)} tasks"
            yield Finding(name, f"{split}: references pass, empty answers do not", report.holds, detail)
    held_out = set[str]().union(*(prompts[split] for split in prompts if split != "train"))
    shared = prompts.get("train", set()) & held_out
    yield Finding(name, "no training task is held out", not shared, _named(shared))
    if hasattr(made, "trainable"):
        wrong = {prompt for prompt in held_out if made.trainable(prompt)}
        yield Finding(name, "what is held out is not trainable", not wrong, _named(wrong))
    if "train" in configs:
        again = {task.prompt for task in configs["train"].fresh(1)} & held_out
        yield Finding(name, "a later round has no task that is held out", not again, _named(again))


_TASKS = 20
"""Tasks of each split that are looked at."""


def _named(prompts: set[str]) -> str:
    return f"{len(prompts)} are, e.g. {min(prompts)[:60]!r}" if prompts else "none"
