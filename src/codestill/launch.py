"""Runs from Python, as the command line makes them: settings in, a run directory out, with progress."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from codestill.browse import RunFiles, is_run, list_run, read_run
from codestill.config import RunConfig, validated
from codestill.evaluation import EvaluateModel, evaluate_model
from codestill.progress import progress_bars
from codestill.recipes import load_recipe
from codestill.run import Observer, Run
from codestill.trackers import close_trackers, open_trackers
from codestill.types import Evaluation, Event

C = TypeVar("C", bound=RunConfig)


def distill(recipe: str, directory: Path | str, /, **settings: Any) -> RunFiles:
    """Run a recipe in a directory, or continue it there; what ``codestill run`` does.

    ``recipe`` is a bundled recipe or the path of a Python file; ``settings`` are those of its ``Config``, as
    in a YAML file. The student is in ``student`` below the directory. Raises ConfigError for settings that
    are not valid, before anything runs.
    """
    module = load_recipe(recipe)
    return carry_out(module, _valid(module.Config, recipe, settings), Path(directory))


def carry_out(module: ModuleType, config: RunConfig, directory: Path) -> RunFiles:
    """Run a recipe's module with a config that is valid."""
    with opened(config, directory) as run:
        module.distill(config, run)
    return read_run(directory)


def score_model(
    model: str, tasks: str | dict[str, Any], directory: Path | str, /, **settings: Any
) -> Evaluation:
    """Evaluate a model as it stands, in a run directory; what ``codestill evaluate MODEL --tasks`` does.

    ``model`` is a directory, GGUF file or hub id, ``pocket`` or ``pocket-base``; ``tasks`` a task set such as
    ``humaneval`` or ``mine.jsonl:test``, or its settings; ``settings`` are those of an evaluation, such as
    ``samples_per_task``, and of :class:`EvaluateModel`, such as ``dtype``. Raises ConfigError for settings
    that are not valid.
    """
    of_model = {name: settings.pop(name) for name in [*settings] if name in EvaluateModel.model_fields}
    values = {**of_model, "model": model, "evaluate": {**settings, "tasks": tasks}}
    config = _valid(EvaluateModel, "an evaluation", values)
    with opened(config, Path(directory)) as run:
        return evaluate_model(config, run)


def _valid(model: type[C], what: str, settings: dict[str, Any]) -> C:
    return validated(model, settings, f"the settings of {what} are not valid:\n  ", "Correct these values.")


@contextmanager
def opened(config: RunConfig, directory: Path) -> Iterator[Run]:
    """The run in a directory, watched by the trackers that its config names and by progress bars."""
    config.execution.prepare()
    shown = progress_bars()
    watching: list[Observer] = [
        *open_trackers(config.execution.trackers, directory, config.model_dump(mode="json")),
        shown,
    ]
    say_what_is_there(directory, shown)
    try:
        with Run.open(directory, config, watching) as run:
            yield run
    finally:
        close_trackers(watching)


def say_what_is_there(directory: Path, shown: Observer) -> None:
    """Of a run that is continued, how far it is: what is finished is silent, and loading takes a while."""
    if is_run(directory):
        found = list_run(directory)
        how_far = "what is finished is kept" if found.state == "finished" else found.doing or "from the start"
        shown(Event(stage=str(directory), kind="message", message=f"continues: {how_far}"))
