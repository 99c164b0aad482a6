"""The network, objects of System V and POSIX, and the machine as a whole."""

from tests.sandbox.hostile.program import Hostile

REFUSED = "exception PermissionError"


def _act(name: str, how: str, ends: str | tuple[str, str] = REFUSED, works: str = "anyone") -> Hostile:
    return Hostile(name, f"import socket\ndef f():\n    {how}\n    return True", ends, works=works)


NETWORK = [
    _act("a connection to this machine", "socket.create_connection(('127.0.0.1', PORT), 2).close()"),
    _act("a connection to another machine", "socket.create_connection(('192.0.2.1', 80), 0.2)", works=""),
    _act(
        "a datagram",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', UDP_PORT))",
    ),
    _act("an abstract socket", "socket.socket(socket.AF_UNIX).connect(ADDRESS)"),
    _act(
        "a datagram to an abstract socket",
        "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'x', ADDRESS + '-datagrams')",
    ),
    _act("a socket in the file system", "socket.socket(socket.AF_UNIX).connect(SOCKET)"),
    _act("a netlink socket", "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).bind((0, 0))"),
    _act("a raw socket", "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)", works="root"),
    _act("a packet socket", "socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)", works="root"),
    _act("a socket of the hypervisor", "socket.socket(40, socket.SOCK_STREAM)", works=""),
    _act("the kernel's ciphers", "socket.socket(38, socket.SOCK_SEQPACKET)", works=""),
    _act("a server", "socket.create_server(('127.0.0.1', 0)).close()"),
    _act(
        "a pair for datagrams, sent elsewhere",
        "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'x', ADDRESS + '-datagrams')",
    ),
    _act("a pair for packets", "socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)"),
    _act(
        "a pair, connected anew",
        "socket.socketpair()[0].connect(ADDRESS)",
        works="",
    ),
    _act("a pair, bound to a name", "socket.socketpair()[0].bind('\\0' + MARK)"),
    _act("the name of a machine", "socket.getaddrinfo('localhost', 80)", "exception socket.gaierror"),
    _act(
        "a web page",
        "import urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{PORT}/')",
        "exception urllib.error.URLError",
        "",
    ),
    Hostile(
        "an inherited socket",
        """
def f():
    for number in range(256):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                return True
        except OSError:
            pass
""",
        "wrong",
    ),
    Hostile(
        "inherited descriptors",
        """
def kind(number):
    try:
        return stat.S_IFMT(os.fstat(number).st_mode)
    except OSError:
        return None

def f():
    kinds = {number: kind(number) for number in range(1024) if kind(number) is not None}
    standard = [kinds.pop(number) for number in (0, 1, 2)]
    return (standard, sorted(kinds.values())) != (
        [stat.S_IFCHR, stat.S_IFREG, stat.S_IFREG], [stat.S_IFIFO, stat.S_IFIFO]
    )
""",
        "wrong",
    ),
]

QUEUES = [
    _act(
        "reading a message queue",
        "buffer = bytes(100); checked(libc.msgrcv(MESSAGES, buffer, 90, 0, 0o4000))",
    ),
    _act(
        "writing to a message queue",
        "checked(libc.msgsnd(MESSAGES, struct.pack('@l8s', 1, b'x'), 8, 0o4000))",
    ),
    _act("deleting a message queue", "checked(libc.msgctl(MESSAGES, 0, None))"),
    _act("a message queue of its own", "checked(libc.msgctl(checked(libc.msgget(0, 0o1600)), 0, None))"),
    _act("changing a semaphore", "checked(libc.semctl(SEMAPHORE, 0, 16, 7))"),
    _act("raising a semaphore", "checked(libc.semop(SEMAPHORE, struct.pack('Hhh', 0, 1, 0), 1))"),
    _act("deleting a semaphore", "checked(libc.semctl(SEMAPHORE, 0, 0))"),
    Hostile(
        "reading shared memory",
        "def f():\n    return ctypes.string_at(checked(libc.shmat(SEGMENT, None, 0o10000)), 6) == b'secret'",
        REFUSED,
        works="anyone",
    ),
    _act("deleting shared memory", "checked(libc.shmctl(SEGMENT, 0, None))"),
    _act("reading a POSIX queue", "checked(libc.mq_open(QUEUE, 0, 0, None))"),
    _act("deleting a POSIX queue", "checked(libc.mq_unlink(QUEUE))"),
    _act("a key", "call('keyctl', 0, -3, 0)"),
    _act("a key of its own", "call('add_key', b'user', b'x', b'x', 1, -2)", works=""),
]

