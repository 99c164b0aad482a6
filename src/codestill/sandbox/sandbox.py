"""Many programs: in order, several at once, each distinct one executed once."""

import contextlib
import os
import platform
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from codestill.errors import SandboxError, SandboxUnavailable
from codestill.sandbox.config import SandboxConfig
from codestill.sandbox.process import MissingLayer, NotStarted, ProcessExecutor, Stopped
from codestill.sandbox.program import Program
from codestill.types import ExecutionResult

_LOOK_AHEAD = 4  # programs submitted per worker
_PAUSES = (0.1, 0.5, 2.0)  # seconds before a spawn that failed is tried again


class Sandbox:
    """Executes untrusted programs; a context manager that leaves no process behind."""

    def __init__(self, config: SandboxConfig, workers: int | None = None) -> None:
        """``workers`` programs run at once; None takes one per available core.

        Raises SandboxUnavailable where a required isolation layer does not work on this machine."""
        if platform.system() != "Linux":
            raise SandboxUnavailable(
                f"the sandbox needs Linux's seccomp, and this is {platform.system()}",
                next_step="Run codestill in a Linux container or virtual machine.",
            )
        self.config = config
        self.workers = workers or len(os.sched_getaffinity(0))
        self._executor = ProcessExecutor(config)
        self._gate = _Gate()
        self._stops: set[_Stop] = set()

    @property
    def description(self) -> str:
        """The isolation layers in force, as written into result files."""
        return self._executor.description

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill every program that is still running; calls in other threads raise SandboxError."""
        for stop in list(self._stops):
            stop.set()

    def execute(self, program: Program) -> ExecutionResult:
        """Run one program. Raises SandboxError when the sandbox itself breaks, repeatedly."""
        with self._stop() as stop:
            return self._execute(program, stop)

    def run(self, programs: Iterable[Program]) -> Generator[ExecutionResult, None, None]:
        """The result of each program, in order, as they become available.

        Programs are taken from the iterable a bounded number ahead. Closing the iterator, or an exception
        in the caller while it runs, kills what is still running.
        """
        pending: deque[Future[ExecutionResult]] = deque()
        known: dict[Program, Future[ExecutionResult]] = {}
        with self._stop() as stop:
            pool = ThreadPoolExecutor(self.workers, thread_name_prefix="sandbox")
            try:
                for program in programs:
                    if program not in known:
                        known[program] = pool.submit(self._execute, program, stop)
                    pending.append(known[program])
                    while pending and (pending[0].done() or len(pending) > _LOOK_AHEAD * self.workers):
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)

    @contextlib.contextmanager
    def _stop(self) -> Iterator["_Stop"]:
        stop = _Stop()
        self._stops.add(stop)
        try:
            yield stop
        finally:
            self._stops.discard(stop)
            stop.close()

    def _execute(self, program: Program, stop: "_Stop") -> ExecutionResult:
        with self._gate.beside_others():
            result = self._attempt(program, stop)
        # The load of the machine may have decided these: ask again, with nothing beside it. (A program cannot
        # send itself SIGKILL, so the kernel did, for want of memory.)
        if result.verdict == "wall_timeout" or result.error == "killed by SIGKILL":
            with self._gate.alone():
                result = self._attempt(program, stop)
        return result

    def _attempt(self, program: Program, stop: "_Stop") -> ExecutionResult:
        problem: Exception | None = None
        for pause in (0.0, *_PAUSES):
            time.sleep(pause)
            try:
                return self._executor.execute(program, stop.descriptor)
            except Stopped:
                raise SandboxError(
                    "the sandbox was closed while a program ran",
                    next_step="Run the same command again: finished results are kept.",
                ) from None
            except (OSError, NotStarted, MissingLayer) as error:
                problem = error
        raise SandboxError(
            f"a sandboxed process does not start: {problem}",
            next_step="Free processes, memory or file descriptors (ulimit -a), or use fewer workers.",
        ) from problem


class _Stop:
    """A flag that a poll can wait for: the read end of a pipe hangs up when it is set."""

    def __init__(self) -> None:
        self.descriptor, self._write = os.pipe()
        self._lock = threading.Lock()
        self._set = False

    def set(self) -> None:
        with self._lock:
            if not self._set:
                self._set = True
                os.close(self._write)

    def close(self) -> None:
        self.set()
        os.close(self.descriptor)


class _Gate:
    """Lets many in beside each other, or one alone."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._inside = 0
        self._wanting_alone = 0

    @contextlib.contextmanager
    def beside_others(self) -> Iterator[None]:
        with self._condition:
            self._condition.wait_for(lambda: self._wanting_alone == 0)
            self._inside += 1
        try:
            yield
        finally:
            self._leave()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        with self._condition:
            self._wanting_alone += 1
            self._condition.wait_for(lambda: self._inside == 0)
            self._inside += 1
        try:
            yield
        finally:
            with self._condition:
                self._wanting_alone -= 1
            self._leave()

    def _leave(self) -> None:
        with self._condition:
            self._inside -= 1
            self._condition.notify_all()
