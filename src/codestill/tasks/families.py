"""The task families: benchmarks, files of the user's own, and the bundled pocket world.

A family is one object of :data:`FAMILIES`. The user's own is any object or class with ``splits`` and
``load(selection)``, named as ``module:object``; it may also have whatever else :class:`Family` has.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import AfterValidator

from codestill.errors import ConfigError, TaskError
from codestill.plugins import is_plugin, load_plugin, suggestion
from codestill.tasks.evalplus import HumanEvalPlusRow, MbppPlusRow
from codestill.tasks.humaneval import HumanEvalPlusHubRow, HumanEvalRow
from codestill.tasks.infilling import InfillingRow, Lines, taken_out
from codestill.tasks.mbpp import MbppPlusHubRow, MbppRow, SanitizedRow, few_shot
from codestill.tasks.rows import to_tasks
from codestill.tasks.schema import read_tasks
from codestill.tasks.selection import TaskSelection, TaskSplit
from codestill.tasks.sources import Benchmark, benchmark_rows, local_file
from codestill.types import Task

POCKET_SPLITS: tuple[TaskSplit, ...] = ("train", "validation", "test")
MBPP_SPLITS: tuple[TaskSplit, ...] = ("train", "validation", "test", "prompt")


class Family:
    """Tasks of one kind: where they come from, and what can be asked of them."""

    name: str = ""
    about: str = ""
    """One line for ``codestill tasks ls``."""
    splits: tuple[TaskSplit, ...]
    """Those that may be asked for. ``all``, every task whatever its split, goes without saying, unless
    ``has_all`` is false."""
    has_all: bool = True
    default_split: TaskSplit = "test"
    """The one meant where none is given."""
    modes: tuple[str, ...] = ("zero-shot",)
    """Prompt modes."""
    from_hub: bool = False
    """Whether ``hub_id`` means something."""
    gap_stop: str = "none"
    """The stop rule of what fills a gap."""
    licence: str = ""
    """Under which the tasks are published; empty where that is not known."""

    def __init__(self, name: str, about: str, splits: Sequence[TaskSplit]) -> None:
        self.name, self.about, self.splits = name, about, tuple(splits)

    def load(self, selection: TaskSelection) -> Sequence[Task]:
        """The tasks, of every split or of the one selected alone. Raises TaskError naming what is wrong."""
        raise NotImplementedError

    def fresh(self, selection: TaskSelection, round: int) -> Sequence[Task]:
        """The tasks of a round, counted from 0: new ones where a world generates them, else the same."""
        return self.load(selection)

    def trainable(self, prompt: str) -> bool:
        """Whether a prompt may be trained on where this family is trained or evaluated on."""
        return True

    def check(self, selection: TaskSelection) -> None:
        """Raises ValueError for settings that contradict each other."""

    def variant(self, selection: TaskSelection) -> str:
        """The name of the selected tasks in results: with the split and whatever else a score depends on."""
        return f"{self.name}:{selection.split}"

    def found(self) -> Path | None:
        """The local file that would be read, where the family has one."""
        return None


class BenchmarkFamily(Family):
    """A published benchmark."""

    from_hub = True

    def __init__(self, name: str, about: str, splits: Sequence[TaskSplit], benchmark: Benchmark) -> None:
        super().__init__(name, about, splits)
        self.benchmark, self.licence = benchmark, benchmark.licence

    def load(self, selection: TaskSelection) -> Sequence[Task]:
        rows = benchmark_rows(self.benchmark, selection.path, selection.hub_id)
        return to_tasks(rows, self.benchmark.form)

    def check(self, selection: TaskSelection) -> None:
        if selection.split not in (*self.splits, "all"):
            raise ValueError(f"{self.name} is a test set; it has no {selection.split} split")

    def found(self) -> Path | None:
        return local_file(self.benchmark.file)


class MbppFamily(BenchmarkFamily):
    """MBPP, whose tasks have two prompts."""

    modes = ("zero-shot", "few-shot")

    def load(self, selection: TaskSelection) -> Sequence[Task]:
        rows = benchmark_rows(self.benchmark, selection.path, selection.hub_id)
        tasks = to_tasks(rows, self.benchmark.form)
        return few_shot(tasks, rows) if selection.prompt_mode == "few-shot" else tasks

    def variant(self, selection: TaskSelection) -> str:
        return f"{super().variant(selection)}/{selection.prompt_mode}"


class InfillingFamily(BenchmarkFamily):
    """HumanEval's solutions with a line, or a range of lines, taken out."""

    def __init__(self, name: str, about: str, benchmark: Benchmark, lines: Lines) -> None:
        super().__init__(name, about, ("test",), benchmark)
        self.lines: Lines = lines
        self.gap_stop = "line" if lines == "single-line" else "none"

    def load(self, selection: TaskSelection) -> Sequence[Task]:
        rows = benchmark_rows(self.benchmark, selection.path, selection.hub_id)
        return to_tasks(taken_out(rows, self.lines), lambda values: InfillingRow)


