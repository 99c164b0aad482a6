"""Runs programs: several at once, each distinct one once, in order or as they finish."""

import contextlib
import os
import platform
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from codestill.errors import SandboxError, SandboxUnavailable
from codestill.languages import LANGUAGES
from codestill.sandbox.config import SandboxConfig
from codestill.sandbox.isolation import isolate
from codestill.sandbox.payload import Tests, solution
from codestill.sandbox.pool import Pool, Stop, Stopped
from codestill.sandbox.program import Program
from codestill.sandbox.verdict import JUDGE_ENDED, Outcome, Records, execution_result, wall_limit
from codestill.sandbox.worker import Lost, Worker
from codestill.types import ExecutionResult, Language

_LOOK_AHEAD = 4  # programs submitted per worker
_PAUSES = (0.1, 0.5, 2.0)  # seconds before a retry, after the worker was lost
_READ_OUTPUT = 1 << 16  # bytes


class Sandbox:
    """Executes untrusted programs; a context manager that leaves no process behind.

    Its methods block; they may be called from several threads, and from a process that was forked after the
    sandbox was built. A spawned process builds its own from the config.
    """

    def __init__(self, config: SandboxConfig, workers: int | None = None) -> None:
        """``workers`` programs run at once; None takes one per available core.

        Raises SandboxUnavailable where a required isolation layer does not work on this machine."""
        if platform.system() != "Linux":
            raise SandboxUnavailable(
                f"programs are executed by means of Linux's seccomp, and this is {platform.system()}",
                next_step="Run codestill in a Linux container or virtual machine (docs/sandbox.md); whatever "
                "executes no program works here.",
            )
        self.config = config
        self.workers = workers or len(os.sched_getaffinity(0))
        self.isolation, first = isolate(config)
        self.description = f"{config.verdict} verdict, {self.isolation}"
        """Kind of verdict and isolation in force, as in result files."""
        self._pool = Pool(config, self.isolation, self.workers, first)
        self._tests = Tests(config.cache)
        self._gate = _Gate()

    def __repr__(self) -> str:
        return f"<Sandbox of {self.workers} workers: {self.description}>"

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill every program that is still running; calls in other threads raise SandboxError."""
        self._pool.close()

    def execute(self, program: Program) -> ExecutionResult:
        """Run one program."""
        return self._execute(program, Stop())

    def run(self, programs: Iterable[Program]) -> Generator[ExecutionResult, None, None]:
        """The result of each program, in order, as they become available.

        Programs are taken from the iterable a bounded number ahead, and each distinct one is executed once.
        Closing the iterator, or an exception in the caller while it runs, kills what is still running.
        """
        waiting: dict[int, ExecutionResult] = {}
        due = 0
        stream = self.stream(programs)
        try:
            for number, result in stream:
                waiting[number] = result
                while due in waiting:
                    yield waiting.pop(due)
                    due += 1
        finally:
            stream.close()

    def stream(self, programs: Iterable[Program]) -> Generator[tuple[int, ExecutionResult], None, None]:
        """Like ``run``, in order of completion: (place in ``programs``, result)."""
        known: dict[Program, Future[ExecutionResult]] = {}
        owed: dict[Future[ExecutionResult], list[int]] = {}
        stop = Stop()
        threads = ThreadPoolExecutor(self.workers, thread_name_prefix="sandbox")

        def finished(block: bool) -> Iterator[tuple[int, ExecutionResult]]:
            done, _ = wait(owed, timeout=None if block else 0, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=lambda future: owed[future][0]):
                for number in owed.pop(future):
                    yield number, future.result()

        try:
            for number, program in enumerate(programs):
                if program not in known:
                    known[program] = threads.submit(self._execute, program, stop)
                owed.setdefault(known[program], []).append(number)
                yield from finished(block=len(owed) > _LOOK_AHEAD * self.workers)
            while owed:
                yield from finished(block=True)
        finally:
            stop.set()
            threads.shutdown(wait=True, cancel_futures=True)

    def _execute(self, program: Program, stop: Stop) -> ExecutionResult:
        with self._gate.beside_others():
            result = self._attempt(program, stop)
        # The machine's load may have caused these: run it again, alone. (A program cannot send itself
        # SIGKILL, so the kernel did, for lack of memory.)
        starved = result.error == "killed by SIGKILL" or result.error.startswith(JUDGE_ENDED)
        if result.verdict == "wall_timeout" or starved:
            with self._gate.alone():
                result = self._attempt(program, stop)
        return result

    def _attempt(self, program: Program, stop: Stop) -> ExecutionResult:
        """The result, or infra_error where every worker is lost with this program."""
        problem: Exception | None = None
        for pause in (0.0, *_PAUSES):
            if pause:
                time.sleep(pause)
            try:
                with self._pool.worker(stop) as worker:
                    return self._exchange(program, worker)
            except Stopped:
                raise SandboxError(
                    "the sandbox was closed while a program ran",
                    next_step="Run the same command again: finished results are kept.",
                ) from None
            except Lost as error:
                problem = error
        return ExecutionResult(verdict="infra_error", error=str(problem), sandbox=self.description)

    def _exchange(self, program: Program, worker: Worker) -> ExecutionResult:
        require_runtime(program.language, self.config)
        if not LANGUAGES[program.language].is_python and program.language not in worker.interpreters:
            raise SandboxUnavailable(
                f"{program.language} was not there when this sandbox started.",
                next_step="Call add_language, or install the interpreter, before the sandbox is built.",
            )
        limit = program.cpu_seconds or self.config.cpu_seconds
        request: dict[str, Any] = {
            "cpu": limit,
            "wall": wall_limit(self.config, limit),
            "split": self.config.verdict == "split",
            "language": program.language,
        }
        started = time.monotonic()
        with contextlib.ExitStack() as stack:

            def file(name: str, content: bytes = b"") -> int:
                descriptor = os.memfd_create(name)
                stack.callback(os.close, descriptor)
                while content:
                    content = content[os.write(descriptor, content) :]
                return descriptor

            payload, request["reusable"] = self._tests.payload(program)
            texts = (solution(program), payload)
            request["sizes"] = list(map(len, texts))
            inputs = [file("solution", texts[0]), file("tests", texts[1])]
            output, report = file("output"), file("report")
            answer = worker.execute(request, [*inputs, output, report])
            outcome = Outcome(
                answer=answer,
                records=Records(os.pread(report, os.fstat(report).st_size, 0)),
                output=os.pread(output, _READ_OUTPUT, 0),
                output_bytes=os.fstat(output).st_size,
                wall_seconds=time.monotonic() - started,
            )
        result = execution_result(self.config, self.description, program, outcome)
        if outcome.records.memos:
            self._tests.learn(program, outcome.records.memos)
        return result


def require_runtime(language: Language, config: SandboxConfig) -> None:
    """Raises SandboxUnavailable where programs in a language cannot be run here."""
    spec = LANGUAGES[language]
    if spec.is_python:
        return
    if spec.executable() is None:
        raise SandboxUnavailable(
            f"a task is in {language}, and {spec.interpreter} is not installed.", next_step=spec.install
        )
    if config.verdict != "split":
        raise SandboxUnavailable(
            f"a task is in {language}, and its tests cannot share a process with it.",
            next_step="Set sandbox.verdict to split.",
        )


class _Gate:
    """Admits many at once, or one alone."""

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
