"""A small part of a job: the same recipe and models, on few of its tasks."""

import math
from typing import Any, NamedTuple

from pydantic import BaseModel

from codestill.records import GROWS
from codestill.tasks import TasksConfig
from codestill.train import TrainConfig


class Sizes(NamedTuple):
    """How large a job is."""

    tasks: int
    """That are used to train, at most the recipe's ``count``; of an evaluation alone, that it is on."""
    evaluated: int
    """That the student is evaluated on."""


def sizes(config: Any) -> Sizes:
    """Of a recipe's config. Raises TaskError where tasks cannot be loaded."""
    evaluated = len(config.evaluate.tasks.load())
    trained = getattr(getattr(config, "examples", config), "tasks", None)
    if not isinstance(trained, TasksConfig):
        return Sizes(evaluated, evaluated)
    tasks = len(trained.load())
    return Sizes(min(tasks, getattr(config, "count", None) or tasks), evaluated)


def sample(config: Any, share: float, steps: int) -> Any:
    """The same job on this share of every task set, of at least two tasks, and of what grows with them; with
    at most so many training steps, and a checkpoint after the last, where their number is fixed."""
    if isinstance(config, TasksConfig):
        return config.model_copy(update={"limit": _part(len(config.load()), share)})
    if isinstance(config, TrainConfig):
        if config.max_steps is None:
            return config
        few = min(steps, config.max_steps)
        return config.model_copy(update={"max_steps": few, "checkpoint_steps": few})
    if not isinstance(config, BaseModel):
        return config
    changes: dict[str, Any] = {}
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        grows = GROWS in field.metadata and isinstance(value, int)
        changes[name] = _part(value, share) if grows else sample(value, share, steps)
    return config.model_copy(update=changes)


def _part(count: int, share: float) -> int:
    return min(count, max(2, math.ceil(share * count)))
