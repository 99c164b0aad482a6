"""The processes that a zygote forks: its children, and among them judges, which may serve more than once."""

import _socket
import array
import contextlib
import gc
import os
import select
import signal
import sys
import time

from . import judge, kernel
from .confine import Confinement

_PROGRAMS_PER_JUDGE = 500  # what tests allocate and an interpreter keeps has an end


class Child:
    """A forked process that never returns from ``work``."""

    def __init__(self, work) -> None:
        self.usage: list | None = None
        """[status, CPU seconds, peak KiB, whether it was still running], once it has ended."""
        self.cut_off = False
        self.pid = os.fork()
        if self.pid == 0:
            try:
                gc.enable()
                work()
            except BaseException as error:
                sys.excepthook(type(error), error, error.__traceback__)
            finally:
                os._exit(70)

    @property
    def status(self) -> int | None:
        return self.usage[0] if self.usage else None

    def wait(self, seconds: float) -> None:
        """Until it may have ended, or that long. SIGCHLD must be blocked."""
        signal.sigtimedwait([signal.SIGCHLD], seconds)

    def ended(self) -> bool:
        if self.usage is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.note(status, usage)
        return self.usage is not None

    def note(self, status: int, usage) -> None:
        cpu = usage.ru_utime + usage.ru_stime
        self.usage = [os.waitstatus_to_exitcode(status), cpu, usage.ru_maxrss, self.cut_off]

    def cpu_seconds(self) -> float:
        if self.ended():
            return self.usage[1]  # pyright: ignore[reportOptionalSubscript]
        return time.clock_gettime(kernel.cpu_clock(self.pid))

    def kill(self) -> None:
        if self.usage is None and not self.ended():
            self.cut_off = True
            os.kill(self.pid, signal.SIGKILL)
            _, status, usage = os.wait4(self.pid, 0)
            self.note(status, usage)


class Judge:
    """A child that judges one program after another, for as long as their tests leave it as it was.

    To the zygote it ends with each program: its ``usage`` is what it used for that one."""

    def __init__(self, confinement: Confinement, path: list[str]) -> None:
        self.socket, inside = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)

        def work() -> None:
            confinement.enter("judge", [inside.fileno()], None)
            sys.path += path  # an answer may be an array, and tests import what they like
            judge.serve(inside)

        self.child = Child(work)
        inside.close()
        self.poll = select.poll()
        self.poll.register(self.socket, select.POLLIN)
        self.programs = 0

    def begin(self, solver: int, size: int, descriptors: list[int]) -> None:
        """Judge the program in process ``solver``: ``size`` bytes of tests in the first of the descriptors,
        then a file for the records, and the pipes of requests and answers."""
        self.usage: list | None = None
        self.programs += 1
        self.before = self.child.cpu_seconds() if self.programs > 1 else 0.0
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", descriptors))
        with contextlib.suppress(OSError):  # it has died: ended() tells
            self.socket.sendmsg([b"%d %d" % (solver, size)], [rights])

    @property
    def status(self) -> int | None:
        return self.usage[0] if self.usage else None

    @property
    def fit(self) -> bool:
        """Whether it can judge another program."""
        return self.status == 0 and self.child.usage is None and self.programs < _PROGRAMS_PER_JUDGE

    def wait(self, seconds: float) -> None:
        self.poll.poll(seconds * 1000)

    def ended(self) -> bool:
        if self.usage is None and self.poll.poll(0):
            try:
                packet = self.socket.recv(16)
            except ConnectionResetError:  # it died without having read its request
                packet = b""
            if packet:
                self.usage = [int(packet), self.child.cpu_seconds() - self.before, 0, False]
            else:
                self.child.kill()
                self.usage = self.child.usage
        return self.usage is not None

    def cpu_seconds(self) -> float:
        return self.usage[1] if self.ended() else self.child.cpu_seconds() - self.before  # pyright: ignore

    def kill(self) -> None:
        ended = self.ended()
        self.child.kill()
        if not ended:
            self.usage = self.child.usage
        self.socket.close()


Children = dict[str, Child | Judge]
