"""``codestill tasks``: list, show and check task sets."""

import os
from collections import Counter
from contextlib import closing

from rich.syntax import Syntax
from rich.table import Table

from codestill.cli.console import console
from codestill.errors import ConfigError, GateError
from codestill.tasks import TasksConfig, TaskSet, TasksReport
from codestill.tasks.families import FAMILIES
from codestill.types import Task


def ls() -> None:
    """List the task families, their splits, and the local files that were found."""
    _print_families()


def show(tasks: str, task_id: str | None = None) -> None:
    """Show a task set, or one of its tasks: ``codestill tasks show mbpp:train 601``."""
    task_set = _whole_tasks(tasks)
    if task_id is None:
        return _print_task_set(task_set)
    shown = next(
        (task for task in task_set if task_id in (task.task_id, task.task_id.rsplit("/", 1)[-1])), None
    )
    if shown is None:
        raise ConfigError(
            f"{task_set.name} has no task {task_id!r}.", next_step="List them without a task id."
        )
    _print_task(shown)
    return None


def _whole_tasks(tasks: str) -> TaskSet:
    """The tasks, in any language: nothing is generated, so no stop rule has to suit them."""
    return TasksConfig.model_validate(tasks).model_copy(update={"stop": "none"}).load()


def check(tasks: str) -> None:
    """Check a task set: references must pass, an empty completion and a bare ``pass`` must not."""
    from codestill.evaluation import known_answers
    from codestill.progress import ProgressBars
    from codestill.sandbox import Sandbox, SandboxConfig
    from codestill.types import Event

    task_set = _whole_tasks(tasks)
    with Sandbox(SandboxConfig()) as sandbox, closing(ProgressBars()) as bars:

        def progress(done: int, total: int) -> None:
            bars(Event(stage="gates", kind="progress", done=done, total=total))

        report = known_answers(task_set, sandbox, progress)
    _print_report(report)
    if not report.holds:
        raise GateError(
            f"{len(report.findings)} known answer(s) got the wrong verdict: a score here would be a lie.",
            next_step="Correct these tasks' tests or references, or name them in evaluate.known_broken.",
        )


def _print_families() -> None:
    """The task families, the local files that were found, and where they are looked for."""
    table = Table(box=None, pad_edge=False)
    for name in ("name", "splits", "about", "file"):
        table.add_column(name)
    place = os.environ.get("CODESTILL_DATA")
    for family in FAMILIES.values():
        file = family.found()
        found = "" if file is None else str(file.relative_to(place) if place else file)
        table.add_row(family.name, " ".join(family.splits), family.about, found)
    console.print(table)
    where = f"CODESTILL_DATA={place}" if place else "CODESTILL_DATA (not set), then the hub"
    console.print(
        f"Benchmark files are read from {where}; or give a file: path/to/tasks.jsonl", soft_wrap=True
    )


def _print_task_set(task_set: TaskSet) -> None:
    """A task set's identity and its tasks, a line each."""
    console.print(f"{task_set.name}: {len(task_set)} tasks, data hash {task_set.data_hash}", highlight=False)
    console.print(f"prompt mode {task_set.prompt_mode}", highlight=False)
    splits = Counter(task.split for task in task_set.tasks)
    console.print(
        "splits: " + ", ".join(f"{name} {count}" for name, count in splits.items()), highlight=False
    )
    for task in task_set.tasks:
        console.print(f"  {task.task_id}  {task.entry_point}  {len(task.tests)} tests", highlight=False)


def _print_task(task: Task) -> None:
    """One task: prompt, reference, tests."""
    console.print(f"{task.task_id} ({task.split}), entry point {task.entry_point}", highlight=False)
    tests = "\n".join(test.code for test in task.tests)
    setup = task.test_setup if len(task.test_setup) < 4000 else f"{task.test_setup[:4000]}\n# ... cut"
    program = f"{task.prompt}{task.reference.rstrip()}\n\n# tests\n{setup}\n{tests}"
    console.print(Syntax(program, "python", background_color="default"))


def _print_report(report: TasksReport) -> None:
    """How the known answers fared, and each that got the wrong verdict."""
    count = report.task_count
    console.print(
        f"{report.tasks}: {'holds' if report.holds else 'DOES NOT HOLD'}. References pass "
        f"{report.reference_passes}/{count}, an empty completion {len(report.wrong('empty'))}/{count}, "
        + (
            f"of the gaps {len(report.closed)} need no filling."
            if report.closed
            else f"a bare pass body {len(report.wrong('pass-body'))}/{count}."
        ),
        highlight=False,
        soft_wrap=True,
    )
    for finding in report.findings:
        console.print(f"  {finding}", highlight=False, soft_wrap=True, markup=False)