class PocketFamily(Family):
    """Generated tasks of the pocket world."""

    has_all = False
    licence = "apache-2.0"

    def __init__(self, name: str, about: str, depths: tuple[int, ...]) -> None:
        super().__init__(name, about, POCKET_SPLITS)
        self.depths = depths
        """How many operations a task composes. A single one is never held out: it holds no pair."""

    def load(self, selection: TaskSelection) -> Sequence[Task]:
        return self.fresh(selection, 0)

    def fresh(self, selection: TaskSelection, round: int) -> Sequence[Task]:
        from codestill import pocket

        split, count = selection.split, selection.count
        assert split in ("train", "validation", "test")
        skip = selection.skip + round * count
        return pocket.generate(split, count, selection.seed, selection.depths or self.depths, skip=skip)

    def trainable(self, prompt: str) -> bool:
        """False for a composition that is held out for the test."""
        from codestill.pocket.skills import held_out

        return not held_out(prompt)

    def check(self, selection: TaskSelection) -> None:
        if selection.split not in self.splits:
            raise ValueError(f"{self.name} has the splits train, validation and test")
        if selection.path is not None:
            raise ValueError(f"source {self.name} is generated; it takes no path")

    def variant(self, selection: TaskSelection) -> str:
        depths = ",".join(map(str, selection.depths or self.depths))
        return f"{super().variant(selection)}/depth-{depths}"


class FileFamily(Family):
    """A file of the user's own."""

    default_split = "all"

    def load(self, selection: TaskSelection) -> Sequence[Task]:
        assert selection.path is not None
        return read_tasks(selection.path, None if selection.split == "all" else selection.split)

    def check(self, selection: TaskSelection) -> None:
        if selection.path is None:
            raise ValueError(f"source {self.name} needs a path")

    def variant(self, selection: TaskSelection) -> str:
        assert selection.path is not None
        return f"{selection.path.name.removesuffix('.gz').rsplit('.', 1)[0]}:{selection.split}"


_HUMANEVAL = Benchmark(
    "humaneval/HumanEval.jsonl", "openai/openai_humaneval", HumanEvalRow, HumanEvalRow, "mit"
)
_ALL_FAMILIES = (
    BenchmarkFamily("humaneval", "164 functions to complete (Chen et al., 2021)", ("test",), _HUMANEVAL),
    InfillingFamily(
        "humaneval-infilling",
        "a line of their solutions to fill in: 1,033 gaps (Bavarian et al., 2022)",
        _HUMANEVAL,
        "single-line",
    ),
    InfillingFamily(
        "humaneval-infilling-multi-line", "one line or several: 5,815 gaps", _HUMANEVAL, "multi-line"
    ),
    BenchmarkFamily(
        "humaneval-infilling-random-span",
        "gaps that begin and end anywhere: 1,640",
        ("test",),
        Benchmark(
            "humaneval-infilling/HumanEval-RandomSpanInfilling.jsonl",
            "loubnabnl/humaneval_infilling",
            InfillingRow,
            InfillingRow,
            "mit",
            "HumanEval-RandomSpanInfilling",
        ),
    ),
    BenchmarkFamily(
        "humaneval-plus",
        "the same with about 80 times the tests (EvalPlus v0.1.10)",
        ("test",),
        Benchmark(
            "humanevalplus/HumanEvalPlus.jsonl",
            "evalplus/humanevalplus",
            HumanEvalPlusRow,
            HumanEvalPlusHubRow,
            "apache-2.0",
        ),
    ),
    MbppFamily(
        "mbpp",
        "974 tasks by description and one assertion (Austin et al., 2021)",
        MBPP_SPLITS,
        Benchmark("mbpp/mbpp.jsonl", "google-research-datasets/mbpp", MbppRow, MbppRow, "cc-by-4.0", "full"),
    ),
    MbppFamily(
        "mbpp-sanitized",
        "427 of them, verified by hand",
        MBPP_SPLITS,
        Benchmark(
            "mbpp/sanitized-mbpp.json",
            "google-research-datasets/mbpp",
            SanitizedRow,
            SanitizedRow,
            "cc-by-4.0",
            "sanitized",
        ),
    ),
    BenchmarkFamily(
        "mbpp-plus",
        "378 of them with about 35 times the tests (EvalPlus v0.2.0)",
        ("test",),
        Benchmark("mbppplus/MbppPlus.jsonl", "evalplus/mbppplus", MbppPlusRow, MbppPlusHubRow, "apache-2.0"),
    ),
    PocketFamily("pocket", "generated compositions of a few operations; bundled, needs no file", (2, 3)),
    PocketFamily("pocket-easy", "the same, one or two operations deep", (1, 2)),
    PocketFamily("pocket-hard", "the same, three or four operations deep", (3, 4)),
    FileFamily(
        "jsonl",
        "a file of your own: task_id, prompt, entry_point, reference, tests",
        ("train", "validation", "test", "prompt"),
    ),
)
FAMILIES: Mapping[str, Family] = {family.name: family for family in _ALL_FAMILIES}
"""The families that have a name; any other is the user's own, ``module:object``."""


