"""Several processes fill one cache, each with a teacher of its own and every n-th batch."""

import multiprocessing
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty

from codestill.capture.config import CaptureRun
from codestill.capture.fill import fill
from codestill.errors import Failure
from codestill.logits import CaptureSpec
from codestill.logits.writer import LogitWriter
from codestill.run import Run
from codestill.teachers import LocalTeacherConfig
from codestill.train.batches import TokenExample

_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class _Work:
    """What every process needs."""

    config: CaptureRun
    spec: CaptureSpec
    directory: Path
    sequences: Sequence[TokenExample]


def fill_in_parallel(
    config: CaptureRun, directory: Path, run: Run, spec: CaptureSpec, sequences: Sequence[TokenExample]
) -> None:
    """Fill the cache, one series of shards for each process. Raises Failure when a process ends early; its
    shards stay, and the same command continues."""
    work = _Work(config, spec, directory, sequences)
    context = multiprocessing.get_context("spawn")
    done: Queue[int] = context.Queue()
    processes = [
        context.Process(target=_part, args=(work, part, done), daemon=True)
        for part in range(config.processes)
    ]
    for process in processes:
        process.start()
    count = 0
    try:
        while count < len(sequences):
            try:
                count += done.get(timeout=_POLL_SECONDS)
                run.progress("logits", count, len(sequences))
            except Empty:
                if any(process.exitcode for process in processes):
                    break
        for process in processes:
            process.join(None if count == len(sequences) else _POLL_SECONDS)
        failed = [part for part, process in enumerate(processes) if process.exitcode != 0]
        if failed:
            raise Failure(
                f"capture process {failed[0]} ended with exit code {processes[failed[0]].exitcode}.",
                next_step="Its own message is above; the same command continues.",
            )
    finally:
        for process in processes:
            process.terminate()


def _part(work: _Work, part: int, done: "Queue[int]") -> None:
    import torch

    from codestill.capture.local import LocalSource

    parent, execution, parts = os.getppid(), work.config.execution, work.config.processes
    if torch.cuda.is_available() and execution.device != "cpu":
        torch.cuda.set_device(part % torch.cuda.device_count())
    else:
        torch.set_num_threads(execution.threads or max(1, torch.get_num_threads() // parts))
    assert isinstance(work.config.teacher, LocalTeacherConfig), "nothing else is computed"
    source = LocalSource(work.config.teacher.build(execution))

    def report(count: int) -> None:
        if os.getppid() != parent:  # the parent was killed; its next run starts processes of its own
            sys.exit(1)
        done.put(count)

    with LogitWriter.open(work.directory, work.spec, part) as writer:
        fill(writer, work.sequences, source, work.config.capture, report, (part, parts))
