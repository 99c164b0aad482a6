"""Any recipe's config on the bundled world, so small that it runs in seconds."""

from typing import Any

from pydantic import BaseModel

from codestill.evaluation import EvaluateConfig
from codestill.models import SamplingConfig, StudentConfig
from codestill.tasks import TasksConfig
from codestill.teachers import LocalTeacherConfig
from codestill.teachers.endpoint import ApiTeacherConfig
from codestill.train import TrainConfig

_TASKS = 5
_TOKENS = 32


def tiny(config: BaseModel) -> dict[str, Any]:
    """The settings of a config with a bundled teacher and student, few tasks, tokens and steps; what it knows
    nothing of stays as it is."""
    return {name: _small(getattr(config, name)) for name in type(config).model_fields}


def _small(value: Any) -> Any:
    if isinstance(value, StudentConfig):
        return {"preset": "pocket-0.1m"}
    if isinstance(value, LocalTeacherConfig | ApiTeacherConfig):
        return {"type": "local", "model": "pocket", "dtype": "float32"}
    if isinstance(value, TasksConfig):
        split = value.split if value.split in ("train", "validation", "test") else "train"
        return {"source": "pocket", "split": split, "count": _TASKS, "skip": value.skip, "depths": [1, 2]}
    if isinstance(value, TrainConfig):
        small = {"max_steps": 3, "batch_tokens": 300, "accumulation": 1, "checkpoint_steps": 2}
        return value.model_dump() | small
    if isinstance(value, EvaluateConfig):
        kept = value.model_dump() | {"samples_per_task": min(value.samples_per_task, 2), "profile": False}
        own = {"likelihood": None, "draft_for": None}
        return kept | own | {"tasks": _small(value.tasks), "max_new_tokens": _TOKENS}
    if isinstance(value, SamplingConfig):
        return value.model_dump() | {"max_new_tokens": 2 * _TOKENS}
    if isinstance(value, BaseModel):
        return tiny(value)
    return value
