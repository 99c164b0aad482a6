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

    The task's own function is no module, and nor is a function of the example that the prompt gives: models
    that are small repeat both.
    """
    assert prompts.modular is not None, "who asks for modules has a form for them"
    if prompts.answers == "continuation":
        return _two_or_more(read_headers(answer), task, frozenset(), "")
    found, refused = headers_in(answer)
    return _two_or_more(found, task, prompts.modular.exemplary, "; ".join(refused))


def _two_or_more(
    functions: Sequence[Function], task: Task, exemplary: frozenset[str], refused: str
) -> list[Function]:
    own = [function for function in functions if function.name != task.entry_point]
    modules = [one for one in own if not exemplary & {one.name, one.description.lower()}]
    if len(modules) >= 2:
        return modules
    reasons = [
        *(["it repeats the prompt's example"] if len(modules) < len(own) else []),
        *([f"{task.entry_point} is the task's own function"] if len(own) < len(functions) else []),
        *([refused] if refused else []),
    ]
    said = f" ({'; '.join(reasons)})" if reasons else ""
    raise ValueError(f"fewer than two functions: {len(modules)}{said}")