_ALL = """
ACTS = {
    "mount": lambda: call("mount", b"none", b"/", b"tmpfs", 0, 0),
    "bind": lambda: call("mount", b"/", b"/", 0, 4096, 0),
    "umount": lambda: call("umount2", b"/", 2),
    "chroot": lambda: call("chroot", b"/"),
    "pivot_root": lambda: call("pivot_root", b"/", b"/"),
    "fsopen": lambda: call("fsopen", b"tmpfs", 0),
    "open_tree": lambda: call("open_tree", -100, b"/", 1),
    "move_mount": lambda: call("move_mount", -100, b"/", -100, b"/", 0),
    "mount_setattr": lambda: call("mount_setattr", -100, b"/", 0, bytes(32), 32),
    "users": lambda: call("unshare", 1 << 28),
    "mounts": lambda: call("unshare", 0x20000),
    "processes": lambda: call("unshare", 1 << 29),
    "network": lambda: call("unshare", 1 << 30),
    "setns": lambda: call("setns", 0, 0),
    "name": lambda: call("sethostname", b"hostile", 7),
    "time": lambda: call("settimeofday", bytes(16), 0),
    "clock": lambda: call("clock_settime", 0, bytes(16)),
    "adjtimex": lambda: call("adjtimex", bytes(256)),
    "personality": lambda: call("personality", 0x40000),
    "user": lambda: os.setuid(os.getuid()),
    "effective user": lambda: os.seteuid(os.getuid()),
    "group": lambda: os.setgid(os.getgid()),
    "three users": lambda: os.setresuid(os.getuid(), os.getuid(), os.getuid()),
    "groups": lambda: os.setgroups([]),
    "capabilities": lambda: call("capset", struct.pack("2I", 0x20080522, 0), b"\\xff" * 24),
    "reboot": lambda: call("reboot", 0, 0, 0, 0),
    "kernel": lambda: call("kexec_load", 0, 0, 0, 0),
    "module": lambda: call("init_module", b"", 0, b""),
    "module by file": lambda: call("finit_module", 0, b"", 0),
    "module's end": lambda: call("delete_module", b"x", 0),
    "swap": lambda: call("swapon", b"/", 0),
    "accounting": lambda: call("acct", 0),
    "log": lambda: call("syslog", 10, 0, 0),
    "quota": lambda: call("quotactl", 0x800002 << 8, 0, 0, 0),
    "terminal": lambda: call("vhangup"),
    "bpf": lambda: call("bpf", 0, bytes(128), 128),
    "perf": lambda: call("perf_event_open", struct.pack("2I", 1, 112) + bytes(104), 0, -1, -1, 0),
    "userfaultfd": lambda: call("userfaultfd", 1),
    "io_uring": lambda: call("io_uring_setup", 1, bytes(120)),
    "aio": lambda: call("io_setup", 1, ctypes.byref(ctypes.c_ulong())),
    "fanotify": lambda: call("fanotify_init", 0, 0),
    "memfd": lambda: call("memfd_create", b"x", 0),
    "secret memory": lambda: call("memfd_secret", 0),
    "kcmp": lambda: call("kcmp", os.getpid(), os.getppid(), 0, 0, 0),
    "advice to another": lambda: call("process_madvise", 0, bytes(16), 1, 20, 0),
    "priority of its input": lambda: call("ioprio_set", 1, 0, 0),
    "handle": lambda: call("name_to_handle_at", -100, b"/", bytes(8), bytes(4), 0),
}
NOT_PERMITTED, NOT_THERE = 1, 38

def f():
    done = []
    for name, act in ACTS.items():
        try:
            act()
            done.append(name)
        except OSError as error:  # any other error tells of a call that was let through and met its arguments
            if error.errno not in (NOT_PERMITTED, NOT_THERE):
                done.append((name, str(error)))
    return done or None
"""

MACHINE = [
    Hostile("calls that administer the machine", _ALL, "wrong", tests="assert f() is not None"),
    _act("a root directory of its own", "os.chroot('.')", works=""),
    _act("a mount of its own", "call('unshare', (1 << 28) | 0x20000)", works=""),
    _act("memory without a name", "os.close(os.memfd_create('x'))"),
    _act("the rights of root", "os.setuid(0)", works="root"),
    Hostile(
        "segments of the processor",
        "def f():\n    return call(154, 0, ctypes.create_string_buffer(64), 64) >= 0",
        REFUSED,
        works="anyone",
        machine="x86_64",
    ),
    Hostile("ports of the processor", "def f():\n    return call(172, 3) == 0", REFUSED, machine="x86_64"),
    Hostile(
        "executing memory without a name",
        "def f():\n    file = os.memfd_create('x')\n    os.write(file, b'#!/bin/sh\\n')\n"
        "    os.execve(file, ['x'], {})",
        REFUSED,
    ),
]

PROGRAMS = NETWORK + QUEUES + MACHINE
