"""Faulty programs to stand beside correct ones: their sources, which are chosen, and how long they are.

A fault is a completion that was executed and failed. By default it is the student's own: what it generates
is what it has to unlearn. The teacher's failures and mutations of correct programs are other sources, to
compare.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import NonNegativeInt, PositiveInt

from codestill.attempt import Workbench
from codestill.evaluation.metrics import auroc
from codestill.examples import row
from codestill.files.serialize import seed_for
from codestill.languages import parses
from codestill.models import Asked, SamplingConfig
from codestill.prompts import prompts_for
from codestill.recipes.iterkd.mutate import mutants
from codestill.run import Run
from codestill.sandbox import error_class
from codestill.synthesis import MADE
from codestill.tasks import TaskSet
from codestill.teaching import Teaching
from codestill.types import Attempt, Completion, Example, Fault, FaultSource, Request, Settings, Task


class FaultsConfig(Settings):
    """Which faulty programs stand beside a correct one."""

    sources: tuple[FaultSource, ...] = ("student",)
    """Where they come from, in order of preference: a later source fills what an earlier one leaves."""
    per_program: NonNegativeInt = 1
    """K, the most beside each correct program."""
    broken: bool = False
    """Also take programs that do not parse. In the released pairs both sides parse."""
    teacher_samples: PositiveInt = 2
    """Faulty programs requested from the teacher for each task."""
    teacher: SamplingConfig = SamplingConfig(temperature=1.0)
    """How they are sampled. Prompts without a form for faults ask for solutions: those that fail count."""
    mutants: PositiveInt = 4
    """Mutations tried for each correct program."""


def generated_by_teacher(
    config: FaultsConfig, task_set: TaskSet, correct: Mapping[str, str], teaching: Teaching
) -> list[Attempt]:
    """Programs that the teacher was asked to get wrong, executed. Stage: teacher-faults."""
    requests = [
        Request(
            task_id=task.task_id,
            prompt=teaching.prompts.to_fault(task, correct[task.task_id]),
            sample=sample,
        )
        for task in task_set.tasks
        if task.task_id in correct
        for sample in range(config.teacher_samples)
    ]
    produce = partial(teaching.try_out, "teacher-faults", task_set, config.teacher)
    attempts = teaching.run.stage("teacher-faults", Attempt, requests, produce)
    teaching.count("teacher-faults", [attempt.completion for attempt in attempts])
    return attempts


def mutated(
    config: FaultsConfig, task_set: TaskSet, correct: Mapping[str, str], bench: Workbench
) -> list[Attempt]:
    """Mutations of the correct programs, executed. Stage: mutants."""
    seed, count = bench.run.seed, config.mutants
    completions: list[Completion] = []
    for task in task_set.tasks:
        text = correct.get(task.task_id)
        if text is not None:
            before = task.program(text).removesuffix(text)
            completions += [
                Completion(task_id=task.task_id, sample=number, text=mutant)
                for number, mutant in enumerate(mutants(before, text, seed, count))
            ]
    return bench.execute("mutants", task_set, completions)


def choose(
    config: FaultsConfig,
    task_set: TaskSet,
    correct: Mapping[str, str],
    candidates: Mapping[FaultSource, Sequence[Attempt]],
    seed: int,
) -> dict[str, tuple[Fault, ...]]:
    """For each task with a correct program, at most ``per_program`` different ones that failed.

    Stratified: of one source's candidates that is chosen whose class of error has been chosen least so far,
    so that the commonest failure does not crowd out the rest.
    """
    python = all(task.language == "python" for task in task_set.tasks)
    tasks = task_set.by_id
    of_task: dict[str, dict[str, Fault]] = {task_id: {} for task_id in correct}
    for source in config.sources:
        for attempt in candidates.get(source, ()):
            text = attempt.completion.text
            if attempt.result.passed or attempt.task_id not in correct:
                continue
            if not attempt.completion.is_whole:
                continue  # where it ends says nothing of what is wrong with it
            # Whether a program in another language parses is its verdict: a syntax error.
            error = error_class(attempt.result)
            parsed = parses(tasks[attempt.task_id].program(text)) if python else error != "SyntaxError"
            if config.broken or parsed:
                fault = Fault(completion=text, source=source, error=error)
                of_task[attempt.task_id].setdefault(text, fault)
    taken: Counter[str] = Counter()
    chosen: dict[str, tuple[Fault, ...]] = {}
    for task_id in sorted(of_task, key=lambda name: seed_for(seed, name)):
        left, kept = list(of_task[task_id].values()), list[Fault]()
        while left and len(kept) < config.per_program:
            best = min(left, key=lambda fault: (config.sources.index(fault.source), taken[fault.error]))
            left.remove(best)
            kept.append(best)
            taken[best.error] += 1
        chosen[task_id] = tuple(kept)
    return chosen


def length_confound(examples: Sequence[Example]) -> float | None:
    """Probability that a correct program is longer than a faulty one of the same examples; None without
    any."""
    pairs = [(example.completion, fault.completion) for example in examples for fault in example.faults]
    if not pairs:
        return None
    sizes = [len(correct) for correct, _ in pairs] + [len(faulty) for _, faulty in pairs]
    return auroc(sizes, [True] * len(pairs) + [False] * len(pairs)).mean


def contrastive_examples(
    config: FaultsConfig,
    task_set: TaskSet,
    correct: Mapping[str, str],
    candidates: Mapping[FaultSource, Sequence[Attempt]],
    student: Asked,
    run: Run,
) -> list[Example]:
    """A correct program of each task with its faulty ones, in the tasks' order."""
    faults = choose(config, task_set, correct, candidates, run.seed)
    return [
        _contrasted(student, task, correct[task.task_id], faults[task.task_id], run)
        for task in task_set.tasks
        if task.task_id in correct
    ]


def _contrasted(student: Asked, task: Task, correct: str, faults: Sequence[Fault], run: Run) -> Example:
    """An example whose faulty programs stand in the same form as the correct one."""
    source = MADE if task.source == MADE else "teacher"
    example = row(student, task, correct, source, run.named(task.task_id))
    to_train = partial(prompts_for(student).to_train, task)
    written = [fault.model_copy(update={"completion": to_train(fault.completion)}) for fault in faults]
    return example.model_copy(update={"faults": tuple(written)})


def fault_statistics(examples: Sequence[Example]) -> dict[str, Any]:
    """The examples' faults by who wrote them and by class of error, and how well length tells them apart."""
    faults = [fault for example in examples for fault in example.faults]
    return {
        "faults": dict(Counter(fault.source for fault in faults)),
        "fault_errors": dict(Counter(fault.error for fault in faults).most_common()),
        "length_auroc": length_confound(examples),
    }
