"""What is checked of a config before anything is paid for: its task sets load, may be used as they are meant,
and have no task in common."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from codestill.errors import TaskError
from codestill.tasks.check import require_trainable, require_whole
from codestill.tasks.config import TasksConfig, TaskSet
from codestill.types import Task

Role = Literal["trained", "validated", "evaluated"]
_PLACES: dict[str, Role] = {
    "warm_up.tasks": "trained",
    "examples.tasks": "trained",
    "tasks": "trained",
    "library.seeds": "trained",
    "examples.validation": "validated",
    "validation": "validated",
    "evaluate.tasks": "evaluated",
    "evaluate.likelihood": "evaluated",
}
"""Where a recipe's config has task sets, and what becomes of them."""
_MAY_SHARE = (
    {"tasks", "library.seeds"},  # both are worked on by the teacher
    {"examples.validation", "evaluate.likelihood"},  # neither chooses among students by the other
    {"validation", "evaluate.likelihood"},
    {"evaluate.tasks", "evaluate.likelihood"},
)


_READ_BY_TEACHERS = ("tasks", "library.seeds")


class Placed(NamedTuple):
    """A task set, and where in the config it is named."""

    place: str
    role: Role
    tasks: TaskSet


def preflight(config: Any) -> list[Placed]:
    """Load all task sets of a recipe's config, of every round.

    Raises TaskError where one cannot be read, is a test split that would be trained on, holds gaps of which a
    teacher's prompts would show one side, or shares a task with another: a student is not scored on what it
    has read, and not repaired on what it was warmed up with.
    Tasks that ``decontaminate`` leaves out by itself may be shared, and whoever sets ``allow_test_split``
    knows.
    """
    placed = list(_placed(config))
    allowed = bool(_at(config, "examples.allow_test_split"))
    for each in placed:
        if each.role == "trained":
            require_trainable(each.tasks, allowed)
        if each.place in _READ_BY_TEACHERS:
            require_whole(each.tasks)
    removes = _at(config, "decontaminate") or _at(config, "examples.decontaminate")
    for number, first in enumerate(placed):
        for second in placed[number + 1 :]:
            roles: set[Role] = {first.role, second.role}
            handled = roles == {"trained", "evaluated"} and first.place != "warm_up.tasks" and removes
            if {first.place, second.place} in _MAY_SHARE or (allowed and "trained" in roles) or handled:
                continue
            _require_apart(first, second, roles)
    return placed


def _placed(config: Any) -> Iterator[Placed]:
    for place, role in _PLACES.items():
        tasks = _at(config, place)
        if not isinstance(tasks, TasksConfig):
            continue
        rounds = _at(config, "fresh_rounds") or 1
        if place != "tasks" or rounds == 1:
            yield Placed(place, role, tasks.load())
            continue
        sets = [tasks.fresh(number) for number in range(rounds)]
        every = {task.task_id + task.prompt: task for task_set in sets for task in task_set}
        yield Placed(place, role, sets[0].with_tasks(every.values()))


def _at(config: Any, path: str) -> Any:
    """A setting by its path; None where the config has none of this name."""
    for name in path.split("."):
        config = getattr(config, name, None)
    return config


def _require_apart(first: Placed, second: Placed, roles: set[Role]) -> None:
    known = {content(task) for task in first.tasks}
    shared = [task for task in second.tasks if content(task) in known]
    if not shared:
        return
    named = ", ".join(task.task_id for task in shared[:3]) + (", …" if len(shared) > 3 else "")
    count = f"{len(shared)} of the {len(second.tasks)} tasks"
    step = f"Choose other tasks for {first.place} or {second.place} (another split, or skip)"
    if roles == {"trained", "evaluated"}:
        step += ", or leave out what the evaluation repeats (decontaminate)"
    raise TaskError(
        f"{count} of {second.place} are also in {first.place}: {named}.",
        next_step=f"{step}.",
    )


def content(task: Task) -> str:
    """What two tasks have in common that are one task: the prompt and what stands behind a gap, whatever
    their layout."""
    return " ".join(f"{task.prompt}{task.suffix or ''}".split())
