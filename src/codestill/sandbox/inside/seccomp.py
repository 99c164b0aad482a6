"""The seccomp filter: which system calls an untrusted program may make.

The filter is prepared once, in the zygote, and installed in every child before the first untrusted byte runs.
System calls are made raw, so nothing has to be installed.
"""

import errno
import os
import struct

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
    "shmctl": (31, 195),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "semctl": (66, 191),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
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
    "io_setup": (206, 0),
    "modify_ldt": (154, None),
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
    "inotify_init": (253, None),  # Landlock lets a program watch what it may not read
    "inotify_init1": (294, 26),
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
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
}
# Answered as by a file system that has none: they tell of files that Landlock keeps from being opened.
_UNSUPPORTED: dict[str, tuple[int | None, int | None]] = {
    "getxattr": (191, 8),
    "lgetxattr": (192, 9),
    "fgetxattr": (193, 10),
    "listxattr": (194, 11),
    "llistxattr": (195, 12),
    "flistxattr": (196, 13),
}
_CLONE, _CLONE3, _PRCTL, _PRLIMIT, _SOCKETPAIR = (56, 220), (435, 435), (157, 167), (302, 261), (53, 199)
_OPEN, _OPENAT, _OPENAT2, _FCNTL, _IOCTL = (2, None), (257, 56), (437, 437), (72, 25), (16, 29)
_NEWEST = 462  # mseal: calls that are newer than this table do not exist for the program
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

_ALLOW, _KILL, _IGNORE = 0x7FFF0000, 0x80000000, 0x50000
_REFUSE, _ABSENT, _UNSUPPORT = (0x50000 | code for code in (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP))
_LOAD, _EQUAL, _GREATER, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x25, 0x35, 0x45, 0x54, 0x06
_JUMP = 0x05
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; arguments are 64 bits wide
_CLONE_THREAD, _PR_SET_PDEATHSIG, _AF_UNIX, _SOCK_STREAM = 0x10000, 1, 1, 1
_TRUNCATE, _NO_ACCESS = 0o1000, 3
# F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY
_FCNTL_SIGNALS = (8, 10, 15, 1024, 1026)
# TCGETS, TCGETS2, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
_IOCTL_HARMLESS = (0x5401, 0x802C542A, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, operand."""
_allow, _refuse = (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)


def seccomp_filter(allowed: tuple[str, ...] = ()) -> bytes:
    """The BPF program (``struct sock_filter`` array) that refuses processes, sockets and administration.

    Threads are allowed; ``clone3`` answers ENOSYS, because a filter cannot see its flags and libc then uses
    ``clone``. ``allowed`` are refused calls that are not, by name. Raises OSError on a machine whose call
    numbers are not known here.
    """
    machine = os.uname().machine
    if machine not in _MACHINES:
        raise OSError(errno.ENOSYS, f"no filter for {machine} machines")
    column, architecture = _MACHINES[machine]
    bodies: dict[int, list[Instruction]] = {}

    def rule(numbers: tuple[int | None, int | None], *body: Instruction) -> None:
        number = numbers[column]
        if number is not None:
            bodies[number] = list(body)

    for name, numbers in _REFUSED.items():
        if name not in allowed:
            rule(numbers, _refuse)
    for numbers in _IGNORED.values():
        rule(numbers, (_RETURN, 0, 0, _IGNORE))
    for numbers in _UNSUPPORTED.values():
        rule(numbers, (_RETURN, 0, 0, _UNSUPPORT))
    # Opening can truncate without a right to write, which Landlock governs only from version 3 on.
    for numbers, argument in ((_OPEN, 1), (_OPENAT, 2)):
        rule(
            numbers,
            (_LOAD, 0, 0, _ARGUMENTS + 8 * argument),
            (_AND, 0, 0, _TRUNCATE | _NO_ACCESS),
            *_among((_TRUNCATE, _TRUNCATE | _NO_ACCESS), _refuse, _allow),
        )
    rule(_OPENAT2, (_RETURN, 0, 0, _ABSENT))  # its flags cannot be seen
    # Signals to whoever is named the owner of a descriptor.
    rule(_FCNTL, (_LOAD, 0, 0, _ARGUMENTS + 8), *_among(_FCNTL_SIGNALS, _refuse, _allow))
    # Some change a file through a descriptor that may only read it.
    rule(_IOCTL, (_LOAD, 0, 0, _ARGUMENTS + 8), *_among(_IOCTL_HARMLESS, _allow, _refuse))
    rule(_CLONE3, (_RETURN, 0, 0, _ABSENT))
    rule(_CLONE, (_LOAD, 0, 0, _ARGUMENTS), (_ANY_BIT, 0, 1, _CLONE_THREAD), _allow, _refuse)
    # The child must die with the harness that started it, so it may not take that back.
    rule(_PRCTL, (_LOAD, 0, 0, _ARGUMENTS), (_EQUAL, 0, 1, _PR_SET_PDEATHSIG), _refuse, _allow)
    # Its own limits are bounded by the hard ones; those of another process are not its business.
    rule(_PRLIMIT, (_LOAD, 0, 0, _ARGUMENTS), (_EQUAL, 0, 1, 0), _allow, _refuse)
    # A connected stream pair is what asyncio wakes itself with; it cannot be given an address.
    rule(
        _SOCKETPAIR,
        (_LOAD, 0, 0, _ARGUMENTS),
        (_EQUAL, 0, 3, _AF_UNIX),
        (_LOAD, 0, 0, _ARGUMENTS + 8),
        (_AND, 0, 0, 0xF),
        (_EQUAL, 1, 0, _SOCK_STREAM),
        _refuse,
        _allow,
    )
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_GREATER, 0, 1, _NEWEST),
        (_RETURN, 0, 0, _ABSENT),
        *_search(sorted(bodies.items())),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _among(values: tuple[int, ...], then: Instruction, otherwise: Instruction) -> list[Instruction]:
    """``then`` where the loaded word is one of these."""
    count = len(values)
    return [*((_EQUAL, count - place, 0, value) for place, value in enumerate(values)), otherwise, then]


def _search(rules: list[tuple[int, list[Instruction]]]) -> list[Instruction]:
    """A binary search for the call's number: the kernel walks it for every call there is, in every child."""
    if len(rules) <= 3:
        steps = [((_EQUAL, 0, len(body), number), *body) for number, body in rules]
        return [*(instruction for step in steps for instruction in step), _allow]
    middle = len(rules) // 2
    below, above = _search(rules[:middle]), _search(rules[middle:])
    if len(below) < 256:
        return [(_AT_LEAST, len(below), 0, rules[middle][0]), *below, *above]
    return [(_AT_LEAST, 0, 1, rules[middle][0]), (_JUMP, 0, 0, len(below)), *below, *above]
