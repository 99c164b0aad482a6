"""Which isolation layers and tiers work here."""

import errno
import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from codestill.errors import CodestillError
from codestill.sandbox import Sandbox, SandboxConfig
from codestill.sandbox.isolation import TIERS, Isolation, Missing, start_worker
from codestill.sandbox.worker import LAYERS


@dataclass(frozen=True)
class Availability:
    """Whether an isolation layer or tier works here, with details or the reason."""

    name: str
    works: bool
    detail: str


_UNSHARED = {
    "user": 1 << 28,
    "pid": 1 << 29,
    "mount": 1 << 17,
    "net": 1 << 30,
    "ipc": 1 << 27,
    "uts": 1 << 26,
}
_UNSHARE = """
import ctypes, json, os, sys
libc, codes = ctypes.CDLL(None, use_errno=True), {}
for name, flags in json.loads(sys.argv[1]).items():
    child = os.fork()
    if child == 0:
        os._exit(ctypes.get_errno() if libc.unshare(flags) else 0)
    codes[name] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(json.dumps(codes))
"""
_GIVEN = {
    "seccomp": "no processes, sockets, tracing, signals, mounts; nothing newer than the filter",
    "rlimits": "address space, CPU time, file size, open files, locked memory; no core dumps",
    "uid": "solver and judge each run under their own user id",
    "capabilities": "solver and judge run under the caller's user id, without its capabilities",
}


def layers() -> list[Availability]:
    """Each isolation layer, tried alone.

    Raises SandboxUnavailable on a system other than Linux, SandboxError where no process starts at all."""
    if platform.system() != "Linux":
        Sandbox(SandboxConfig())  # raises, with the next step
    bare = _try()
    if isinstance(bare, Missing):  # nothing works without this one
        return [Availability(bare.layer, False, _why(bare))]
    contained = _try("namespaces")
    findings = _namespaces(contained if isinstance(contained, Missing) else None)
    for name in ("landlock", "seccomp", "rlimits"):
        report = _try(name)
        if isinstance(report, Missing):
            findings.append(Availability(name, False, _why(report)))
        else:
            findings.append(Availability(name, True, _GIVEN.get(name) or f"version {report['landlock']}"))
    identity = (bare if isinstance(contained, Missing) else contained)["identity"]
    return [*findings, Availability("identity", True, f"{identity}: {_GIVEN[identity]}")]


def _try(*layers: str) -> Missing | dict[str, Any]:
    """What a process with these layers reports, or the layer that it could not have."""
    worker = start_worker(SandboxConfig(), layers)
    if isinstance(worker, Missing):
        return worker
    worker.close()
    return worker.report


def _namespaces(lack: Missing | None) -> list[Availability]:
    """The namespaces, and the minimal root directory that is built inside them."""
    names = " ".join(_UNSHARED)
    if lack is None:
        root = "read-only: interpreter, libraries, four devices; a directory to write in, emptied after use"
        return [Availability("namespaces", True, names), Availability("minimal root", True, root)]
    if lack.what in ("unshare", "uid_map") or lack.what.startswith("/proc/"):
        refused = ", ".join(_refused_namespaces())
        detail = (f"refused: {refused}; " if refused else "") + _why(lack)
        root = "not tried: it is built inside the namespaces"
        return [Availability("namespaces", False, detail), Availability("minimal root", False, root)]
    return [Availability("namespaces", True, names), Availability("minimal root", False, _why(lack))]


def _refused_namespaces() -> list[str]:
    """The kinds of namespace that a process may not create, each tried alone."""
    user = 0 if os.geteuid() == 0 else _UNSHARED["user"]  # without root, any other kind needs this one
    flags = {name: flag | user for name, flag in _UNSHARED.items()}
    done = subprocess.run(
        [sys.executable, "-I", "-c", _UNSHARE, json.dumps(flags)], capture_output=True, check=True
    )
    return [
        f"{name} ({errno.errorcode.get(code, code)})"
        for name, code in json.loads(done.stdout).items()
        if code
    ]


def _why(lack: Missing) -> str:
    return f"{lack.cause}; likely {lack.likely}"


def tiers() -> list[Availability]:
    """Each tier, with all its layers at once."""
    findings = []
    for tier, names in TIERS.items():
        ordered = tuple(name for name in LAYERS if name in names)
        report = _try(*ordered)
        if isinstance(report, Missing):
            findings.append(Availability(tier, False, f"lacks {report.layer} ({report.cause})"))
        else:
            isolation = Isolation(ordered, (), report["identity"], report["landlock"])
            findings.append(Availability(tier, True, str(isolation).partition(": ")[2]))
    return findings


def sandbox_in_short() -> str:
    """Whether programs can be executed here, and in which tier."""
    try:
        with Sandbox(SandboxConfig(), workers=1) as sandbox:
            return f"works, {sandbox.isolation}"
    except CodestillError as error:
        return f"does not work: {error.message}. {error.next_step}"
