"""Harmless programs that try to break out of the sandbox, or to pass without solving anything."""

import contextlib
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from codestill.sandbox import Program, Sandbox, SandboxConfig
from codestill.types import ExecutionResult, Test, Verdict

CONFIG = SandboxConfig(cpu_seconds=2, memory_megabytes=512, output_kilobytes=100)
"""Limits under which the probes run: small, so that they are reached soon."""
_MARK = "the-program-got-out"
_TOKEN = "CODESTILL_DOCTOR_TOKEN"
_ACTS: frozenset[Verdict] = frozenset(("wrong", "exception", "undecidable"))


@dataclass(frozen=True)
class Probe:
    """A harmless program whose ``f`` returns True when a forbidden act succeeds."""

    name: str
    solution: str
    test: str = "assert f() is True"
    contained: frozenset[Verdict] = _ACTS
    """Verdicts which show that the act failed."""
    by: str = "seccomp"
    """The layer that should contain it."""
    cpu_seconds: float | None = None


@dataclass(frozen=True)
class Probed:
    """How a program ended."""

    name: str
    as_expected: bool
    outcome: str
    """One or two words: passes, contained, BREACH, ..."""
    detail: str


def _limit(verdict: Verdict) -> frozenset[Verdict]:
    return frozenset((verdict,))


_FILES = "landlock, or namespaces"
PROBES = (
    Probe("start a process", "import os\ndef f():\n    if os.fork() == 0: os._exit(0)\n    return True"),
    Probe(
        "become another program",
        f"import os, sys\ndef f():\n    os.execv(PYTHON, [PYTHON, '-c', 'print(\"{_MARK}\")'])",
    ),
    Probe("open a socket", "import socket\ndef f():\n    return bool(socket.socket())"),
    Probe(
        "connect to this machine",
        "import socket\ndef f():\n    return bool(socket.create_connection(('127.0.0.1', PORT), timeout=1))",
        by="seccomp, or namespaces",
    ),
    Probe(
        "read a secret file",
        "def f():\n    return open(SECRET).read()",
        test="assert f() == 'CONTENT'",
        by=_FILES,
    ),
    Probe(
        "read the environment",
        """
import os
def f():
    return TOKEN in os.environ or len(open(f"/proc/{CALLER}/environ", "rb").read()) > 0
""",
        by=f"an environment of its own; {_FILES}",
    ),
    Probe("write outside", "def f():\n    open(OUTSIDE, 'w').close()\n    return True", by=_FILES),
    Probe("signal every process", "import os\ndef f():\n    os.kill(-1, 0)\n    return True"),
    Probe(
        "trace its parent",
        "import ctypes, os\ndef f():\n    return ctypes.CDLL(None).ptrace(0x4206, os.getppid(), 0, 0) == 0",
    ),
    Probe(
        "ask for too much memory",
        "def f():\n    return len(bytearray(1 << 30)) > 0",
        contained=_limit("memory"),
        by="rlimits",
    ),
    Probe(
        "compute without end",
        "def f():\n    while True: pass",
        contained=_limit("cpu_timeout"),
        by="the CPU clock",
        cpu_seconds=0.5,
    ),
    Probe(
        "print without end",
        "def f():\n    while True: print('x' * 10000)",
        contained=_limit("output_limit"),
        by="rlimits, or the count of what was printed",
    ),
    Probe(
        "answer what equals everything",
        "class Yes:\n    __eq__ = lambda self, other: True\ndef f():\n    return Yes()",
        test="assert f() == 42",
        by="the split judge",
    ),
    Probe("leave with status 0", "import os\ndef f():\n    os._exit(0)", by="the judge's own record"),
    Probe(
        "search memory for the answer",
        """
import gc, sys
def f():
    places, frame = gc.get_objects(), sys._getframe()
    while frame is not None:
        places += [frame.f_code.co_consts, frame.f_globals]
        frame = frame.f_back
    for place in places:
        for value in gc.get_referents(place):
            if isinstance(value, str) and value.startswith("answer: ") and len(value) > 20:
                return value
""",
        test="assert f() == 'answer: CONTENT'",
        by="the split judge",
    ),
)
_CONTROL = Program(
    solution="import math\ndef f(x):\n    return [math.sqrt(x)]",
    entry_point="f",
    tests=(Test(code="assert f(9) == [3.0]"), Test(code="assert f(16) == [4.0]")),
)


class Planted:
    """What probes try to reach: a world-readable secret, a directory to write to, a listening socket."""

    def __init__(self, directory: Path, listener: socket.socket) -> None:
        self.listener = listener
        self.outside = directory / "written"
        self.content = secrets.token_hex(16)
        secret = directory / "secret"
        secret.write_text(self.content, encoding="utf-8")
        secret.chmod(0o644)
        directory.chmod(0o777)
        os.environ[_TOKEN] = "1"
        port = listener.getsockname()[1]
        values = {"SECRET": str(secret), "OUTSIDE": str(self.outside), "TOKEN": _TOKEN}
        names = {**values, "PYTHON": sys.executable, "CALLER": os.getpid(), "PORT": port}
        self.header = "".join(f"{name} = {value!r}\n" for name, value in names.items())

    def traces(self) -> str:
        """What a program did outside its sandbox; empty if nothing."""
        if self.outside.exists():
            self.outside.unlink()
            return "it wrote a file outside"
        with contextlib.suppress(BlockingIOError):
            self.listener.accept()[0].close()
            return "it connected to this process"
        return ""


@contextlib.contextmanager
def planted() -> Iterator[Planted]:
    """Enter it before the sandbox starts, so that its processes could inherit the environment."""
    try:
        with (
            tempfile.TemporaryDirectory(prefix="codestill-doctor-") as directory,
            socket.create_server(("127.0.0.1", 0)) as listener,
        ):
            listener.setblocking(False)
            yield Planted(Path(directory), listener)
    finally:
        os.environ.pop(_TOKEN, None)


def probe(sandbox: Sandbox, bait: Planted) -> Iterator[Probed]:
    """Run an ordinary program, which must pass, and then every probe; none if it fails."""
    result = sandbox.execute(_CONTROL)
    detail = "so programs do run here" if result.passed else _ending(result)
    yield Probed("an ordinary program", result.passed, "passes" if result.passed else "FAILS", detail)
    for hostile in PROBES if result.passed else ():
        program = Program(
            solution=bait.header + hostile.solution,
            entry_point="f",
            tests=(Test(code=hostile.test.replace("CONTENT", bait.content)),),
            cpu_seconds=hostile.cpu_seconds,
        )
        result = sandbox.execute(program)
        traces = bait.traces() or ("it became another program" if _MARK in result.output else "")
        if result.verdict in hostile.contained and not traces:
            yield Probed(hostile.name, True, "contained", _ending(result))
        elif result.verdict == "infra_error" and not traces:
            yield Probed(hostile.name, False, "NO VERDICT", _ending(result))
        else:
            reason = f"{traces or _ending(result)}; {hostile.by} should contain it"
            yield Probed(hostile.name, False, "BREACH", reason)


def _ending(result: ExecutionResult) -> str:
    if result.passed:
        return "it succeeded"
    failed = next((test for test in result.tests if test.verdict != "pass"), None)
    if failed is not None and failed.error_type and not failed.actual:
        return f"{failed.error_type}: {failed.message}".removesuffix(": ")
    if failed is not None and failed.actual:
        return f"it returned {failed.actual}"
    return f"{result.verdict}: {result.error}".removesuffix(": ")
