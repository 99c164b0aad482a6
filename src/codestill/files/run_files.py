"""What is read back of a run directory: each file checked, and what to do where one is damaged."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from codestill.errors import ConfigMismatch, RunError
from codestill.files.seal import unseal_text
from codestill.files.serialize import is_object, read_jsonl, read_object, read_record, write_object
from codestill.files.strict_yaml import load_yaml
from codestill.types import Call, Record

R = TypeVar("R", bound=BaseModel)
NEW_DIRECTORY = "Restore the file from a copy, or use another run directory."
NO_LOG = "Delete the file: it is a log, which no result depends on. The reports lack what it held."
NO_LEDGER = (
    "Delete the file: the answers are kept elsewhere, and none is paid again. Calls, tokens and money are "
    "counted from zero then: lower the budget by what was spent."
)
NO_ACCOUNTING = "Delete the file: no result depends on it. The reports lack what it held."

FORECAST = "forecast.json"
SESSIONS = "sessions.jsonl"
_SHOWN = 12
"""Settings that differ, in an error."""
_BEFORE = ("environment.json", "about.json", FORECAST, "answers", "kept_answers")
"""What may stand in a run's directory before its config: of a killed start, and of a plan."""
_AT_START = {"config.yaml", "environment.json", "about.json", "metrics.jsonl", SESSIONS, ".lock"}
"""What opening a run leaves, messages before its first stage, and what closing it adds."""


class Marker(Record):
    """What a stage's file was made from, and whether it is finished."""

    fingerprint: str
    count: int
    done: bool


class About(Record):
    """What a run's config class says of it, in ``about.json``: a report needs no recipe at hand."""

    title: str
    """The first sentence of its docstring, e.g. ``Personalised distillation``."""
    needs_teacher: bool
    """Whether a run with this config loads or asks a teacher."""
    defaults: dict[str, Any]
    """The config with every default; without the fields that have none."""


class Steps(Record):
    """How many things each step of a run left, by round or part: ``funnel.json``."""

    parts: dict[str, tuple[tuple[str, int], ...]]


def about(config: BaseModel) -> About:
    """What the class of a config says."""
    kind = type(config)
    title = re.match(r".*?(?=\.\s|\.$|\n\n|$)", (kind.__doc__ or "").strip(), re.DOTALL)
    values = {
        name: field.get_default(call_default_factory=True)
        for name, field in kind.model_fields.items()
        if not field.is_required() and not field.default_factory_takes_validated_data
    }
    return About(
        title=" ".join(title.group().split()) if title else "",
        needs_teacher=bool(getattr(config, "needs_teacher", False)),
        defaults=to_jsonable_python(values, fallback=str),
    )


def require_free(directory: Path) -> None:
    """Raises RunError for what is no run's directory, and holds more than a killed start of a run, or a plan,
    leaves."""
    if not directory.exists() or (directory / "config.yaml").exists():
        return
    names = {path.name for path in directory.iterdir()} if directory.is_dir() else {"a file"}
    if any(not name.startswith(".") and name not in _BEFORE for name in names):
        raise RunError(
            f"{directory} is not empty and not a run directory: it has no config.yaml.",
            next_step="Choose another run directory, or empty this one.",
        )


def withdraw(directory: Path) -> bool:
    """Take back what opening a run wrote, if the run has failed before it did anything."""
    known = _AT_START | {*_BEFORE}
    if not directory.is_dir() or any(path.name not in known for path in directory.iterdir()):
        return False
    for name in _AT_START:
        (directory / name).unlink(missing_ok=True)
    with suppress(OSError):  # a plan's forecast or kept answers stand there
        directory.rmdir()
    return True


