"""What the configs of all runs share: limits, execution, seed."""

import difflib
from collections.abc import Mapping
from types import MappingProxyType, UnionType
from typing import Annotated, Any, TypeGuard, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, PositiveInt, ValidationError, model_validator

from codestill.errors import ConfigError
from codestill.files.serialize import is_object, problem
from codestill.models import Placement
from codestill.run import Run
from codestill.sandbox import Sandbox, SandboxConfig
from codestill.tasks.preflight import preflight
from codestill.trackers import TrackerName
from codestill.types import Settings

M = TypeVar("M", bound=BaseModel)


class ExecutionConfig(Placement):
    """What may change between resumes: it decides speed and memory, never results, but for float rounding."""

    threads: PositiveInt | None = None
    """CPU threads for each model (default: torch's choice)."""
    workers: PositiveInt | None = None
    """Programs executed at the same time (default: one per core)."""
    trackers: tuple[TrackerName, ...] = ()
    """Where metrics go besides metrics.jsonl: names, or classes of your own as `module:Class`."""

    def prepare(self) -> None:
        """Apply the thread count to this process."""
        if self.threads:
            import torch

            torch.set_num_threads(self.threads)

    def sandbox(self, config: SandboxConfig) -> Sandbox:
        """The sandbox of ``config``, with this many workers."""
        return Sandbox(config, self.workers)


class RunConfig(Settings):
    """Base of a run's config: groups of settings may be given in part.

    What a group leaves out keeps this config's default. A student, a teacher and a task set are choices: one
    that names another model or source than the default's replaces it as a whole.
    """

    sandbox: SandboxConfig = SandboxConfig()
    """Limits for each program."""
    execution: ExecutionConfig = ExecutionConfig()
    """What may change between resumes."""
    seed: int = 0
    """Seed of everything random: samples, the order of batches, dropout."""

    def preflight(self, run: Run) -> None:
        """What can be refused before anything is paid for.

        Raises TaskError where task sets cannot be loaded or used as they are meant, or share a task
        (:mod:`codestill.tasks.preflight`); ConfigError where an endpoint does not answer
        (:mod:`codestill.teachers.reach`).
        """
        from codestill.teachers.reach import require_endpoints

        preflight(self)
        require_endpoints(self, run)

    @property
    def needs_teacher(self) -> bool:
        """Whether a run with these settings loads or asks a teacher."""
        return "teacher" in type(self).model_fields

    @model_validator(mode="before")
    @classmethod
    def _fill_groups(cls, values: Any) -> Any:
        if not is_object(values):
            return values
        fields = cls.model_fields
        return {
            name: _filled(name, fields[name].get_default(call_default_factory=True), value)
            if name in fields
            else value
            for name, value in values.items()
        }


CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "student": ("preset", "model"),
        "teacher": ("type", "model"),
        "tasks": ("source", "path"),
        "validation": ("source", "path"),
    }
)
"""Settings that are a choice, and what names it: the default's other settings do not apply to another."""


def _filled(name: str, default: Any, value: Any) -> Any:
    """The value with what it leaves out of the default, where both are settings of one thing."""
    if not isinstance(default, BaseModel) or not is_object(value):
        return value
    if any(value[key] != getattr(default, key, None) for key in CHOICES.get(name, ("type",)) if key in value):
        return value
    kept = default.model_dump(exclude_unset=True)
    filled = {key: _filled(key, getattr(default, key, None), inner) for key, inner in value.items()}
    return kept | ({"type": default.type} if hasattr(default, "type") else {}) | filled  # type: ignore[attr-defined]


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of both; those of the second win."""
    both = dict(first)
    for key, value in second.items():
        before = both.get(key)
        both[key] = merged(before, value) if is_object(before) and is_object(value) else value
    return both


def validated(model: type[M], values: Any, said: str, next_step: str) -> M:
    """The settings that the values are. Raises ConfigError, ``said`` and then a line per problem."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{said}{problems(error, model)}", next_step=next_step) from error


def problems(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """A validation error, a line per problem; for an unknown key of ``model``, the nearest valid one."""
    lines: list[str] = []
    for details in error.errors(include_url=False):
        path = details["loc"]
        if details["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(path[-1]), _names(model, path[:-1]), n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            lines.append(f"{'.'.join(map(str, path))} is not a setting.{hint}")
        else:
            lines.append(problem(details))
    return "\n  ".join(lines)


def _names(model: type[BaseModel] | None, path: tuple[int | str, ...]) -> list[str]:
    """The field names of the settings that ``path`` leads to from ``model``."""
    for name in path:
        field = model.model_fields.get(str(name)) if model else None
        kinds = choices_of(field.annotation) if field else ()
        model = next((kind for kind in kinds if is_settings(kind)), None)
    return list(model.model_fields) if model else []


def choices_of(annotation: Any) -> tuple[Any, ...]:
    """The types of which a value of this annotation is one."""
    if get_origin(annotation) is Annotated:
        return choices_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return tuple(kind for part in get_args(annotation) for kind in choices_of(part))
    return (annotation,)


def is_settings(kind: Any) -> TypeGuard[type[BaseModel]]:
    """Whether a type is a group of settings."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)
