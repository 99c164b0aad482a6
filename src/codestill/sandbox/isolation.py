"""Which isolation works on this machine: found by trying each layer, and never degraded silently."""

import errno
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from codestill.errors import SandboxError, SandboxUnavailable
from codestill.sandbox.config import SandboxConfig
from codestill.sandbox.worker import LAYERS, Lost, MissingLayer, Worker

TIERS = {
    "A": frozenset(LAYERS),
    "B": frozenset(("landlock", "seccomp", "rlimits")),
    "C": frozenset(("seccomp", "rlimits")),
}
_logger = logging.getLogger(__name__)
_warnings: set[str] = set()


@dataclass(frozen=True)
class Missing:
    """A layer that does not work here."""

    layer: str
    what: str
    """The call that failed."""
    code: int
    message: str

    @property
    def cause(self) -> str:
        return f"{self.what}: {errno.errorcode.get(self.code, self.code)}"

    @property
    def likely(self) -> str:
        """The likely cause, and the remedy."""
        refused = self.code in (errno.EPERM, errno.EACCES)
        if self.layer == "namespaces":
            if self.what == "uid_map":
                return "this process may not map user ids; give it CAP_SETUID, or run as an ordinary user"
            if self.code in (errno.ENOSPC, errno.EUSERS):
                return "the number of namespaces is limited; raise the sysctl user.max_user_namespaces"
            if refused:
                return (
                    "a container's profile, a chroot, or a distribution's rule (Ubuntu's sysctl "
                    "kernel.apparmor_restrict_unprivileged_userns=1) refuses user namespaces; allow "
                    "them there, e.g. docker run --security-opt seccomp=unconfined"
                )
            return "the kernel is older than 5.12 or was built without namespaces; use a newer one"
        if self.layer == "landlock":
            if self.code == errno.EOPNOTSUPP:
                return "Landlock is built in and off; add landlock to the kernel's lsm= parameter"
            if refused:
                return "a container's profile refuses Landlock; allow its three system calls there"
            return "the kernel is older than 5.13 or was built without Landlock; use a newer one"
        if self.layer == "pidfd":
            return "the kernel (or gVisor) is too old, or a container's profile refuses it; use a newer one"
        if self.layer == "seccomp":
            if self.code == errno.ENOSYS:
                return "there is no filter for this processor; use an x86_64 or aarch64 machine"
            return "the kernel lacks CONFIG_SECCOMP_FILTER, or a container's profile forbids prctl"
        return "a container's profile forbids it"


@dataclass(frozen=True)
class Isolation:
    """The layers in force, and those that are missing."""

    layers: tuple[str, ...]
    missing: tuple[Missing, ...]
    identity: str
    """``uid``: solver and judge have user ids of their own; ``capabilities``: they have the caller's, without
    its capabilities."""
    landlock: int

    @property
    def tier(self) -> str:
        return next((tier for tier, needed in TIERS.items() if needed <= set(self.layers)), "unsafe")

    def __str__(self) -> str:
        names = [f"landlock {self.landlock}" if name == "landlock" else name for name in self.layers]
        lacks = [f"{item.layer} ({errno.errorcode.get(item.code, item.code)})" for item in self.missing]
        text = f"tier {self.tier}: {', '.join([*names, self.identity])}"
        return text + (f"; without {', '.join(lacks)}" if lacks else "")


def isolate(config: SandboxConfig) -> tuple[Isolation, Worker]:
    """The isolation that ``config.tier`` demands, and a first worker that has it.

    Raises SandboxUnavailable, naming the layer that does not work; SandboxError where nothing starts."""
    wanted = [name for name in LAYERS if name in TIERS.get(config.tier, LAYERS)]
    missing: list[Missing] = []
    while isinstance(worker := start_worker(config, wanted), Missing):
        required = {"best": TIERS["C"], "unsafe": frozenset()}.get(config.tier, frozenset(wanted))
        if worker.layer in required or worker.layer not in wanted:
            raise _unavailable(worker, config.tier)
        wanted.remove(worker.layer)
        missing.append(worker)
    report = worker.report
    isolation = Isolation(tuple(wanted), tuple(missing), report["identity"], report["landlock"])
    for lack in missing:
        _warn(
            f"the sandbox runs without its layer {lack.layer} ({lack.cause}), in {isolation}. "
            f"Likely {lack.likely}. `codestill doctor --sandbox` shows details."
        )
    return isolation, worker


def start_worker(config: SandboxConfig, layers: Sequence[str]) -> Worker | Missing:
    """A worker with exactly these layers, or the first of them that does not work here.

    Raises SandboxError where nothing starts."""
    try:
        return Worker(config, layers)
    except MissingLayer as lack:
        return Missing(lack.layer, lack.what, lack.code, lack.message)
    except (Lost, OSError) as error:
        # A system call of the caller itself, before any layer: errors of starting Python name a file.
        if isinstance(error, OSError) and not error.filename and error.errno in (errno.ENOSYS, errno.EPERM):
            return Missing("pidfd", "pidfd_open", error.errno, error.strerror or "")
        raise SandboxError(
            f"a sandboxed Python process does not start: {error}",
            next_step="Free processes, memory or file descriptors (ulimit -a), and check the modules that "
            "sandbox.preload names.",
        ) from error


def _warn(text: str) -> None:
    """Once per process."""
    if text not in _warnings:
        _warnings.add(text)
        _logger.warning(text)


def _unavailable(lack: Missing, tier: str) -> SandboxUnavailable:
    wanted_for = "" if tier in ("best", "unsafe") else f" for tier {tier}"
    unsafe = "Inside a throw-away virtual machine, tier: unsafe runs untrusted programs without it."
    return SandboxUnavailable(
        f"the sandbox layer {lack.layer}, needed{wanted_for}, does not work on this machine ({lack.cause}); "
        f"likely {lack.likely}",
        next_step="Allow it, or use another machine or container (docs/sandbox.md)."
        + (f" {unsafe}" if lack.layer in LAYERS else ""),
    )
