"""What hostile programs try to reach, and whether any of it was touched."""

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import socket
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MARK = "codestill-hostile"
_SHARED = ("/tmp", "/var/tmp", "/dev/shm", "/run", "/home", "/root", "/")
_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGIO, signal.SIGHUP, signal.SIGTERM, signal.SIGURG)
_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37
_IPC_CREAT, _IPC_RMID, _GETVAL, _NEW = 0o1000, 0, 12, 0o1600
_GET_FLAGS = 0x80086601  # FS_IOC_GETFLAGS
_libc = ctypes.CDLL(None, use_errno=True)
_libc.shmat.restype = ctypes.c_long


class World:
    """Files, sockets, queues and this very process, as victims."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.outside, self.readable = directory / "outside", directory / "readable"
        self.kept = self.outside / "expected"
        """Where the sandbox keeps what tests have computed."""
        self.queue_name = f"/{MARK}-{os.getpid()}-{id(self)}".encode()
        self.address = f"\0{MARK}-{os.getpid()}-{id(self)}"
        self.signals: list[int] = []

    @contextlib.contextmanager
    def watched(self) -> Iterator["World"]:
        """Everything planted, and orphans of this process's descendants coming to it."""
        with contextlib.ExitStack() as stack:
            self._plant_files()
            self._plant_sockets(stack)
            self._plant_queues(stack)
            for number in _SIGNALS:
                before = signal.signal(number, lambda number, _: self.signals.append(number))
                stack.callback(signal.signal, number, before)
            reaps = ctypes.c_int()
            _libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(reaps), 0, 0, 0)
            _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            stack.callback(_libc.prctl, _PR_SET_CHILD_SUBREAPER, reaps.value, 0, 0, 0)
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            patch.setenv("TOKEN_OF_THE_CALLER", "secret")
            yield self

    def _plant_files(self) -> None:
        for directory in (self.directory, self.outside, self.readable, self.outside / "empty", self.kept):
            directory.mkdir(exist_ok=True)
            directory.chmod(0o755)
        for path in (self.outside / "secret.txt", self.readable / "library.txt"):
            path.write_text("secret")
            path.chmod(0o644)
            with contextlib.suppress(OSError):  # not every file system has them
                os.setxattr(path, "user.note", b"secret")
        (self.kept / "values.json").write_text('["secret"]')
        (self.outside / "planted_module.py").write_text("VALUE = 'secret'\n")
        script = self.outside / "script.sh"
        script.write_text(f"#!/bin/sh\necho > {self.outside}/ran\n")
        script.chmod(0o755)

    def _plant_sockets(self, stack: contextlib.ExitStack) -> None:
        def listen(family: int, kind: int, address: Any) -> socket.socket:
            made = stack.enter_context(socket.socket(family, kind))
            made.setblocking(False)
            made.bind(address)
            if kind == socket.SOCK_STREAM:
                made.listen()
            return made

        self.path = str(self.outside / "socket")
        self.sockets = [
            listen(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            listen(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            listen(socket.AF_UNIX, socket.SOCK_STREAM, self.address),
            listen(socket.AF_UNIX, socket.SOCK_DGRAM, f"{self.address}-datagrams"),
            listen(socket.AF_UNIX, socket.SOCK_STREAM, self.path),
        ]

    def _plant_queues(self, stack: contextlib.ExitStack) -> None:
        self.messages = _libc.msgget(0, _NEW)
        stack.callback(_libc.msgctl, self.messages, _IPC_RMID, None)
        _libc.msgsnd(self.messages, struct.pack("@l8s", 1, b"secret"), 8, 0)
        self.semaphore = _libc.semget(0, 1, _NEW)
        stack.callback(_libc.semctl, self.semaphore, 0, _IPC_RMID)
        self.segment = _libc.shmget(0, 4096, _NEW)
        stack.callback(_libc.shmctl, self.segment, _IPC_RMID, None)
        address = _libc.shmat(self.segment, None, 0)
        ctypes.memmove(address, b"secret", 6)
        _libc.shmdt(ctypes.c_void_p(address))
        descriptor = _libc.mq_open(self.queue_name, os.O_CREAT | os.O_RDWR, 0o600, None)
        assert min(self.messages, self.semaphore, self.segment, descriptor) >= 0
        _libc.mq_send(descriptor, b"secret", 6, 0)
        os.close(descriptor)
        stack.callback(_libc.mq_unlink, self.queue_name)

    def names(self) -> dict[str, Any]:
        """What programs are told about it."""
        return {
            "SECRET": str(self.outside / "secret.txt"),
            "OUTSIDE": str(self.outside),
            "READABLE": str(self.readable / "library.txt"),
            "KEPT": str(self.kept / "values.json"),
            "SOURCES": str(Path(__file__).parents[3] / "src" / "codestill"),
            "TESTS": str(Path(__file__).parents[1]),
            "CALLER": os.getpid(),
            "MARK": MARK,
            "PORT": self.sockets[0].getsockname()[1],
            "UDP_PORT": self.sockets[1].getsockname()[1],
            "ADDRESS": self.address,
            "SOCKET": self.path,
            "MESSAGES": self.messages,
            "SEMAPHORE": self.semaphore,
            "SEGMENT": self.segment,
            "QUEUE": self.queue_name,
        }

    def state(self) -> dict[str, Any]:
        """All that no program may change. Comparing two of them compares what happened between."""
        return {
            "files": {str(path): _file(path) for path in sorted(self.directory.rglob("*"))},
            "strays": [name for place in _SHARED for name in _listed(place) if MARK in name],
            "heard": [heard for sock in self.sockets for heard in _drain(sock)],
            "signals": list(self.signals),
            "queues": self._queues(),
            "processes": {pid: _process(pid) for pid in descendants(os.getpid())},
            "descriptors": _listed("/proc/self/fd"),
            "limits": [resource.getrlimit(kind) for kind in range(16)],
            "priority": (os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0)),
            "machine": (os.uname().nodename, mounts(), Path.cwd()),
        }

    def _queues(self) -> list[Any]:
        found: list[Any] = []
        for kind, number in (("msg", self.messages), ("sem", self.semaphore), ("shm", self.segment)):
            rows = Path(f"/proc/sysvipc/{kind}").read_text().splitlines()
            found += [row.split() for row in rows if row.split()[1] == str(number)]
        found.append(_libc.semctl(self.semaphore, 0, _GETVAL))
        descriptor = _libc.mq_open(self.queue_name, os.O_RDONLY, 0, None)
        attributes = (ctypes.c_long * 8)()
        found.append(_libc.mq_getattr(descriptor, attributes))
        found.append(list(attributes))
        if descriptor >= 0:
            os.close(descriptor)
        return found


def _file(path: Path) -> Any:
    about = path.lstat()
    fields = (about.st_mode, about.st_uid, about.st_gid, about.st_nlink, about.st_size, about.st_mtime_ns)
    if path.is_symlink():
        return (*fields, path.readlink())
    if not path.is_file():
        return fields
    flags = bytearray(8)
    with path.open("rb") as file:
        with contextlib.suppress(OSError):
            fcntl.ioctl(file, _GET_FLAGS, flags)
        content = file.read()
    attributes: list[str] = []
    with contextlib.suppress(OSError):
        attributes = sorted(os.listxattr(path))
    return (*fields, content, bytes(flags), attributes)


def _listed(place: str) -> list[str]:
    try:
        return sorted(path.name for path in Path(place).iterdir())
    except OSError:
        return []


def _drain(sock: socket.socket) -> list[Any]:
    heard = []
    with contextlib.suppress(BlockingIOError):
        while True:
            if sock.type == socket.SOCK_STREAM:
                other, address = sock.accept()
                other.close()
                heard.append(address)
            else:
                heard.append(sock.recv(100))
    return heard


def _process(pid: int) -> Any:
    """What a process that stays has to keep: its threads, and where one may know, its descriptors."""
    return len(_listed(f"/proc/{pid}/task")), len(_listed(f"/proc/{pid}/fd"))


def descendants(ancestor: int) -> list[int]:
    """Every process that this one has started, or that has come to it as an orphan; theirs next."""
    parents: dict[int, int] = {}
    for name in _listed("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{name}/stat").read_text().rsplit(")", 1)[1].split()
                parents[int(name)] = int(fields[1])
    found = [ancestor]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


def mounts() -> list[str]:
    """What is mounted, but for what other tests mount in their own directories."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if not Path(line.split()[4]).is_relative_to(tempfile.gettempdir())]
