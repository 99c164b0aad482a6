"""Which tasks to use: what ``--tasks`` and a config file's ``tasks:`` hold."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, get_args, overload

from pydantic import model_validator

from codestill.errors import TaskError
from codestill.files.serialize import fingerprint
from codestill.languages import LANGUAGES
from codestill.plugins import is_plugin
from codestill.tasks.families import FAMILIES, FamilyName, family_of
from codestill.tasks.selection import PromptMode, TaskSelection, TaskSplit
from codestill.tasks.stops import StopName, StopRule, stop_rule
from codestill.types import Task


@dataclass(frozen=True, repr=False)
class TaskSet:
    """Tasks, and all that a score on them must name. Iterates over its tasks."""

    name: str
    """With split and variant, e.g. ``mbpp:test/zero-shot``."""
    tasks: tuple[Task, ...]
    split: TaskSplit
    prompt_mode: PromptMode
    stop: StopRule
    subset: bool = False
    """True when ``limit`` or a slice left tasks out: such a score is never a headline."""

    @cached_property
    def data_hash(self) -> str:
        """16 hex digits over the tasks' canonical JSON: equal hash, equal prompts and tests."""
        return fingerprint(self.tasks)

    @property
    def gaps(self) -> bool:
        """Whether completions fill gaps; a set has tasks of one kind."""
        return any(task.suffix is not None for task in self.tasks)

    @cached_property
    def by_id(self) -> Mapping[str, Task]:
        """Task id -> task, in the set's order."""
        return MappingProxyType({task.task_id: task for task in self.tasks})

    def with_tasks(self, tasks: Iterable[Task], name: str | None = None) -> "TaskSet":
        """Other tasks under the same split, prompt mode and stop rule, and the same name unless another is
        given."""
        return replace(self, tasks=tuple(tasks), name=self.name if name is None else name)

    def __len__(self) -> int:
        return len(self.tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)

    @overload
    def __getitem__(self, key: int | str) -> Task: ...
    @overload
    def __getitem__(self, key: slice) -> "TaskSet": ...
    def __getitem__(self, key: int | str | slice) -> "Task | TaskSet":
        """A task by position or id, or the task set of a slice, marked as a subset where it lacks tasks.

        Raises IndexError or KeyError.
        """
        if isinstance(key, slice):
            chosen = self.with_tasks(self.tasks[key])
            return replace(chosen, subset=self.subset or len(chosen) < len(self))
        return self.by_id[key] if isinstance(key, str) else self.tasks[key]

    def __repr__(self) -> str:
        first = f", first {self.tasks[0].task_id[:40]!r}" if self.tasks else ""
        part = ", a subset" if self.subset else ""
        return f"<TaskSet {self.name[:80]!r}: {len(self)} tasks{part}, split {self.split}{first}>"


