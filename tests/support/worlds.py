"""A tiny world to train in, and processes in which a test's function can be killed."""

import fcntl
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from experiments.gaps.make import fim_tokenizer
from tests.support.forms import CONTINUES
from tests.support.tiny import CPU

from codestill.config import RunConfig
from codestill.examples import references
from codestill.files.serialize import read_jsonl
from codestill.models import StudentConfig
from codestill.models.student import Student
from codestill.pocket import bundled_directory
from codestill.run import Run
from codestill.tasks import TasksConfig
from codestill.types import Event, Example

_FRESH = multiprocessing.get_context("forkserver")
_FRESH.set_forkserver_preload(["tests.support.forked"])


def examples(count: int, split: str = "train") -> list[Example]:
    """Pocket tasks of two operations with their reference solutions."""
    return references(tasks(count, split).load(), CONTINUES)


def tasks(count: int, split: str = "train") -> TasksConfig:
    return TasksConfig.model_validate({"source": "pocket", "split": split, "count": count, "depths": [2]})


def student(model: str | Path = "pocket-0.1m", seed: int = 0) -> Student:
    return StudentConfig.model_validate(str(model)).build(placement=CPU, seed=seed)


def fim_student(directory: Path) -> Student:
    """The bundled student, in whose tokenizer the last three tokens are those of fill-in-the-middle."""
    fim_tokenizer(bundled_directory("pocket-base-0.1m")).save_pretrained(str(directory))
    config = StudentConfig(model="pocket-base-0.1m", tokenizer=str(directory))
    return config.build(placement=CPU)


def open_run(directory: Path, *observers: Callable[[Event], None], seed: int = 0) -> Run:
    return Run.open(directory, RunConfig(seed=seed), observers)


def metrics(directory: Path, stage: str = "train") -> list[Event]:
    """The metrics that a run has logged for a stage."""
    events = read_jsonl(directory / "metrics.jsonl", Event)
    return [event for event in events if event.kind == "metrics" and event.stage == stage]


def weights(directory: Path) -> bytes:
    return (directory / "student" / "model.safetensors").read_bytes()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DieAt:
    """An observer that kills its process when a stage has come so far."""

    def __init__(self, stage: str, done: int) -> None:
        self.stage, self.done = stage, done

    def __call__(self, event: Event) -> None:
        if event.kind == "progress" and event.stage == self.stage and event.done == self.done:
            die()


def in_fresh_process(target: Callable[..., object], *args: Any) -> int | None:
    """Run ``target`` in a process of its own; its exit code, negative for a signal."""
    process = _FRESH.Process(target=_alone, args=(target, *args))
    process.start()
    process.join(timeout=240)
    if process.exitcode is None:
        process.kill()
    return process.exitcode


def _alone(target: Callable[..., object], *args: Any) -> None:
    torch.set_num_threads(1)
    target(*args)


def assert_killed(target: Callable[..., object], *args: Any) -> None:
    """``target`` must not outlive the moment at which it is to be killed."""
    assert in_fresh_process(target, *args) == -signal.SIGKILL
    # A sandbox process that was being forked holds its parent's lock until it becomes another program.
    for path in (path for arg in args if isinstance(arg, Path) for path in arg.rglob(".lock")):
        with path.open() as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)


def javascript_task() -> dict[str, Any]:
    """A training task in JavaScript, as a row of a JSONL file."""
    return {
        "task_id": "js/0",
        "language": "javascript",
        "prompt": "// Twice x.\nfunction double(x) {\n",
        "entry_point": "double",
        "reference": "  return 2 * x;\n}\n",
        "tests": ["assert double(3) == 6"],
        "split": "train",
    }
