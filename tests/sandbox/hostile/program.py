"""The form of a hostile program, and what stands before each one's source."""

from dataclasses import dataclass
from typing import Any

from codestill.sandbox import Program
from codestill.types import Test

# System call numbers: (x86_64, aarch64), from the kernel's tables.
_CALLS = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "capset": (126, 91),
    "chroot": (161, 51),
    "clock_settime": (227, 112),
    "clone": (56, 220),
    "clone3": (435, 435),
    "delete_module": (176, 106),
    "execveat": (322, 281),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsopen": (430, 430),
    "get_robust_list": (274, 100),
    "init_module": (175, 105),
    "inotify_init1": (294, 26),
    "io_setup": (206, 0),
    "io_uring_setup": (425, 425),
    "ioprio_set": (251, 30),
    "kcmp": (312, 272),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "openat2": (437, 437),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "rt_sigqueueinfo": (129, 138),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "setxattr": (188, 5),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "tgkill": (234, 131),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}

_PRELUDE = f"""
import ctypes, fcntl, json, os, select, signal, stat, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = libc.sbrk.restype = libc.shmat.restype = ctypes.c_long
CALLS = {_CALLS!r}
COLUMN = 0 if os.uname().machine == "x86_64" else 1

def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

def call(name, *arguments):
    "A raw system call, by its name or number."
    number = CALLS[name][COLUMN] if name in CALLS else name
    words = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    return checked(libc.syscall(ctypes.c_long(number), *words))

def neighbours():
    "Other processes that may be there: the zygote, the judge, other workers, the caller."
    return [n for n in (*range(1, 100), *range(max(1, os.getpid() - 40), os.getpid() + 40), CALLER)
            if n != os.getpid()]

def channel():
    "The descriptors on which the solver hears requests and answers them."
    found = {{}}
    for number in range(3, 256):
        try:
            if stat.S_ISFIFO(os.fstat(number).st_mode):
                found[fcntl.fcntl(number, fcntl.F_GETFL) & 3] = number
        except OSError:
            pass
    return found[os.O_RDONLY], found[os.O_WRONLY]

def say(frame, kind=b"J"):
    "Send a frame to the judge as if it were an answer."
    body = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    data = len(body).to_bytes(4, "big") + kind + body
    while data:
        data = data[os.write(channel()[1], data):]
"""


@dataclass(frozen=True)
class Hostile:
    """A program, whose ``f`` gives the right answer only where a forbidden act has worked."""

    name: str
    source: str
    ends: str | tuple[str, str]
    """How the result has to begin: verdict, and class of the error; for tiers A and B where they differ."""
    tests: str | tuple[str, ...] = "assert f() is True"
    setup: str = ""
    support: str = ""
    support_names: tuple[str, ...] = ()
    cpu_seconds: float | None = None
    works: str = ""
    """Who can run it to its end where nothing forbids it: "anyone", "root" or none. The act is harmless then,
    and a test shows that the program is able to do it."""
    waits: bool = False
    """It meets the wall limit, so it runs where that one is short."""
    machine: str = ""
    """The only one that it is for."""

    def expected(self, tier: str) -> str:
        return self.ends if isinstance(self.ends, str) else self.ends["AB".index(tier)]

    def text(self, names: dict[str, Any]) -> str:
        """The source, after the names of what it is to attack."""
        return "".join(f"{name} = {value!r}\n" for name, value in names.items()) + _PRELUDE + self.source

    def program(self, names: dict[str, Any], token: str) -> Program:
        """``token`` stands in the tests where they have TOKEN; the program cannot know it."""
        tests = (self.tests,) if isinstance(self.tests, str) else self.tests
        return Program(
            solution=self.text(names),
            entry_point="f",
            test_setup=self.setup.replace("TOKEN", token),
            tests=tuple(Test(code=test.replace("TOKEN", token)) for test in tests),
            cpu_seconds=self.cpu_seconds,
            support=self.support,
            support_names=self.support_names,
        )
