"""What confines a forked child: descriptors, limits, identity, Landlock and seccomp, in that order."""

import errno
import os
import resource
import signal
import struct

from . import kernel, seccomp

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_PR_SET_KEEPCAPS = 8
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_BLOCK, _TRUNCATE = 1 << 6, 1 << 11, 1 << 14
_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS, _NET_BIND_AND_CONNECT = 0b11, 0b11
# CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: without a mount namespace, root needs them for a user's interpreter.
_FILE_CAPABILITIES, _READ_CAPABILITY = 0b110, 0b100
_THREADS, _THREADS_OF_USER = 1024, 8192
SOLVER_UID, JUDGE_UID = 61000, 61001
MEMORY_RESERVE = 16 << 20  # bytes, with which a program that ran out of memory can say so
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")


class Confinement:
    """The layers of one zygote; ``enter`` is called in each child."""

    def __init__(self, config: dict, scratch: str | None) -> None:
        self.config, self.scratch = config, scratch
        self.layers = layers = config["layers"]
        self.zygote = os.getpid()
        self.limits = (
            {role: self._limits(role) for role in ("solver", "interpreter", "judge")}
            if "rlimits" in layers
            else {}
        )
        self.identity = config["identity"]
        self.reads_all = False
        """Whether a user id of its own keeps root's right to read: the interpreter may be root's alone."""
        self.rulesets: dict[str, int] = {}
        self.landlock = 0
        if "landlock" in layers:
            self.landlock = landlock_version()
            self.make_rulesets()
        kernel.prctl("no_new_privs", _PR_SET_NO_NEW_PRIVS, 1)  # inherited
        self.filter, self.filter_address = None, 0
        if "seccomp" in layers:
            self.filter, self.filter_address = kernel.sock_filter(seccomp.seccomp_filter())
            # Another language's solver begins by becoming its interpreter; it can start no other program.
            self.exec_filter, self.exec_address = kernel.sock_filter(seccomp.seccomp_filter(("execve",)))

    def make_rulesets(self) -> None:
        """Also called again when the scratch directory has become another one."""
        for ruleset in self.rulesets.values():
            os.close(ruleset)
        # Where the root holds nothing else, one rule does for all of it.
        readable = ["/"] if "namespaces" in self.layers else [*self.config["readable"], *DEVICES]
        paths = (readable, self.config["listable"])
        self.rulesets = {
            "judge": landlock_ruleset(self.landlock, *paths, None),
            "solver": landlock_ruleset(self.landlock, *paths, self.scratch),
            "interpreter": landlock_ruleset(self.landlock, *paths, self.scratch, executable=True),
        }

    def enter(self, role: str, keep: list[int], cpu_seconds: float | None) -> None:
        """Confine this process as ``solver``, as ``interpreter`` (a solver that becomes another program) or
        as ``judge``; only ``keep`` and 0, 1, 2 stay open.

        Raises OSError where a layer fails: nothing untrusted may run then.
        """
        os.setsid()
        ruleset = self.rulesets.get(role)
        lowest = 3
        for descriptor in sorted([*keep, ruleset] if ruleset is not None else keep):
            os.closerange(lowest, descriptor)
            lowest = descriptor + 1
        os.closerange(lowest, 1 << 20)
        os.chdir(self.scratch if self.scratch and role != "judge" else "/")
        if self.limits:
            with Named("rlimits"):
                if cpu_seconds is not None:
                    # A back-stop: the kernel counts whole ticks, also others'. The zygote's clock is exact.
                    whole = 2 * int(-(-cpu_seconds // 1)) + 2
                    resource.setrlimit(resource.RLIMIT_CPU, (whole, whole + 1))
                for kind, pair in self.limits[role]:
                    resource.setrlimit(kind, pair)
        if self.identity == "uid":
            uid = JUDGE_UID if role == "judge" else SOLVER_UID
            if self.reads_all:
                kernel.prctl("identity", _PR_SET_KEEPCAPS, 1)
            with Named("identity"):
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            if self.reads_all:
                kernel.drop_capabilities(_READ_CAPABILITY)
        elif self.identity == "capabilities":
            kernel.drop_capabilities(_FILE_CAPABILITIES if "namespaces" not in self.layers else 0)
        kernel.prctl("dumpable", _PR_SET_DUMPABLE, 0)
        if "namespaces" not in self.layers:  # where the zygote's death is the death of all
            kernel.prctl("pdeathsig", _PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != self.zygote:
                os._exit(1)
        if ruleset is not None:
            kernel.syscall("landlock", _RESTRICT_SELF, ruleset, 0)
            os.close(ruleset)
        if self.filter_address:
            address = self.exec_address if role == "interpreter" else self.filter_address
            kernel.prctl("seccomp", _PR_SET_SECCOMP, 2, address)

    def _limits(self, role: str) -> list[tuple[int, tuple[int, int]]]:
        """``(resource, (soft, hard))``, within what this process may have.

        New processes are refused by the seccomp filter. Threads are counted for the whole user, which is the
        sandbox's own in a user namespace or under user ids of its own; where it is not, the limit is one that
        only keeps the machine's process ids from running out.
        """
        config = self.config
        own_user = "namespaces" in self.layers or config["identity"] == "uid"
        threads = _THREADS if own_user else _THREADS_OF_USER
        # The files that the zygote hands out are files too: the judge's records, and the program's output.
        size = 1 << 30 if role == "judge" else config["file_bytes"]
        memory = config["memory_bytes"]
        wanted = [
            (resource.RLIMIT_AS, memory, memory + MEMORY_RESERVE),
            (resource.RLIMIT_FSIZE, size, size),
            (resource.RLIMIT_NOFILE, config["open_files"], config["open_files"]),
            (resource.RLIMIT_NPROC, threads, threads),
            (resource.RLIMIT_CORE, 0, 0),
            (resource.RLIMIT_MEMLOCK, 0, 0),
        ]
        limits = []
        for kind, soft, hard in wanted:
            with Named("rlimits"):
                _, ceiling = resource.getrlimit(kind)
            if ceiling != resource.RLIM_INFINITY:
                soft, hard = min(soft, ceiling), min(hard, ceiling)
            limits.append((kind, (soft, hard)))
        return limits


class Named:
    """Says which layer an error is of."""

    def __init__(self, layer: str) -> None:
        self.layer = layer

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, _) -> None:
        if isinstance(error, OSError | ValueError):  # setrlimit says ValueError where it may not
            raise OSError(getattr(error, "errno", None) or errno.EPERM, str(error), self.layer) from error


def landlock_version() -> int:
    """The kernel's Landlock version, 1 or more. Raises OSError: ENOSYS not built in, EOPNOTSUPP off."""
    only_version = 1
    return kernel.syscall("landlock_create_ruleset", _CREATE_RULESET, None, 0, only_version)


def landlock_ruleset(
    version: int, readable: list[str], listable: list[str], scratch: str | None, executable: bool = False
) -> int:
    """Descriptor of a ruleset: read below ``readable``, read and write below ``scratch``, read the names that
    are below ``listable``, nothing else; with ``executable``, what is readable may be executed, too."""
    handled = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    attributes = struct.pack("=Q", handled)
    if version >= 4:
        attributes += struct.pack("=Q", _NET_BIND_AND_CONNECT)
    if version >= 6:
        attributes += struct.pack("=Q", _SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS)
    ruleset = kernel.syscall("landlock_create_ruleset", _CREATE_RULESET, attributes, len(attributes), 0)
    for path in readable:
        _allow(ruleset, path, (_READ_FILE | _READ_DIR | (_EXECUTE if executable else 0)) & handled)
    for path in listable:
        _allow(ruleset, path, _READ_DIR & handled)
    _allow(ruleset, "/dev/null", (_READ_FILE | _WRITE_FILE | _TRUNCATE) & handled)
    if scratch is not None:
        _allow(ruleset, scratch, handled & ~(_MAKE_CHAR | _MAKE_BLOCK | _EXECUTE))
    return ruleset


def _allow(ruleset: int, path: str, access: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # a directory that this system does not have
        return
    try:
        if not os.path.isdir(path):
            access &= ~_READ_DIR
        rule = struct.pack("=Qi", access, handle)
        path_beneath = 1
        kernel.syscall("landlock_add_rule", _ADD_RULE, ruleset, path_beneath, rule, 0)
    finally:
        os.close(handle)
