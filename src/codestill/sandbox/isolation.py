"""What confines an untrusted program: a seccomp filter, a Landlock ruleset and resource limits.

The parts are prepared here, in the trusted process; ``harness.py`` only switches them on, in the child,
before the first untrusted byte runs. Both kernel interfaces are reached by raw system calls, so nothing has
to be installed, and both work as root and as an unprivileged user.
"""

import ctypes
import errno
import os
import platform
import resource
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

from codestill.errors import SandboxUnavailable

# System call numbers: (x86_64, aarch64), from the kernel's tables; None where the machine has no such call.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    # processes
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "setpgid": (109, 154),
    "setsid": (112, 157),
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "setpriority": (141, 140),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "ioprio_set": (251, 30),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # the network, and local sockets with an address
    "socket": (41, 198),
    "bind": (49, 200),
    "connect": (42, 203),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    # memory that outlives the process or escapes its limits
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    # keys, tracing, and calls with a history of kernel faults
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # the file system as a whole
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "truncate": (76, 45),  # by path: Landlock governs it only from version 3 on
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    # namespaces and identity
    "unshare": (272, 97),
    "setns": (308, 268),
    "personality": (135, 92),
    "setuid": (105, 146),
    "setgid": (106, 144),
    "setreuid": (113, 145),
    "setregid": (114, 143),
    "setresuid": (117, 147),
    "setresgid": (119, 149),
    "setfsuid": (122, 151),
    "setfsgid": (123, 152),
    "setgroups": (116, 159),
    "capset": (126, 91),
    # the machine
    "reboot": (169, 142),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "syslog": (103, 116),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "vhangup": (153, 58),
    "iopl": (172, None),
    "ioperm": (173, None),
}
# Answered with success and not carried out: shutil.copy needs them, and Landlock does not govern them.
_IGNORED: dict[str, tuple[int | None, int | None]] = {
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
}
_CLONE, _CLONE3, _PRCTL, _PRLIMIT, _SOCKETPAIR = (56, 220), (435, 435), (157, 167), (302, 261), (53, 199)
_NEWEST = 462  # mseal: calls that are newer than this table do not exist for the program
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

_ALLOW, _REFUSE, _ABSENT, _IGNORE = 0x7FFF0000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS, 0x50000
_KILL = 0x80000000
_LOAD, _EQUAL, _GREATER, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x54, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; arguments are 64 bits wide
_CLONE_THREAD, _PR_SET_PDEATHSIG, _AF_UNIX, _SOCK_STREAM = 0x10000, 1, 1, 1


def seccomp_filter() -> bytes:
    """The BPF program (``struct sock_filter`` array) that refuses processes, sockets and administration.

    Threads are allowed; ``clone3`` answers ENOSYS, because a filter cannot see its flags and libc then uses
    ``clone``. Raises SandboxUnavailable on a machine whose call numbers are not known here.
    """
    machine = platform.machine()
    if machine not in _MACHINES:
        raise SandboxUnavailable(
            f"the sandbox has no seccomp filter for {machine} machines",
            next_step="Use an x86_64 or aarch64 machine.",
        )
    column, architecture = _MACHINES[machine]
    program: list[tuple[int, int, int, int]] = [  # (code, jump if true, jump if false, k)
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_GREATER, 0, 1, _NEWEST),
        (_RETURN, 0, 0, _ABSENT),
    ]

    def rule(numbers: tuple[int | None, int | None], *body: tuple[int, int, int, int]) -> None:
        number = numbers[column]
        if number is not None:
            program.extend([(_EQUAL, 0, len(body), number), *body])

    for numbers in _REFUSED.values():
        rule(numbers, (_RETURN, 0, 0, _REFUSE))
    for numbers in _IGNORED.values():
        rule(numbers, (_RETURN, 0, 0, _IGNORE))
    rule(_CLONE3, (_RETURN, 0, 0, _ABSENT))
    allow, refuse = (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)
    rule(_CLONE, (_LOAD, 0, 0, _ARGUMENTS), (_ANY_BIT, 0, 1, _CLONE_THREAD), allow, refuse)
    # The child must die with the harness that started it, so it may not take that back.
    rule(_PRCTL, (_LOAD, 0, 0, _ARGUMENTS), (_EQUAL, 0, 1, _PR_SET_PDEATHSIG), refuse, allow)
    # Its own limits are bounded by the hard ones; those of another process are not its business.
    rule(_PRLIMIT, (_LOAD, 0, 0, _ARGUMENTS), (_EQUAL, 0, 1, 0), allow, refuse)
    # A connected stream pair is what asyncio wakes itself with; it cannot be given an address.
    rule(
        _SOCKETPAIR,
        (_LOAD, 0, 0, _ARGUMENTS),
        (_EQUAL, 0, 3, _AF_UNIX),
        (_LOAD, 0, 0, _ARGUMENTS + 8),
        (_AND, 0, 0, 0xF),
        (_EQUAL, 1, 0, _SOCK_STREAM),
        refuse,
        allow,
    )
    program.append(allow)
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


