"""Which tasks to use: what ``--tasks`` and a config file's ``tasks:`` hold."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from codestill.errors import TaskError
from codestill.serialize import fingerprint
from codestill.tasks.mbpp import few_shot
from codestill.tasks.rows import Rows, to_tasks
from codestill.tasks.schema import read_tasks
from codestill.tasks.sources import BENCHMARKS, benchmark_rows
from codestill.tasks.stops import STOP_RULES, StopName, StopRule
from codestill.types import Settings, Task

Source = Literal[
    "humaneval",
    "humaneval-plus",
    "mbpp",
    "mbpp-sanitized",
    "mbpp-plus",
    "pocket",
    "pocket-easy",
    "pocket-hard",
    "jsonl",
]
TaskSplit = Literal["train", "validation", "test", "prompt", "all"]
PromptMode = Literal["zero-shot", "few-shot"]

_DEFAULT_SPLIT: dict[Source, TaskSplit] = {"jsonl": "all"}
_TEST_ONLY = ("humaneval", "humaneval-plus", "mbpp-plus")
_MBPP = ("mbpp", "mbpp-sanitized")
POCKET_DEPTHS: dict[str, tuple[int, ...]] = {"pocket": (2, 3), "pocket-easy": (1, 2), "pocket-hard": (3, 4)}
"""How many operations a task of each family composes. A single one is never held out: it holds no pair."""


@dataclass(frozen=True)
class TaskSet:
    """Tasks, and all that a score on them must name."""

    name: str
    """With split and variant, e.g. ``mbpp:test/zero-shot``."""
    tasks: tuple[Task, ...]
    split: TaskSplit
    prompt_mode: PromptMode
    stop: StopRule
    subset: bool = False
    """True when ``limit`` left some out: never a headline."""

    @cached_property
    def data_hash(self) -> str:
        """16 hex digits over the tasks' canonical JSON: equal hash, equal prompts and tests."""
        return fingerprint(self.tasks)

    def with_tasks(self, tasks: Iterable[Task], name: str | None = None) -> "TaskSet":
        """The same set with other tasks."""
        return replace(self, tasks=tuple(tasks), name=name or self.name)

    def __len__(self) -> int:
        return len(self.tasks)


