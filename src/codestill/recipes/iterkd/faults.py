"""Faulty programs to stand beside right ones: whose they are, which are taken, and how long they are.

A fault is a completion that was executed and failed. By default it is the student's own: what it writes is
what it has to unlearn. The teacher's failures and mutations of right programs are other sources, to compare.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import NonNegativeInt, PositiveInt

from codestill.attempt import Completer, attempt, execute
from codestill.evaluation.metrics import auroc
from codestill.models import SamplingConfig
from codestill.prompts import Prompts
from codestill.recipes.iterkd.mutate import mutants
from codestill.run import Run
from codestill.sandbox import Sandbox, error_class
from codestill.serialize import seed_for, to_json, write_atomic
from codestill.tasks import TaskSet
from codestill.tasks.stops import parses
from codestill.types import Attempt, Completion, Example, Fault, FaultSource, Request, Settings


class FaultsConfig(Settings):
    """Which faulty programs stand beside a right one."""

    sources: tuple[FaultSource, ...] = ("student",)
    """Who writes them, in order of preference: a later source fills up what an earlier one leaves."""
    per_program: NonNegativeInt = 1
    """K, the most beside each right program."""
    broken: bool = False
    """Also take programs that do not parse. In the released pairs both sides parse."""
    teacher_samples: PositiveInt = 2
    """Faulty programs that the teacher is asked for, for each task."""
    teacher: SamplingConfig = SamplingConfig(temperature=1.0)
    """How they are drawn. Prompts that cannot ask for faults ask for solutions: those that fail count."""
    mutants: PositiveInt = 4
    """Mutations tried, for each right program."""


def written_by_teacher(
    config: FaultsConfig,
    task_set: TaskSet,
    right: Mapping[str, str],
    teacher: Completer,
    prompts: Prompts,
    sandbox: Sandbox,
    part: Run,
) -> list[Attempt]:
    """Programs that the teacher was to get wrong, executed."""
    asked = [
        Request(task_id=task.task_id, prompt=prompts.to_fault(task, right[task.task_id]), sample=sample)
        for task in task_set.tasks
        if task.task_id in right
        for sample in range(config.teacher_samples)
    ]
    make = partial(attempt, teacher, task_set, sandbox, config.teacher, part.seed, prompts=prompts)
    return part.stage("teacher-faults", Attempt, asked, make)


def mutated(
    config: FaultsConfig, task_set: TaskSet, right: Mapping[str, str], sandbox: Sandbox, part: Run
) -> list[Attempt]:
    """Mutations of the right programs, executed."""
    made = [
        Completion(task_id=task.task_id, sample=number, text=text)
        for task in task_set.tasks
        if task.task_id in right
        for number, text in enumerate(mutants(task.prompt, right[task.task_id], part.seed, config.mutants))
    ]
    return part.stage("mutants", Attempt, made, partial(execute, sandbox, task_set))


def choose(
    config: FaultsConfig,
    task_set: TaskSet,
    right: Mapping[str, str],
    candidates: Mapping[FaultSource, Sequence[Attempt]],
    seed: int,
) -> dict[str, tuple[Fault, ...]]:
    """For each task with a right program, at most ``per_program`` different ones that failed.

    Stratified: of one source's candidates that is taken whose class of error has been taken least so far, so
    that the commonest failure does not crowd out the rest.
    """
    python = all(task.language == "python" for task in task_set.tasks)
    prompts = {task.task_id: task.prompt for task in task_set.tasks}
    of_task: dict[str, dict[str, Fault]] = {task_id: {} for task_id in right}
    for source in config.sources:
        for one in candidates.get(source, ()):
            text = one.completion.text
            if one.result.passed or one.task_id not in right:
                continue
            # Of a program in another language the tools say whether it parses; a syntax error is its verdict.
            error = error_class(one.result)
            parsed = parses(prompts[one.task_id] + text) if python else error != "SyntaxError"
            if config.broken or parsed:
                fault = Fault(completion=text, source=source, error=error)
                of_task[one.task_id].setdefault(text, fault)
    taken: Counter[str] = Counter()
    chosen: dict[str, tuple[Fault, ...]] = {}
    for task_id in sorted(of_task, key=lambda name: seed_for(seed, name)):
        left, kept = list(of_task[task_id].values()), list[Fault]()
        while left and len(kept) < config.per_program:
            best = min(left, key=lambda one: (config.sources.index(one.source), taken[one.error]))
            left.remove(best)
            kept.append(best)
            taken[best.error] += 1
        chosen[task_id] = tuple(kept)
    return chosen


def length_confound(examples: Sequence[Example]) -> float | None:
    """Probability that a right program is longer than a faulty one of the same rows; None without any."""
    pairs = [(one.completion, fault.completion) for one in examples for fault in one.faults]
    if not pairs:
        return None
    sizes = [len(right) for right, _ in pairs] + [len(faulty) for _, faulty in pairs]
    return auroc(sizes, [True] * len(pairs) + [False] * len(pairs)).mean


def rows(
    config: FaultsConfig,
    task_set: TaskSet,
    right: Mapping[str, str],
    candidates: Mapping[FaultSource, Sequence[Attempt]],
    part: Run,
) -> list[Example]:
    """A right program of each task with its faulty ones, in the tasks' order; kept in ``rows.jsonl``, so that
    each can be followed to where it came from."""
    faults = choose(config, task_set, right, candidates, part.seed)
    made = [
        Example(
            example_id=f"{part.prefix}{task.task_id}",
            prompt=task.prompt,
            completion=right[task.task_id],
            source="made" if task.source == "made" else "teacher",
            faults=faults[task.task_id],
        )
        for task in task_set.tasks
        if task.task_id in right
    ]
    lines = "".join(to_json(one) + "\n" for one in made)
    write_atomic(part.directory / part.prefix / "rows.jsonl", lines)
    return made


def described(examples: Sequence[Example]) -> dict[str, Any]:
    """Of the rows' faults: by who wrote them, by class of error, and how far length tells them from right."""
    faults = [fault for one in examples for fault in one.faults]
    return {
        "faults": dict(Counter(one.source for one in faults)),
        "fault_errors": dict(Counter(one.error for one in faults).most_common()),
        "length_auroc": length_confound(examples),
    }