class TasksConfig(TaskSelection):
    """A set of tasks. A string is accepted too: ``humaneval``, ``mbpp:train``, ``mine.jsonl:train``."""

    source: FamilyName
    """The family: a benchmark, the bundled pocket world, a JSONL file of your own, or a family of your own as
    `module:object`."""
    stop: StopName = "definitions"
    """Where a completion ends; docs/tasks.md describes the rules. A gap of one line
    ends with it (`line`), any other where the model says (`none`), unless another rule than the default is
    named."""

    @classmethod
    def from_text(cls, text: str) -> dict[str, Any]:
        """The settings that a string stands for. Raises ValueError for one that names no tasks."""
        return _parse_spec(text)

    @model_validator(mode="before")
    @classmethod
    def _from_spec(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = cls.from_text(value)
        if isinstance(value, dict) and "split" not in value and isinstance(value.get("source"), str):
            default = _default_split(value["source"])
            if default != "test":
                value = {**value, "split": default}
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "TasksConfig":
        family = family_of(self.source)
        family.check(self)
        if self.prompt_mode not in family.modes:
            able = [known.name for known in FAMILIES.values() if self.prompt_mode in known.modes]
            raise ValueError(f"prompt_mode {self.prompt_mode} is defined for {' and '.join(able)} only")
        if self.hub_id is not None and not family.from_hub:
            raise ValueError(f"source {self.source} does not come from the hub")
        return self

    def load(self) -> TaskSet:
        """Read or generate the tasks. Raises TaskError naming file, line and field."""
        return self._task_set(family_of(self.source).load(self))

    def fresh(self, round: int) -> TaskSet:
        """The tasks of a round, counted from 0: new ones where a world generates them, else the same."""
        return self._task_set(family_of(self.source).fresh(self, round))

    def trainable(self, prompt: str) -> bool:
        """Whether a prompt may be trained on: a world may hold some out for the test."""
        return family_of(self.source).trainable(prompt)

    def _stop(self, gaps: bool) -> str:
        if not gaps or self.stop != "definitions":
            return self.stop
        return family_of(self.source).gap_stop

    def _task_set(self, tasks: Sequence[Task]) -> TaskSet:
        if self.split != "all":
            tasks = [task for task in tasks if task.split == self.split]
        if not tasks:
            raise TaskError(
                f"{self.path or self.source} has no task in split {self.split!r}.",
                next_step="Ask for another split, or for `all`.",
            )
        foreign = next((task for task in tasks if not LANGUAGES[task.language].is_python), None)
        if foreign is not None and self.stop == "definitions":
            rules = [*([foreign.language] if LANGUAGES[foreign.language].stop else []), "none"]
            raise TaskError(
                f"{foreign.task_id} is in {foreign.language}, and the stop rule `definitions` parses Python.",
                next_step=f"Set tasks.stop to {', or to '.join(rules)}.",
            )
        kept = tasks[: self.limit]
        gaps = {task.suffix is not None for task in kept}
        if len(gaps) > 1:
            raise TaskError(
                f"{self.path or self.source} mixes tasks that go on from a prompt with gaps (a `suffix`) to "
                "fill, and their completions do not end alike.",
                next_step="Put them into two files.",
            )
        return TaskSet(
            name=family_of(self.source).variant(self),
            tasks=tuple(kept),
            split=self.split,
            prompt_mode=self.prompt_mode,
            stop=stop_rule(self._stop(gaps == {True})),
            subset=len(kept) < len(tasks),
        )


def _default_split(source: str) -> TaskSplit:
    try:
        return family_of(source).default_split
    except ValueError:  # no family: the field's own validator says so
        return "test"


def _parse_spec(spec: str) -> dict[str, Any]:
    """Keyword arguments of ``source[:split][/prompt-mode]``, ``path[:split]``, ``module:object[:split]``."""
    splits = "|".join(get_args(TaskSplit))
    if match := re.fullmatch(rf"(?P<path>.+\.jsonl?(?:\.gz)?)(?::(?P<split>{splits}))?", spec):
        return {"source": "jsonl"} | {key: value for key, value in match.groupdict().items() if value}
    pattern = r"(?P<source>[^:/]*)(?::(?P<split>[^:/]*))?(?:/(?P<prompt_mode>[^:/]*))?"
    match = re.fullmatch(pattern, spec)
    if match and match["source"] in FAMILIES:
        return {key: value for key, value in match.groupdict().items() if value is not None}
    own = re.fullmatch(rf"(?P<source>[\w.]+:(?!(?:{splits})$)\w+)(?::(?P<split>{splits}))?", spec)
    near = difflib.get_close_matches(match["source"] if match else spec, FAMILIES, n=1)
    if own and is_plugin(own["source"]) and not near:
        return {key: value for key, value in own.groupdict().items() if value}
    known = ", ".join(FAMILIES)
    hint = (
        f"did you mean {near[0]!r}?"
        if near
        else f"known are {known}, and .jsonl or .json files, or module:object of your own"
    )
    raise ValueError(f"no task set {spec!r}; {hint}")


def load_tasks(source: str | dict[str, Any]) -> TaskSet:
    """A task set by name or file, e.g. ``humaneval``, ``mbpp:train`` or ``mine.jsonl``; or by the fields of
    :class:`TasksConfig`. Raises TaskError, or pydantic's ValidationError for a name that is none."""
    return TasksConfig.model_validate(source).load()
