"""Modular decomposition (arXiv:2410.00558, section 2.2): a task is split into function headers without
bodies."""

from collections.abc import Mapping, Sequence

from codestill.models import SamplingConfig
from codestill.prompts import Prompts
from codestill.recipes.amr_evol.headers import headers_in
from codestill.recipes.amr_evol.library import Function
from codestill.recipes.amr_evol.library.functions import read_headers
from codestill.recipes.amr_evol.responses import Response
from codestill.teaching import Teaching
from codestill.types import Request, Task


def decompose(
    teaching: Teaching,
    tasks: Sequence[Task],
    direct_answers: Mapping[str, Response],
    sampling: SamplingConfig,
    retry: SamplingConfig,
    retries: int,
) -> tuple[dict[str, list[Function]], dict[str, str]]:
    """Modules by task id, two or more per task; and by task id, why the other tasks have none.

    A malformed answer is retried at most ``retries`` times, sampled as ``retry`` says. Stages: ``modules``,
    ``modules-again-1``, ...
    """
    modules: dict[str, list[Function]] = {}
    failures: dict[str, str] = {}
    waiting = list(tasks)
    for number in range(retries + 1):
        requests = [
            Request(
                task_id=task.task_id,
                sample=number,
                prompt=teaching.modular.to_decompose(
                    task.prompt, task.program(direct_answers[task.task_id].completion)
                ),
            )
            for task in waiting
        ]
        stage = f"modules-again-{number}" if number else "modules"
        answers = teaching.ask(stage, requests, retry if number else sampling) if requests else []
        for task, answer in zip(waiting, answers, strict=True):
            try:
                modules[task.task_id] = read_modules(answer.text, task, teaching.prompts)
                failures.pop(task.task_id, None)
            except ValueError as error:
                failures[task.task_id] = str(error)
        waiting = [task for task in waiting if task.task_id in failures]
    return modules, failures


def read_modules(answer: str, task: Task, prompts: Prompts) -> list[Function]:
    """The modules in an answer, two or more. Raises ValueError with the reason if it has none.

    In an answer that follows instructions, the task's own function is left out, and so are functions of the
    example that the prompt gives: small models repeat both. A continuation must hold headers and nothing
    else.
    """
    if prompts.answers == "continuation":
        modules = read_headers(answer)
        reasons: list[str] = []
        if any(module.name == task.entry_point for module in modules):
            raise ValueError(f"{task.entry_point} is the task's own function")
    else:
        found, reasons = headers_in(answer)
        example = prompts.modular.exemplary if prompts.modular is not None else frozenset()
        modules = []
        for function in found:
            if function.name == task.entry_point:
                reasons.append(f"{function.name} is the task's own function")
            elif example & {function.name, function.description.lower()}:
                reasons.append(f"{function.name} is the prompt's example")
            else:
                modules.append(function)
    if len(modules) < 2:
        said = f" ({'; '.join(reasons)})" if reasons else ""
        raise ValueError(f"fewer than two functions: {len(modules)}{said}")
    return modules
