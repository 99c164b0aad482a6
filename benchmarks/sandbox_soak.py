"""Many programs in one process, and what they left behind: ``benchmarks/sandbox.py --soak 10000``."""

import gc
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import psutil

from codestill.sandbox import Program, Sandbox, SandboxConfig
from codestill.tasks import TasksConfig
from codestill.types import Task

CALLER_MEGABYTES, HELPERS_MEGABYTES = 5.0, 5.0
"""Growth allowed after the first batch, whatever the number of programs."""

_BATCHES = 10
_SETTLE_SECONDS = 0.5
_WRONG_EVERY, _ENDLESS_EVERY = 10, 1000
_WRONG = [  # bodies of functions, each ending its process or its test in a way of its own
    "pass",
    "raise ValueError",
    "import os; os._exit(0)",
    "raise SystemExit",
    "import ctypes; ctypes.string_at(0)",
    "import os; os.fork()",
    "import os; os.kill(os.getppid(), 9)",
    "import threading; threading.Thread(target=__import__('time').sleep, args=(99,)).start()",
    "return [0] * 10**10",
    "again = lambda: again(); again()",
    "while True: print('x' * 1000)",
    "kept.append([open(f'{i}', 'w') for i in range(1000)])",
]


class Census(NamedTuple):
    """What belongs to this process now."""

    descriptors: int
    children: int
    """Processes below this one, at any depth."""
    threads: int
    scratch: int
    """Entries in the directory of temporary files."""
    caller_megabytes: float
    helpers_megabytes: float
    """Resident in all children together."""

    @classmethod
    def take(cls, scratch: Path) -> "Census":
        time.sleep(_SETTLE_SECONDS)  # for what is just being waited for
        gc.collect()
        this = psutil.Process()
        children = this.children(recursive=True)
        return cls(
            descriptors=len(os.listdir("/proc/self/fd")),  # noqa: PTH208
            children=len(children),
            threads=threading.active_count(),
            scratch=len(list(scratch.iterdir())),
            caller_megabytes=this.memory_info().rss / 1e6,
            helpers_megabytes=sum(_resident_bytes(child) for child in children) / 1e6,
        )


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0


def leaks(before: Census, after: Census) -> list[str]:
    """What ``after`` has more of, in words."""
    allowed = Census(0, 0, 0, 0, CALLER_MEGABYTES, HELPERS_MEGABYTES)
    return [
        f"{name}: {old:g}, then {new:g}"
        for name, old, new, more in zip(Census._fields, before, after, allowed, strict=True)
        if new > old + more
    ]


def soak(data: Path, count: int, workers: int | None = None) -> int:
    """Execute ``count`` programs, print a census after each tenth of them; returns 1 if anything leaked.

    Nine of ten are references, each in words of its own; the others are wrong in a dozen ways, and one in a
    thousand never ends by itself.
    """
    tasks = TasksConfig(source="humaneval", path=data).load().tasks
    with tempfile.TemporaryDirectory(prefix="codestill-soak-") as folder:
        scratch = Path(folder)
        os.environ["TMPDIR"], tempfile.tempdir = folder, None  # of this process, which does nothing else
        start = Census.take(scratch)
        with Sandbox(SandboxConfig(), workers=workers) as sandbox:
            print(f"{sandbox.workers} workers, {sandbox.description}")
            print(f"{'programs':>8}" + "".join(f"{name.replace('_', ' '):>18}" for name in Census._fields))
            _show("start", start)
            found = list(_batches(sandbox, tasks, count, scratch))
        end = Census.take(scratch)
        _show("closed", end)
    left = [
        *leaks(found[0], found[-1]),
        *(f"closed, {leak}" for leak in leaks(start, _but_memory(end, start))),
    ]
    print("\n".join(f"LEAK {leak}" for leak in left) or f"{count} programs: nothing leaked")
    return 1 if left else 0


def _batches(sandbox: Sandbox, tasks: tuple[Task, ...], count: int, scratch: Path) -> Iterator[Census]:
    bounds = [count * number // _BATCHES for number in range(_BATCHES + 1)]
    for first, last in pairwise(bounds):
        expected = [not _is_wrong(number) for number in range(first, last)]
        programs = (_program(tasks[number % len(tasks)], number) for number in range(first, last))
        for number, (right, result) in enumerate(zip(expected, sandbox.run(programs), strict=True), first):
            if result.passed != right:
                raise SystemExit(
                    f"program {number} is {'' if right else 'not '}right and got {result.verdict}"
                )
        census = Census.take(scratch)
        _show(str(last), census)
        yield census


def _is_wrong(number: int) -> bool:
    return number % _WRONG_EVERY == _WRONG_EVERY - 1


def _program(task: Task, number: int) -> Program:
    if number % _ENDLESS_EVERY == _ENDLESS_EVERY - 1:
        return Program.of(task.model_copy(update={"cpu_seconds": 1.0}), "    while True: pass\n")
    if _is_wrong(number):
        body = _WRONG[number // _WRONG_EVERY % len(_WRONG)]
        return Program.of(task, f"    {body}\n# {number}\nkept = []\n")
    return Program.of(task, f"{task.reference}\n# {number}\n")


def _but_memory(end: Census, start: Census) -> Census:
    """A process that has worked is larger than one that has not: only the batches are compared in size."""
    return end._replace(caller_megabytes=start.caller_megabytes)


def _show(what: str, census: Census) -> None:
    print(f"{what:>8}" + "".join(f"{value:>18g}" for value in census), flush=True)
