"""Which of the given tasks are trained on, and which are held out."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import ValidationError

from codestill.config import problems
from codestill.errors import ConfigError
from codestill.tasks import TasksConfig, read_tasks
from codestill.tasks.preflight import content
from codestill.types import Task


class Parts(NamedTuple):
    """Settings of the two task sets, how they came about, and the files that they are to be written to."""

    trained: dict[str, Any]
    held_out: dict[str, Any]
    said: str
    files: Mapping[Path, Sequence[Task]] = MappingProxyType({})


def parts(tasks: TasksConfig, held_out: TasksConfig | None, share: float, directory: Path) -> Parts:
    """The tasks' own splits, or, where a file has no test tasks, a share of its rows, held out by their
    content; both parts are then files below ``directory``.

    Raises ConfigError where nothing is left to train or to evaluate on, TaskError for a file that cannot be
    read.
    """
    file = tasks.path if tasks.source == "jsonl" else None
    trained = _of_split(tasks, "train", "it has no training tasks; name some with --tasks")
    if held_out is not None:
        found = held_out.load()
        return Parts(trained, _given(held_out), f"evaluated on {len(found)} tasks of {found.name}")
    if file is None or any(task.split == "test" for task in read_tasks(file, "train")):
        found = _of_split(tasks, "test", "it has no test tasks; name some with --held-out", limit=None)
        name = TasksConfig.model_validate(found).load().name
        return Parts(trained, found, f"evaluated on {name}, which has no task in common with the training")
    train, test = hold_out(TasksConfig.model_validate(trained).load().tasks, share)
    files = {directory / f"{name}.jsonl": of_split for name, of_split in (("train", train), ("test", test))}
    learnt, kept = [trained | {"path": str(path), "split": path.stem, "limit": None} for path in files]
    said = f"{len(test)} of {len(train) + len(test)} tasks are held out for the evaluation: {kept['path']}"
    marked = {
        path: [task.model_copy(update={"split": path.stem}) for task in of_split]
        for path, of_split in files.items()
    }
    return Parts(learnt, kept, said, marked)


def hold_out(tasks: Sequence[Task], share: float) -> tuple[list[Task], list[Task]]:
    """Tasks to train on, and the share that is held out, at least one; both in their order.

    Which ones depends on their prompts alone, so that neither order nor further tasks move one from the
    training into the evaluation by more than the share demands; tasks of one prompt stay together. Raises
    ConfigError for fewer than two prompts.
    """
    prompts = sorted(
        {content(task) for task in tasks}, key=lambda text: hashlib.sha256(text.encode()).digest()
    )
    if len(prompts) < 2:
        raise ConfigError(
            f"{len(prompts)} task cannot be divided into one part to train on and one to evaluate on.",
            next_step="Give more tasks, or others to evaluate on with --held-out.",
        )
    chosen = set(prompts[: min(math.ceil(share * len(prompts)), len(prompts) - 1)])
    return [t for t in tasks if content(t) not in chosen], [t for t in tasks if content(t) in chosen]


def _of_split(tasks: TasksConfig, split: str, lacking: str, **others: Any) -> dict[str, Any]:
    """The settings of another split of the tasks; of a file's, ``test`` is a choice that was made."""
    made = tasks.source == "jsonl" and tasks.split == "test" and split == "train"
    values = _given(tasks) | ({} if made else {"split": split}) | others
    try:
        TasksConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(
            f"{tasks.source}: {problems(error)}.", next_step=f"{lacking}.".capitalize()
        ) from error
    return values


def _given(tasks: TasksConfig) -> dict[str, Any]:
    """The settings as they were given: a recipe's defaults fill the rest."""
    return tasks.model_dump(mode="json", exclude_unset=True)
