"""Kernels that lack something, imitated: a seccomp filter that answers chosen system calls with an error."""

import ctypes
import errno
import os
import platform
import struct
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

Refusal = tuple[int, int, int | None]
"""System call, errno, and the first argument for which it is refused (None: for any)."""
Done = subprocess.CompletedProcess[str]

_X86 = platform.machine() == "x86_64"
LANDLOCK, PIDFD_OPEN = 444, 434
UNSHARE, PRCTL = (272, 157) if _X86 else (97, 167)
SET_SECCOMP = 22
"""prctl's first argument, where it is to install a filter."""
NAMESPACES_REFUSED = (UNSHARE, errno.EPERM, None)
LANDLOCK_ABSENT = (LANDLOCK, errno.ENOSYS, None)
LANDLOCK_OFF = (LANDLOCK, errno.EOPNOTSUPP, None)
SECCOMP_REFUSED = (PRCTL, errno.EPERM, SET_SECCOMP)
PIDFD_ABSENT = (PIDFD_OPEN, errno.ENOSYS, None)


def forbid(number: int, code: int, argument: int | None = None) -> None:
    """Answer a system call with an error, here and in children, for good."""
    rows = [(0x20, 0, 0, 0), (0x15, 0, 1 if argument is None else 3, number)]
    if argument is not None:
        rows += [(0x20, 0, 0, 16), (0x15, 0, 1, argument)]
    rows += [(0x06, 0, 0, 0x50000 | code), (0x06, 0, 0, 0x7FFF0000)]
    body = b"".join(struct.pack("=HBBI", *row) for row in rows)
    buffer = ctypes.create_string_buffer(body, len(body))

    class Filter(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_void_p))

    libc = ctypes.CDLL(None)
    no_new_privileges, set_seccomp, filter_mode = 38, 22, 2
    assert libc.prctl(no_new_privileges, 1, 0, 0, 0) == 0
    program = Filter(len(rows), ctypes.addressof(buffer))
    assert libc.prctl(set_seccomp, filter_mode, ctypes.byref(program), 0, 0) == 0


def run_without(refused: Iterable[Refusal], code: str, *arguments: str, cwd: Path | None = None) -> Done:
    """Run Python code in a process whose kernel refuses these calls."""
    before = "".join(f"forbid{call}\n" for call in refused)
    return subprocess.run(
        [sys.executable, "-c", f"from tests.sandbox.forbid import forbid\n{before}{code}", *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