class TasksConfig(Settings):
    """A set of tasks. A string is accepted too: ``humaneval``, ``mbpp:train``, ``mine.jsonl:train``."""

    source: Source
    """The family: a benchmark, the bundled pocket world, or a JSONL file of your own."""
    path: Path | None = None
    """Local file (.jsonl or .json, also .gz). Without it: the CODESTILL_DATA directory, then the hub."""
    hub_id: str | None = None
    """Another dataset on the hub, or a local dataset directory, with the same columns."""
    split: TaskSplit = "test"
    """Which tasks. MBPP by id: prompt 1-10, test 11-510, validation 511-600, train 601-974."""
    prompt_mode: PromptMode = "zero-shot"
    """MBPP only: a docstring with the first assertion, or the paper's three examples before it."""
    limit: int | None = Field(default=None, ge=1)
    """Use the first so many tasks only; scores are then marked as of a subset."""
    count: int = Field(default=100, ge=1)
    """Pocket: how many tasks to generate."""
    seed: int = 0
    """Pocket: the generator's seed."""
    skip: int = Field(default=0, ge=0)
    """Pocket: leave out the generator's first so many tasks. No prompt occurs twice, so tasks of one seed
    that begin where others end are fresh."""
    depths: tuple[int, ...] | None = None
    """Pocket: numbers of operations that a task composes (default: 2 and 3; easy 1 and 2; hard 3 and 4)."""
    stop: StopName = "definitions"
    """Where a completion ends; docs/tasks.md describes the rules."""

    @model_validator(mode="before")
    @classmethod
    def _from_spec(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = _parse_spec(value)
        if isinstance(value, dict) and "split" not in value and value.get("source") in _DEFAULT_SPLIT:
            value = {**value, "split": _DEFAULT_SPLIT[value["source"]]}
        return value

    @field_validator("depths")
    @classmethod
    def _has_depths(cls, depths: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if depths is not None and (not depths or min(depths) < 1):
            raise ValueError("give one depth or more, each at least 1")
        return depths

    @model_validator(mode="after")
    def _consistent(self) -> "TasksConfig":
        if self.source in _TEST_ONLY and self.split not in ("test", "all"):
            raise ValueError(f"{self.source} is a test set; it has no {self.split} split")
        pocket = self.source in POCKET_DEPTHS
        if pocket and self.split in ("prompt", "all"):
            raise ValueError(f"{self.source} has the splits train, validation and test")
        if self.prompt_mode == "few-shot" and self.source not in _MBPP:
            raise ValueError(f"prompt_mode few-shot is defined for {' and '.join(_MBPP)} only")
        if self.source == "jsonl" and self.path is None:
            raise ValueError("source jsonl needs a path")
        if (pocket or self.source == "jsonl") and self.hub_id is not None:
            raise ValueError(f"source {self.source} does not come from the hub")
        if pocket and self.path is not None:
            raise ValueError(f"source {self.source} is generated; it takes no path")
        return self

    def load(self) -> TaskSet:
        """Read or generate the tasks. Raises TaskError naming file, line and field."""
        if self.source in POCKET_DEPTHS:
            tasks = self._pocket()
        elif self.source == "jsonl":
            assert self.path is not None
            tasks = read_tasks(self.path, None if self.split == "all" else self.split)
        else:
            tasks = self._benchmark(benchmark_rows(self.source, self.path, self.hub_id))
        if self.split != "all":
            tasks = [task for task in tasks if task.split == self.split]
        if not tasks:
            raise TaskError(
                f"{self.path or self.source} has no task in split {self.split!r}.",
                next_step="Ask for another split, or for `all`.",
            )
        foreign = next((task for task in tasks if task.language != "python"), None)
        if foreign is not None and self.stop == "definitions":
            raise TaskError(
                f"{foreign.task_id} is in {foreign.language}, and the stop rule `definitions` reads Python.",
                next_step="Set tasks.stop to javascript, or to none.",
            )
        kept = tasks[: self.limit]
        return TaskSet(
            name=self._name(),
            tasks=tuple(kept),
            split=self.split,
            prompt_mode=self.prompt_mode,
            stop=STOP_RULES[self.stop],
            subset=len(kept) < len(tasks),
        )

    def _name(self) -> str:
        if self.source == "jsonl":
            assert self.path is not None
            return f"{self.path.name.removesuffix('.gz').rsplit('.', 1)[0]}:{self.split}"
        name = f"{self.source}:{self.split}"
        if self.source in _MBPP:
            return f"{name}/{self.prompt_mode}"
        if self.source in POCKET_DEPTHS:
            return f"{name}/depth-{','.join(map(str, self._depths))}"
        return name

    def _benchmark(self, rows: Rows) -> list[Task]:
        tasks = to_tasks(rows, BENCHMARKS[self.source].form)
        return few_shot(tasks, rows) if self.prompt_mode == "few-shot" else tasks

    def _pocket(self) -> list[Task]:
        from codestill import pocket

        assert self.split in ("train", "validation", "test")
        return pocket.generate(self.split, self.count, self.seed, self._depths, skip=self.skip)

    @property
    def _depths(self) -> tuple[int, ...]:
        return self.depths or POCKET_DEPTHS[self.source]


def _parse_spec(spec: str) -> dict[str, Any]:
    """``source[:split][/prompt-mode]`` or ``path[:split]`` as keyword arguments."""
    splits = "|".join(get_args(TaskSplit))
    if match := re.fullmatch(rf"(?P<path>.+\.jsonl?(?:\.gz)?)(?::(?P<split>{splits}))?", spec):
        return {"source": "jsonl"} | {key: value for key, value in match.groupdict().items() if value}
    pattern = r"(?P<source>[^:/]*)(?::(?P<split>[^:/]*))?(?:/(?P<prompt_mode>[^:/]*))?"
    match = re.fullmatch(pattern, spec)
    if match is None or match["source"] not in get_args(Source):
        known = get_args(Source)
        near = difflib.get_close_matches(match["source"] if match else spec, known, n=1)
        hint = (
            f"did you mean {near[0]!r}?"
            if near
            else f"known are {', '.join(known)}, and .jsonl or .json files"
        )
        raise ValueError(f"no task set {spec!r}; {hint}")
    return {key: value for key, value in match.groupdict().items() if value is not None}
