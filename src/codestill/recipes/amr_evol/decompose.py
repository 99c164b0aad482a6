"""Modular decomposition (arXiv:2410.00558, section 2.2): a task is taken apart into functions without
bodies."""

from collections.abc import Mapping, Sequence

from codestill.models import SamplingConfig
from codestill.prompts.modular import fenced_code
from codestill.recipes.amr_evol.library import Function
from codestill.recipes.amr_evol.library.functions import read_headers
from codestill.recipes.amr_evol.responses import Response
from codestill.teaching import Teaching
from codestill.types import Request, Task


def decompose(
    teaching: Teaching,
    tasks: Sequence[Task],
    given: Mapping[str, Response],
    sampling: SamplingConfig,
    again: SamplingConfig,
    retries: int,
) -> tuple[dict[str, list[Function]], dict[str, str]]:
    """Modules by task id, two or more; and why there are none, for the rest.

    A malformed answer is asked for anew at most ``retries`` times, sampled as ``again``. Stages: ``modules``,
    ``modules-again-1``, ...
    """
    modules: dict[str, list[Function]] = {}
    wrong: dict[str, str] = {}
    waiting = list(tasks)
    for number in range(retries + 1):
        asked = [
            Request(
                task_id=task.task_id,
                sample=number,
                prompt=teaching.modular.to_decompose(
                    task.prompt, task.prompt + given[task.task_id].completion
                ),
            )
            for task in waiting
        ]
        stage = f"modules-again-{number}" if number else "modules"
        answers = teaching.ask(stage, asked, again if number else sampling) if asked else []
        for task, answer in zip(waiting, answers, strict=True):
            try:
                modules[task.task_id] = read_modules(answer.text, task, teaching.prompts.answers == "fenced")
                wrong.pop(task.task_id, None)
            except ValueError as error:
                wrong[task.task_id] = str(error)
        waiting = [task for task in waiting if task.task_id in wrong]
    return modules, wrong


def read_modules(answer: str, task: Task, fenced: bool) -> list[Function]:
    """The modules in an answer. Raises ValueError, saying why, where it is malformed."""
    found = read_headers(fenced_code(answer) if fenced else answer)
    if len(found) < 2:
        raise ValueError(f"{len(found)} functions, and two are the least")
    if any(one.name == task.entry_point for one in found):
        raise ValueError(f"{task.entry_point} is the task itself")
    return found
