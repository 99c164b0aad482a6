"""New questions by difficulty: what a student is asked next, from how hard it found what it was asked.

Ratios, levels and the rule to stop are ours: IterKD's (arXiv:2408.03680) are not published.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

from pydantic import NonNegativeFloat, PositiveInt

from codestill.attempt import Completer
from codestill.prompts import Level, Prompts
from codestill.run import Run
from codestill.sandbox import Sandbox
from codestill.serialize import seed_for
from codestill.synthesis import SynthesisConfig, synthesise
from codestill.tasks import TaskSet
from codestill.types import BINS, Bin, Settings


class Ratio(Settings):
    """Shares, of whatever sum."""

    easy: NonNegativeFloat = 0.2
    medium: NonNegativeFloat = 0.4
    hard: NonNegativeFloat = 0.4


class Levels(Settings):
    """How hard a new question shall be beside its seed."""

    easy: Level = "harder"
    medium: Level = "same"
    hard: Level = "easier"


class UpdateConfig(Settings):
    """Which questions the next round has."""

    questions: Literal["updated", "unguided", "static"] = "updated"
    """updated: new ones, made from those of all rounds by their bins. unguided: as many, made from them in
    turn, whatever the feedback says. static: the same ones again."""
    ratio: Ratio = Ratio()
    """Share of new questions that each bin's tasks are the seeds of; an empty bin's goes to the others."""
    per_seed: PositiveInt = 2
    """At most so many questions are made from one task in a round: more mostly repeat each other. What a
    small bin cannot take goes to the others."""
    levels: Levels = Levels()
    """How hard a new question shall be beside its seed, by the seed's bin."""
    synthesis: SynthesisConfig = SynthesisConfig(proposals=200, seeds_per_proposal=1)
    """How many questions are asked for, and which are kept; its `levels` serve unguided questions."""


def shares(ratio: Ratio, room: Mapping[Bin, int], total: int) -> dict[Bin, int]:
    """``total`` split by the ratio over the bins, none beyond its ``room``; less where there is no more room.

    What a full bin cannot take goes to the others; what does not divide, to the largest remainders, the
    harder bin first among equal ones. Bins of no weight take what is left when all others are full.
    """
    found: dict[Bin, int] = dict.fromkeys(BINS, 0)
    while (left := total - sum(found.values())) > 0:
        wanting: list[Bin] = [name for name in BINS if found[name] < room.get(name, 0)]
        if not wanting:
            break
        weights: dict[Bin, float] = {name: float(getattr(ratio, name)) for name in wanting}
        weights = weights if sum(weights.values()) else dict.fromkeys(wanting, 1.0)
        exact: dict[Bin, float] = {
            name: left * weight / sum(weights.values()) for name, weight in weights.items()
        }
        given: dict[Bin, int] = {
            name: min(int(exact[name] + 1e-9), room[name] - found[name]) for name in wanting
        }
        if not any(given.values()):
            largest = sorted(wanting, key=lambda name: (-exact[name], -BINS.index(name)))
            given = dict.fromkeys(largest[:left], 1)
        for name, count in given.items():
            found[name] += count
    return found


def ask(
    config: UpdateConfig,
    task_set: TaskSet,
    bins: Mapping[str, Bin],
    teacher: Completer,
    prompts: Prompts,
    sandbox: Sandbox,
    part: Run,
    allowed: Callable[[str], bool] = lambda prompt: True,
) -> TaskSet:
    """The next round's tasks; an empty set where the teacher made none.

    ``task_set`` holds the questions of all rounds, each in the bin that it was in last; what repeats one is
    dropped. ``allowed`` says of a proposal's prompt whether it may be asked at all. Stages: those
    of ``synthesise``, below each bin's name.
    """
    if config.questions == "static":
        return task_set
    everything = [task.task_id for task in task_set.tasks]
    plan = [("all", everything, config.synthesis.proposals, config.synthesis.levels)]
    if config.questions == "updated":
        groups: dict[Bin, list[str]] = {
            name: [task_id for task_id, bin in bins.items() if bin == name] for name in BINS
        }
        room: dict[Bin, int] = {name: len(groups[name]) * config.per_seed for name in BINS}
        counts = shares(config.ratio, room, config.synthesis.proposals)
        plan = [
            (name, groups[name], counts[name], (getattr(config.levels, name),))
            for name in BINS
            if counts[name]
        ]
    tasks = {task.task_id: task for task in task_set.tasks}
    seen = [task.prompt for task in task_set.tasks]
    made = []
    for name, group, count, levels in plan:
        # Drawn by the round's own seed: several bins, or rounds, do not begin with the same seeds.
        drawn = sorted(group, key=lambda task_id: seed_for(part.seed, f"{part.prefix}{task_id}"))
        seeds = replace(task_set, tasks=tuple(tasks[task_id] for task_id in drawn))
        how = config.synthesis.model_copy(update={"proposals": count, "levels": levels})
        found = synthesise(
            seeds,
            teacher,
            prompts,
            how,
            sandbox,
            part.part(name),
            known=seen,
            allowed=allowed,
            some=False,
            seed=seed_for(part.seed, part.prefix),  # a task that was asked about before is asked differently
        )
        for task in found.tasks:
            made.append(task.model_copy(update={"task_id": f"{part.prefix}{name}/{task.task_id}"}))
        seen += [task.prompt for task in found.tasks]
    return replace(task_set, name=f"{task_set.name.removesuffix('/made')}/made", tasks=tuple(made))
