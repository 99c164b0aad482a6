"""The workers of one sandbox: each runs one program at a time, started on demand, replaced when lost."""

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator

from codestill.sandbox.config import SandboxConfig
from codestill.sandbox.isolation import Isolation
from codestill.sandbox.worker import Lost, MissingLayer, Worker


class Stopped(Exception):
    """The caller had the program killed; there is no result."""


class Stop:
    """Kills the workers of all who share it; cannot be reset."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._workers: set[Worker] = set()
        self.is_set = False

    def set(self) -> None:
        with self._lock:
            self.is_set = True
            workers = list(self._workers)
        for worker in workers:
            worker.kill()

    @contextlib.contextmanager
    def watching(self, worker: Worker) -> Iterator[None]:
        with self._lock:
            if self.is_set:
                raise Stopped
            self._workers.add(worker)
        try:
            yield
        finally:
            with self._lock:
                self._workers.discard(worker)


class Pool:
    """Lends at most ``size`` workers at once."""

    def __init__(self, config: SandboxConfig, isolation: Isolation, size: int, first: Worker) -> None:
        self.config, self.isolation, self.size = config, isolation, size
        self._workers: list[Worker] = []  # all that are alive; shared with the finalizer
        self._renew()
        self._workers.append(first)
        self._idle.append(first)
        self._finalizer = weakref.finalize(self, _close, self._workers, os.getpid())

    def _renew(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(self.size)
        self._idle: list[Worker] = []
        self._all = Stop()

    @contextlib.contextmanager
    def worker(self, stop: Stop) -> Iterator[Worker]:
        """A worker of one's own. Raises Stopped once ``stop`` is set, SandboxError where none starts.

        A worker that is lost, or killed by ``stop``, is not lent again."""
        if self._pid != os.getpid():  # forked: these workers are the parent's
            for worker in self._workers:
                worker.abandon()
            self._workers.clear()
            self._renew()
        with self._free:
            if stop.is_set or self._all.is_set:
                raise Stopped
            with self._lock:
                worker = self._idle.pop() if self._idle else None
            worker = worker or self._start()
            healthy = False
            try:
                with self._all.watching(worker), stop.watching(worker):
                    yield worker
                    healthy = True
            except Lost:
                if stop.is_set or self._all.is_set:
                    raise Stopped from None
                raise
            finally:
                if healthy and not (stop.is_set or self._all.is_set):
                    with self._lock:
                        self._idle.append(worker)
                else:
                    worker.close()
                    with self._lock:
                        self._workers.remove(worker)

    def _start(self) -> Worker:
        try:
            worker = Worker(self.config, self.isolation.layers)
        except (MissingLayer, OSError) as error:
            raise Lost(f"a sandboxed process does not start: {error}") from error
        with self._lock:
            self._workers.append(worker)
        return worker

    def close(self) -> None:
        """Kill every worker; callers waiting for one get Stopped."""
        self._all.set()
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.close()
            self._workers.remove(worker)


def _close(workers: list[Worker], owner: int) -> None:
    """Called when the pool is garbage-collected or the interpreter exits."""
    for worker in list(workers):
        worker.close() if os.getpid() == owner else worker.abandon()
