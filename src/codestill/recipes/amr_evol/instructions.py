"""Instructions from seed tasks: Self-Instruct (arXiv:2212.10560), then Code-Evol level by level
(arXiv:2306.08568), as in AMR-Evol (arXiv:2410.00558, appendix); decontaminated against the evaluation."""

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
    """How instructions are generated from seed tasks."""

    proposals: SynthesisConfig = SynthesisConfig()
    """Self-Instruct: number of proposals, their sampling, and how novel they must be."""
    levels: NonNegativeInt = 3
    """Code-Evol: number of levels, each evolved from the previous one."""
    keep: tuple[NonNegativeInt, ...] = (1, 2, 3)
    """Levels that become instructions; 0 is Self-Instruct's. The paper trains one student per level."""
    sampling: SamplingConfig = SamplingConfig(temperature=0.7)
    """How evolved instructions are sampled."""
    decontaminate: DecontaminateConfig | None = DecontaminateConfig()
    """How similar seeds and instructions may be to evaluation tasks; none for task families whose splits are
    already disjoint."""
    judge: Literal["rule", "teacher"] = "rule"
    """What decides about a neighbour above the threshold (`decontaminate.cosine`): the threshold alone, or
    the teacher."""


def instruct(
    seeds: TaskSet, teaching: Teaching, config: InstructionsConfig, against: Sequence[TaskSet]
) -> TaskSet:
    """New instructions, level by level, without tests. Raises TaskError if none is left.

    Stages: proposals, code-evol-1, ...; removed tasks are listed in ``decontamination-seeds.txt`` and
    ``decontamination.txt``.
    """
    run = teaching.run
    if config.decontaminate is not None:
        kept = _clean(seeds.tasks, teaching, config, config.decontaminate, against, "-seeds")
        seeds = seeds.with_tasks(kept)
    if not len(seeds):
        raise TaskError(
            "no seed task is left: each is a near-duplicate of an evaluation task.",
            next_step="Choose other seeds; decontamination-seeds.txt lists the duplicates.",
        )
    proposals = propose(seeds, teaching, config.proposals)
    level = proposals.tasks
    instructions = list(level) if 0 in config.keep else []
    run.account(
        seeds=len(seeds),
        level_0=len(level),
        **{f"proposals_{reason}": count for reason, count in proposals.dropped.items()},
    )
    for number in range(1, config.levels + 1):
        level = _evolve(level, number, teaching, config)
        run.account(**{f"level_{number}": len(level)})
        instructions += level if number in config.keep else []
    if config.decontaminate is not None and instructions:
        instructions = _clean(instructions, teaching, config, config.decontaminate, against, "")
    run.account(instructions=len(instructions))
    run.funnel(
        {
            "seed tasks": len(seeds),
            "instructions proposed": len(proposals.tasks),
            "instructions kept": len(instructions),
        }
    )
    if not instructions:
        raise TaskError(
            f"none of {config.proposals.proposals} proposals became an instruction.",
            next_step="See the run's stages proposals and code-evol, and decontamination.txt.",
        )
    return TaskSet(f"{seeds.name}/instructions", tuple(instructions), "train", "zero-shot", seeds.stop)


def _evolve(level: Sequence[Task], number: int, teaching: Teaching, config: InstructionsConfig) -> list[Task]:
    """The next level; an answer that cannot be parsed, or repeats its parent, is dropped."""
    requests = [
        Request(
            task_id=f"level-{number}/{place}",
            prompt=teaching.modular.to_evolve_task(task.prompt, place + number)
            or teaching.prompts.to_propose([task], "harder"),
        )
        for place, task in enumerate(level)
    ]
    evolved = []
    answers = teaching.ask(f"code-evol-{number}", requests, config.sampling)
    for task, answer in zip(level, answers, strict=True):
        prompt = teaching.prompts.read_proposal(answer.text)
        name = function_name(prompt) if prompt else None
        if prompt is not None and name is not None and prompt != task.prompt:
            evolved.append(untested(answer.task_id, prompt, name))
    return evolved


def _clean(
    tasks: Sequence[Task],
    teaching: Teaching,
    config: InstructionsConfig,
    settings: DecontaminateConfig,
    against: Sequence[TaskSet],
    suffix: str,
) -> list[Task]:
    """The tasks that repeat no evaluation task. A judging teacher gets all near pairs in one stage."""
    if config.judge == "rule":
        outcome = decontaminate(tasks, against, settings)
    else:
        pairs: dict[str, tuple[Task, Task]] = {}

        def gather(task: Task, other: Task) -> bool:
            pairs[f"{task.task_id} {other.task_id}"] = task, other
            return False

        decontaminate(tasks, against, settings, gather)
        requests = [
            Request(task_id=key, prompt=teaching.modular.to_compare(task.prompt, other.prompt))
            for key, (task, other) in pairs.items()
        ]
        answers = teaching.ask(f"same{suffix}", requests, SamplingConfig()) if requests else []
        same = {answer.task_id for answer in answers if says_yes(answer.text)}
        outcome = decontaminate(
            tasks, against, settings, lambda task, other: f"{task.task_id} {other.task_id}" in same
        )
    teaching.run.write(f"decontamination{suffix}.txt", outcome.report(limit=len(tasks)))
    kept = set(outcome.kept)
    return [task for task in tasks if task.task_id in kept]