def slug(name: str) -> str:
    """A file name for a task set's or model's name."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")


def read_about(directory: Path) -> About | None:
    """What the run's config class said; None where an earlier version made the run. Raises RunError for a
    damaged file."""
    path = directory / "about.json"
    return read_record(path, About, NO_ACCOUNTING) if path.exists() else None


def read_funnels(directory: Path) -> dict[str, dict[str, int]]:
    """Part of the run -> step -> how many things it left, in the order of the steps. Raises RunError for a
    damaged file."""
    path = directory / "funnel.json"
    parts = read_record(path, Steps, NO_ACCOUNTING).parts if path.exists() else {}
    return {part: dict(steps) for part, steps in parts.items()}


def write_funnels(directory: Path, funnels: Mapping[str, Mapping[str, int]]) -> None:
    """Keep what :func:`read_funnels` reads."""
    parts = {part: tuple(steps.items()) for part, steps in funnels.items()}
    write_object(directory / "funnel.json", Steps(parts=parts))


def read_stage(directory: Path, name: str, record: type[R]) -> list[R]:
    """The records that a stage of a run holds so far, e.g. of ``round-1/attempts``; empty where it never
    started. Raises RunError for a damaged file."""
    path = directory / "stages" / f"{name}.jsonl"
    marker = path.with_suffix(".json")
    if not path.exists():
        return []
    done = marker.exists() and read_record(marker, Marker, redo(path)).done
    return list(stored(path, record, done))


def stored(path: Path, record: type[R], done: bool) -> Iterator[R]:
    """The records of a stage's file, which is finished or may have a torn last line."""
    return read_jsonl(path, record, whole=done, next_step=redo(path))


def redo(path: Path) -> str:
    """The next step where a stage's file or its marker is damaged."""
    return (
        f"Delete {path.name} and {path.with_suffix('.json').name}, and run the same command again: this "
        "stage's records are made again, those of all others are kept."
    )


def read_accounting(directory: Path) -> dict[str, float | int | str]:
    """What a run has consumed so far, as :meth:`Run.account` recorded it. Raises RunError for a damaged
    file."""
    path = directory / "accounting.json"
    return read_object(path, NO_ACCOUNTING) if path.exists() else {}


def read_ledger(path: Path) -> Iterator[Call]:
    """The calls to a run's teacher so far. Raises RunError for a damaged file."""
    return read_jsonl(path, Call, next_step=NO_LEDGER)


def read_config(directory: Path) -> tuple[dict[str, Any], str]:
    """The config that a run was made with, and its YAML. Raises RunError for a damaged file."""
    path = directory / "config.yaml"
    try:
        text = unseal_text(path.read_bytes().decode())
        config = None if text is None else load_yaml(text)
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}.", next_step=NEW_DIRECTORY) from error
    if text is None:
        raise RunError(
            f"{path} does not fit its checksum: it is damaged, or an earlier version wrote it.",
            next_step=NEW_DIRECTORY,
        )
    if not is_object(config):
        raise RunError(f"{path} holds no config.", next_step=NEW_DIRECTORY)
    return config, text


def identity(config: dict[str, Any]) -> dict[str, Any]:
    """The config without what may change between resumes: where it runs, and what its teacher may cost."""
    return {name: value for name, value in config.items() if name not in ("execution", "teacher_usage")}


def require_same(directory: Path, saved: dict[str, Any], now: dict[str, Any]) -> None:
    """Raises ConfigMismatch, naming the first fields that differ; where the recipe does, that alone."""
    differences = list(_differences(saved, now))
    if saved.get("recipe") != now.get("recipe"):
        differences = [line for line in differences if line.startswith("recipe: ")] or differences
    if len(differences) > _SHOWN:
        differences[_SHOWN:] = [f"and {len(differences) - _SHOWN} more"]
    if differences:
        raise ConfigMismatch(
            f"{directory} was made with another config.\n" + "\n".join(f"  {line}" for line in differences),
            next_step="Use another run directory, or the saved values.",
        )


def _by_name(value: Any) -> dict[str, Any] | None:
    """A list of objects by their names, or else by their places; None for anything else."""
    entries = cast("list[Any]", value) if isinstance(value, list) else []
    if not entries or not all(map(is_object, entries)):
        return None
    return {str(entry.get("name", number)): entry for number, entry in enumerate(entries)}


def _differences(saved: Any, now: Any, where: str = "") -> Iterator[str]:
    if is_object(saved) and is_object(now):
        for name in sorted(saved.keys() | now.keys()):
            yield from _differences(saved.get(name), now.get(name), f"{where}.{name}" if where else name)
    elif (before := _by_name(saved)) and (after := _by_name(now)):
        yield from _differences(before, after, where)
    elif saved != now:
        yield f"{where}: saved {saved!r}, now {now!r}"
