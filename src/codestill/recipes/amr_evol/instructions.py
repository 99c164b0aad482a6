"""Instructions from seed tasks: Self-Instruct (arXiv:2212.10560), then Code-Evol level by level
(arXiv:2306.08568), as in AMR-Evol (arXiv:2410.00558, appendix); what evaluation repeats is left out."""

from collections.abc import Sequence
from typing import Literal

from pydantic import NonNegativeInt

from codestill.errors import TaskError
from codestill.models import SamplingConfig
from codestill.prompts.modular import says_yes
from codestill.synthesis import SynthesisConfig, function_name, propose, untested
from codestill.tasks import TaskSet
from codestill.tasks.decontaminate import DecontaminateConfig, decontaminate
from codestill.teaching import Teaching
from codestill.types import Request, Settings, Task


class InstructionsConfig(Settings):
    """How instructions are made from seed tasks."""

    proposals: SynthesisConfig = SynthesisConfig()
    """Self-Instruct: how many, how they are drawn, and how new they must be."""
    levels: NonNegativeInt = 3
    """Code-Evol: levels, each made of the one before it."""
    keep: tuple[NonNegativeInt, ...] = (1, 2, 3)
    """Levels that become instructions; 0 is Self-Instruct itself. The paper trains a student on each."""
    sampling: SamplingConfig = SamplingConfig(temperature=0.7)
    """How evolved instructions are drawn."""
    decontaminate: DecontaminateConfig | None = DecontaminateConfig()
    """How alike seeds, instructions and evaluation tasks may be; none for worlds that are split otherwise."""
    judge: Literal["rule", "teacher"] = "rule"
    """Who judges a neighbour that is near enough (`decontaminate.cosine`): the threshold alone, or the
    teacher."""


def instruct(
    seeds: TaskSet, teaching: Teaching, config: InstructionsConfig, against: Sequence[TaskSet]
) -> TaskSet:
    """New instructions, level by level, without tests. Raises TaskError where none is left.

    Stages: proposals, code-evol-1, ...; lists of what went: ``decontamination-seeds.txt`` and
    ``decontamination.txt``.
    """
    run = teaching.run
    if config.decontaminate is not None:
        kept = _clean(seeds.tasks, teaching, config, config.decontaminate, against, "-seeds")
        seeds = seeds.with_tasks(kept)
    if not len(seeds):
        raise TaskError(
            "no seed task is left: the evaluation repeats them all.",
            next_step="Take other seeds; decontamination-seeds.txt says what each repeats.",
        )
    proposals = propose(seeds, teaching, config.proposals)
    level = proposals.tasks
    made = list(level) if 0 in config.keep else []
    run.account(
        seeds=len(seeds),
        level_0=len(level),
        **{f"proposals_{why}": n for why, n in proposals.dropped.items()},
    )
    for number in range(1, config.levels + 1):
        level = _evolve(level, number, teaching, config)
        run.account(**{f"level_{number}": len(level)})
        made += level if number in config.keep else []
    if config.decontaminate is not None and made:
        made = _clean(made, teaching, config, config.decontaminate, against, "")
    run.account(instructions=len(made))
    if not made:
        raise TaskError(
            f"none of {config.proposals.proposals} proposals became an instruction.",
            next_step="Look at the stages proposals and code-evol of the run, and at decontamination.txt.",
        )
    return TaskSet(f"{seeds.name}/instructions", tuple(made), "train", "zero-shot", seeds.stop)


def _evolve(level: Sequence[Task], number: int, teaching: Teaching, config: InstructionsConfig) -> list[Task]:
    """The next level; what cannot be read, or repeats what it was made of, ends there."""
    asked = [
        Request(
            task_id=f"level-{number}/{place}",
            prompt=teaching.modular.to_evolve_task(task.prompt, place + number)
            or teaching.prompts.to_propose([task], "harder"),
        )
        for place, task in enumerate(level)
    ]
    made = []
    for task, answer in zip(level, teaching.ask(f"code-evol-{number}", asked, config.sampling), strict=True):
        prompt = teaching.prompts.read_proposal(answer.text)
        name = function_name(prompt) if prompt else None
        if prompt is not None and name is not None and prompt != task.prompt:
            made.append(untested(answer.task_id, prompt, name))
    return made


def _clean(
    tasks: Sequence[Task],
    teaching: Teaching,
    config: InstructionsConfig,
    how: DecontaminateConfig,
    against: Sequence[TaskSet],
    suffix: str,
) -> list[Task]:
    """The tasks that no evaluation task repeats. The teacher is asked about all near pairs at once."""
    if config.judge == "rule":
        found = decontaminate(tasks, against, how)
    else:
        pairs: dict[str, tuple[Task, Task]] = {}

        def gather(task: Task, other: Task) -> bool:
            pairs[f"{task.task_id} {other.task_id}"] = task, other
            return False

        decontaminate(tasks, against, how, gather)
        asked = [
            Request(task_id=key, prompt=teaching.modular.to_compare(task.prompt, other.prompt))
            for key, (task, other) in pairs.items()
        ]
        answers = teaching.ask(f"same{suffix}", asked, SamplingConfig()) if asked else []
        same = {one.task_id for one in answers if says_yes(one.text)}
        found = decontaminate(
            tasks, against, how, lambda task, other: f"{task.task_id} {other.task_id}" in same
        )
    teaching.run.write(f"decontamination{suffix}.txt", found.report(limit=len(tasks)))
    kept = set(found.kept)
    return [task for task in tasks if task.task_id in kept]
