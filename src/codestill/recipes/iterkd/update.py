"""New tasks by difficulty: what a student attempts next, from how hard it found what it attempted.

Ratios and levels are ours: IterKD's (arXiv:2408.03680) are not published.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import NonNegativeFloat, PositiveInt

from codestill.files.serialize import seed_for
from codestill.prompts import Level
from codestill.recipes.iterkd.bins import BINS, Bin
from codestill.synthesis import Admission, SynthesisConfig, synthesise
from codestill.tasks import TaskSet
from codestill.teaching import Teaching
from codestill.types import Settings, Task


class Ratio(Settings):
    """Shares, of whatever sum."""

    easy: NonNegativeFloat = 0.2
    medium: NonNegativeFloat = 0.4
    hard: NonNegativeFloat = 0.4


class Levels(Settings):
    """Difficulty of a new task relative to its seed."""

    easy: Level = "harder"
    medium: Level = "same"
    hard: Level = "easier"


class UpdateConfig(Settings):
    """Which tasks the next round has."""

    questions: Literal["updated", "unguided", "static"] = "updated"
    """updated: new ones, made from those of all rounds by their bins. unguided: as many, made from them in
    turn, whatever the feedback. static: the same ones again."""
    ratio: Ratio = Ratio()
    """Share of new tasks made from each bin's tasks; an empty bin's share goes to the others."""
    per_seed: PositiveInt = 2
    """Most new tasks made from one task in a round: more mostly repeat each other. What a small bin cannot
    take goes to the others."""
    levels: Levels = Levels()
    """Difficulty of a new task relative to its seed, by the seed's bin."""
    synthesis: SynthesisConfig = SynthesisConfig(proposals=200, seeds_per_proposal=1)
    """How many tasks are requested, and which are kept; its `levels` serve unguided questions."""


def shares(ratio: Ratio, room: Mapping[Bin, int], total: int) -> dict[Bin, int]:
    """``total`` split by the ratio over the bins, none beyond its ``room``; less where there is no more room.

    What a full bin cannot take goes to the others; what does not divide, to the largest remainders, the
    harder bin first among equal ones. Bins of no weight take what is left when all others are full.
    """
    split: dict[Bin, int] = dict.fromkeys(BINS, 0)
    while (left := total - sum(split.values())) > 0:
        wanting: list[Bin] = [name for name in BINS if split[name] < room.get(name, 0)]
        if not wanting:
            break
        weights: dict[Bin, float] = {name: float(getattr(ratio, name)) for name in wanting}
        weights = weights if sum(weights.values()) else dict.fromkeys(wanting, 1.0)
        exact: dict[Bin, float] = {
            name: left * weight / sum(weights.values()) for name, weight in weights.items()
        }
        gains: dict[Bin, int] = {
            name: min(int(exact[name] + 1e-9), room[name] - split[name]) for name in wanting
        }
        if not any(gains.values()):
            largest = sorted(wanting, key=lambda name: (-exact[name], -BINS.index(name)))
            gains = dict.fromkeys(largest[:left], 1)
        for name, count in gains.items():
            split[name] += count
    return split


def next_tasks(
    config: UpdateConfig,
    task_set: TaskSet,
    bins: Mapping[str, Bin],
    teaching: Teaching,
    allowed: Callable[[str], bool] = lambda prompt: True,
) -> TaskSet:
    """The next round's tasks; an empty set where the teacher made none.

    ``task_set`` holds the tasks of all rounds, each in the bin that it was in last; what repeats one is
    dropped. ``allowed`` says whether a proposal's prompt may be trained on. Stages: those of ``synthesise``,
    below each bin's name.
    """
    if config.questions == "static":
        return task_set
    run, seen, made = teaching.run, [task.prompt for task in task_set.tasks], list[Task]()
    for group in _groups(config, task_set, bins):
        # In an order of the round's own: several bins, or rounds, do not begin with the same seeds.
        ordered = sorted(group.tasks, key=lambda task: seed_for(run.seed, run.named(task.task_id)))
        new = synthesise(
            task_set.with_tasks(ordered),
            teaching.within(run.part(group.name)),
            config.synthesis.model_copy(update={"proposals": group.proposals, "levels": group.levels}),
            Admission(seen, allowed),
            allow_empty=True,
            seed=seed_for(run.seed, run.named("")),  # a seed task that was used before is sampled differently
        )
        made += [
            task.model_copy(update={"task_id": run.named(f"{group.name}/{task.task_id}")})
            for task in new.tasks
        ]
        seen += [task.prompt for task in new.tasks]
    return task_set.with_tasks(made, name=f"{task_set.name.removesuffix('/made')}/made")


@dataclass(frozen=True)
class _Group:
    """Seed tasks of which new ones are made together."""

    name: str
    tasks: list[Task]
    proposals: int
    levels: tuple[Level, ...]


def _groups(config: UpdateConfig, task_set: TaskSet, bins: Mapping[str, Bin]) -> list[_Group]:
    """The bins with their shares of the proposals; with unguided questions, all tasks at once."""
    proposals = config.synthesis.proposals
    if config.questions == "unguided":
        return [_Group("all", list(task_set.tasks), proposals, config.synthesis.levels)]
    known = task_set.by_id
    of_bin: dict[Bin, list[Task]] = {
        name: [known[task_id] for task_id, bin in bins.items() if bin == name] for name in BINS
    }
    room: dict[Bin, int] = {name: len(of_bin[name]) * config.per_seed for name in BINS}
    counts = shares(config.ratio, room, proposals)
    return [
        _Group(name, of_bin[name], counts[name], (getattr(config.levels, name),))
        for name in BINS
        if counts[name]
    ]