_CREATE_RULESET, _ADD_RULE, _RULE_PATH_BENEATH, _CREATE_RULESET_VERSION = 444, 445, 1, 1
_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_BLOCK, _EXECUTE, _TRUNCATE = 1 << 6, 1 << 11, 1 << 0, 1 << 14
_libc = ctypes.CDLL(None, use_errno=True)


def _syscall(number: int, *arguments: object) -> int:
    result = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def landlock_version() -> int:
    """The kernel's Landlock version, 1 or more. Raises OSError: ENOSYS not built in, EOPNOTSUPP off."""
    return _syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_CREATE_RULESET_VERSION))


def landlock_ruleset(version: int, readable: Iterable[Path], scratch: Path) -> int:
    """Descriptor of a ruleset: read below ``readable``, read and write below ``scratch``, nothing else."""
    handled = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    attributes = struct.pack("=Q", handled)
    ruleset = _syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0))
    try:
        for path in readable:
            _allow(ruleset, path, (_READ_FILE | _READ_DIR) & handled)
        _allow(ruleset, Path("/dev/null"), (_READ_FILE | _WRITE_FILE | _TRUNCATE) & handled)
        _allow(ruleset, scratch, handled & ~(_MAKE_CHAR | _MAKE_BLOCK | _EXECUTE))
    except BaseException:
        os.close(ruleset)
        raise
    return ruleset


def _allow(ruleset: int, path: Path, access: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # a directory that this system does not have
        return
    try:
        if not path.is_dir():
            access &= ~_READ_DIR
        rule = struct.pack("=Qi", access, handle)
        _syscall(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_RULE_PATH_BENEATH), rule, ctypes.c_uint(0))
    finally:
        os.close(handle)


def site_packages() -> list[str]:
    """The directories of installed packages that this interpreter searches: programs may import numpy."""
    return [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]


def readable_paths() -> list[Path]:
    """What a program may read: the interpreter, installed packages, system libraries, randomness."""
    system = ("/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64")
    others = ("/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo", "/dev/urandom", "/dev/random")
    interpreter = (sys.base_prefix, sys.base_exec_prefix, sys.prefix, *site_packages())
    loader = [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path.startswith("/")]
    found = {Path(path).resolve() for path in (*system, *others, *interpreter, *loader)}
    found = {path for path in found if path.exists() and path != Path("/usr")}
    return sorted(path for path in found if not found & set(path.parents))


def resource_limits(
    cpu_seconds: int, memory_bytes: int, file_bytes: int, open_files: int
) -> list[tuple[int, int, int]]:
    """``(resource, soft, hard)`` for setrlimit.

    The number of processes is not among them: that limit counts every process of the user, so a busy machine
    would change verdicts. The seccomp filter refuses new processes instead.
    """
    return [
        (resource.RLIMIT_AS, memory_bytes, memory_bytes),
        (resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + 1),
        (resource.RLIMIT_FSIZE, file_bytes, file_bytes),
        (resource.RLIMIT_NOFILE, open_files, open_files),
        (resource.RLIMIT_CORE, 0, 0),
    ]
