"""Namespaces of the zygote's own, and a root directory that holds what Python needs to run and no more."""

import contextlib
import os

from . import kernel
from .confine import DEVICES, JUDGE_UID, SOLVER_UID

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = (
    0x20000,
    0x4000000,
    0x8000000,
    1 << 28,
    1 << 29,
    1 << 30,
)
_ALL = _NEWNS | _NEWUTS | _NEWIPC | _NEWUSER | _NEWPID | _NEWNET
_NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _PRIVATE = 2, 4, 8, 32, 4096, 16384, 1 << 18
_RDONLY = 1
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000
SCRATCH = "/box"
INODES = 4096


def enter() -> bool:
    """Unshare every namespace; children of this process are in the new process namespace.

    Returns whether two user ids besides the caller's exist there, for solver and judge. Raises OSError.
    """
    if os.geteuid() != 0:
        uid, gid = os.geteuid(), os.getegid()
        kernel.unshare(_ALL)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
        return False
    # More than one id can only be mapped by a process that is outside and may change ids: a helper.
    wait, go = os.pipe()
    target, helper = os.getpid(), os.fork()
    if helper == 0:
        os.close(go)
        status = 1
        try:
            if os.read(wait, 1):
                for kind in ("uid", "gid"):
                    ids = f"0 0 1\n{SOLVER_UID} {SOLVER_UID} {JUDGE_UID - SOLVER_UID + 1}\n"
                    _write(f"/proc/{target}/{kind}_map", ids)
                status = 0
        finally:
            os._exit(status)
    os.close(wait)
    own_users = True
    try:
        try:
            kernel.unshare(_ALL)
        except OSError:  # user namespaces can be off where the others are not
            own_users = False
            kernel.unshare(_ALL & ~_NEWUSER)
        else:
            os.write(go, b".")
    finally:
        os.close(go)
        _, status = os.waitpid(helper, 0)
    if own_users and status != 0:
        raise PermissionError(1, "the user ids cannot be mapped", "uid_map")
    return True


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def build_root(readable: list[str], hidden: list[str], scratch_bytes: int) -> None:
    """Make a minimal read-only root of the readable paths, the devices and an empty scratch; move there."""
    kernel.mount(None, "/", None, _REC | _PRIVATE)
    root = _mount_point(readable)
    kernel.mount("tmpfs", root, "tmpfs", _NOSUID | _NODEV, "size=4m,mode=755")
    for path in (*readable, *DEVICES):
        _bind(path, root + path)
    for path in hidden:
        kernel.mount("tmpfs", root + path, "tmpfs", _RDONLY | _NOSUID | _NODEV | _NOEXEC, "size=4k")
    for link in ("/lib", "/lib32", "/lib64"):  # libraries know each other by these names
        if os.path.islink(link) and not os.path.lexists(root + link):
            os.symlink(os.readlink(link), root + link)
    os.makedirs(root + SCRATCH)
    if not os.path.lexists(root + "/tmp"):  # an interpreter may lie below it
        os.symlink(SCRATCH[1:], root + "/tmp")
    os.makedirs(root + "/old")
    os.chdir(root)
    kernel.syscall("pivot_root", _PIVOT_ROOT[os.uname().machine], b".", b"old")
    os.chdir("/")
    kernel.unmount("/old")
    os.rmdir("/old")
    kernel.mount(None, "/", None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV)
    mount_scratch(scratch_bytes)
    with contextlib.suppress(PermissionError):  # podman's profile refuses this alone
        kernel.set_host_name("sandbox")


def mount_scratch(size: int) -> None:
    options = f"size={size},nr_inodes={INODES},mode=777"
    kernel.mount("tmpfs", SCRATCH, "tmpfs", _NOSUID | _NODEV | _NOEXEC, options)


def renew_scratch(size: int) -> None:
    """An empty scratch directory, at the same cost however full the old one was."""
    kernel.unmount(SCRATCH)
    mount_scratch(size)


def _mount_point(readable: list[str]) -> str:
    """A directory that is there, and below which nothing has to be read from."""
    for path in ("/mnt", "/media", "/srv", "/sys", "/tmp"):
        if os.path.isdir(path) and not any(f"{item}/".startswith(f"{path}/") for item in readable):
            return path
    raise FileNotFoundError(2, "no directory to build the root in", "/mnt")


def _bind(path: str, target: str) -> None:
    if not os.path.exists(path):
        return
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    kernel.mount(path, target, None, _BIND | _REC)
    read_only, no_setuid, no_devices, no_execution = 1, 2, 4, 8
    flags = no_setuid | (no_execution if path in DEVICES else read_only | no_devices)
    attributes = flags.to_bytes(8, "little") + bytes(24)
    kernel.syscall(
        "mount_setattr",
        _MOUNT_SETATTR,
        _AT_FDCWD,
        target.encode(),
        _AT_RECURSIVE,
        attributes,
        len(attributes),
    )