_OPTIONAL = (
    "name",
    "about",
    "default_split",
    "has_all",
    "modes",
    "from_hub",
    "gap_stop",
    "licence",
    "trainable",
    "variant",
    "found",
)


class _OwnFamily(Family):
    """A user's own family: what its object has, and the defaults of :class:`Family` for the rest."""

    def __init__(self, spec: str, target: Any) -> None:
        super().__init__(spec.rpartition(":")[2], "", target.splits)
        for attribute in _OPTIONAL:
            if hasattr(target, attribute):
                setattr(self, attribute, getattr(target, attribute))
        self.target = target

    def load(self, selection: TaskSelection) -> Sequence[Task]:
        return self._checked(self.target.load(selection))

    def fresh(self, selection: TaskSelection, round: int) -> Sequence[Task]:
        if not hasattr(self.target, "fresh"):
            return self.load(selection)
        return self._checked(self.target.fresh(selection, round))

    def check(self, selection: TaskSelection) -> None:
        splits = (*self.splits, *(["all"] if self.has_all else []))
        if selection.split not in splits:
            raise ValueError(f"{self.name} has the splits {', '.join(splits)}")
        if hasattr(self.target, "check"):
            self.target.check(selection)

    def _checked(self, tasks: Iterable[Any]) -> Sequence[Task]:
        tasks = list(tasks)
        for task in tasks:
            if not isinstance(task, Task):
                raise TaskError(
                    f"the task family {self.name} gave a {type(task).__name__}, not a Task.",
                    next_step="Make one with codestill.types.Task(...).",
                )
        repeated = [
            task_id for task_id, count in Counter(task.task_id for task in tasks).items() if count > 1
        ]
        if repeated:
            raise TaskError(
                f"the task family {self.name} gave two tasks of the id {repeated[0]!r}.",
                next_step="Give every task an id of its own.",
            )
        return tasks


def family_of(name: str) -> Family:
    """The family of that name, or the user's own of that ``module:object``.

    Raises ValueError for a name that stands for nothing, ConfigError where the user's own cannot be used.
    """
    if name in FAMILIES:
        return FAMILIES[name]
    if not is_plugin(name):
        known = f"known are {', '.join(FAMILIES)}, or module:object of your own"
        raise ValueError(f"no task family {name!r}. {suggestion(name, FAMILIES, known)}")
    return _own_family(name)


@cache
def _own_family(spec: str) -> Family:
    target = load_plugin(spec, "task family")
    if isinstance(target, type):
        try:
            target = target()
        except Exception as error:
            raise _not_a_family(spec, f"it cannot be built ({type(error).__name__}: {error})") from error
    splits = getattr(target, "splits", None)
    if not isinstance(splits, list | tuple) or not splits or not set(splits) <= set(get_args(TaskSplit)):
        raise _not_a_family(spec, f"`splits` must list some of {', '.join(get_args(TaskSplit))}")
    if not callable(getattr(target, "load", None)):
        raise _not_a_family(spec, "it has no method `load(selection)`")
    return _OwnFamily(spec, target)


def _not_a_family(name: str, reason: str) -> ConfigError:
    return ConfigError(
        f"{name} is not a task family: {reason}.",
        next_step="A family has `splits` and `load(selection)`, which returns tasks; docs/extending.md has "
        "an example.",
    )


def _known_family(name: str) -> str:
    family_of(name)
    return name


if TYPE_CHECKING:
    FamilyName = str
else:
    # The Literal is for --help, which lists its choices.
    FamilyName = Annotated[Literal[tuple(FAMILIES)] | str, AfterValidator(_known_family)]
