"""New processes, signals, and the memory and limits of other processes."""

from tests.sandbox.hostile.program import Hostile

REFUSED = "exception PermissionError"
OUT = ("exception FileNotFoundError", REFUSED)

_SIGNALLED = """
def f():
    {0}
    return True
"""

NEW = [
    Hostile(
        "fork",
        "def f():\n    if (pid := os.fork()) == 0:\n        os._exit(0)\n"
        "    return os.waitpid(pid, 0)[0] == pid",
        REFUSED,
        works="anyone",
    ),
    Hostile(
        "fork by libc",
        "def f():\n    if (pid := checked(libc.fork())) == 0:\n        os._exit(0)\n"
        "    return os.waitpid(pid, 0)[0] == pid",
        REFUSED,
        works="anyone",
    ),
    Hostile(
        "clone, raw",
        "def f():\n    if (pid := call('clone', signal.SIGCHLD, 0, 0, 0, 0)) == 0:\n        os._exit(0)\n"
        "    return os.waitpid(pid, 0)[0] == pid",
        REFUSED,
        works="anyone",
    ),
    Hostile(
        "clone3, raw",
        "def f():\n    form = struct.pack('8Q', 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)\n"
        "    if (pid := call('clone3', form, 64)) == 0:\n        os._exit(0)\n"
        "    return os.waitpid(pid, 0)[0] == pid",
        "exception OSError",
        works="anyone",
    ),
    Hostile("vfork, raw", "def f():\n    return call(58) >= 0", REFUSED, machine="x86_64"),
    Hostile(
        "fork by the numbers of x32",
        "def f():\n    if (pid := call(0x40000000 | 57)) == 0:\n        os._exit(0)\n    return True",
        "exception OSError",
        machine="x86_64",
    ),
    Hostile(
        "fork by a 32-bit system call",
        """
import mmap
def f():
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes.fromhex("b802000000cd80c3"))  # mov eax, 2; int 0x80; ret
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    return ctypes.CFUNCTYPE(ctypes.c_int)(address)() >= 0
""",
        "killed killed by SIGSYS",
        machine="x86_64",
    ),
    Hostile(
        "posix_spawn",
        "def f():\n    pid = os.posix_spawn('/bin/true', ['true'], {})\n"
        "    return os.waitpid(pid, 0)[1] == 0",
        REFUSED,
        works="anyone",
    ),
    Hostile(
        "subprocess",
        "import subprocess\ndef f():\n    return subprocess.run(['/bin/true']).returncode == 0",
        REFUSED,
        works="anyone",
    ),
    Hostile("a shell", "def f():\n    return os.system('true') == 0", "wrong", works="anyone"),
    Hostile(
        "a shell and a pipe",
        "def f():\n    return os.popen('echo it runs').read() == 'it runs\\n'",
        REFUSED,
        works="anyone",
    ),
    Hostile(
        "multiprocessing",
        "import multiprocessing\ndef f():\n"
        "    process = multiprocessing.get_context('fork').Process(target=print)\n"
        "    process.start()\n    process.join()\n    return process.exitcode == 0",
        REFUSED,
        works="anyone",
    ),
    Hostile(
        "a pool of processes",
        "import multiprocessing\ndef f():\n    with multiprocessing.get_context('fork').Pool(1) as pool:\n"
        "        return pool.map(abs, [-1]) == [1]",
        OUT,
        works="anyone",
    ),
    Hostile(
        "a terminal of its own",
        "import pty\ndef f():\n    pid, _ = pty.fork()\n    if pid == 0:\n        os._exit(0)\n"
        "    return os.waitpid(pid, 0)[0] == pid",
        "exception OSError",
        works="anyone",
    ),
    Hostile(
        "a daemon",
        "def f():\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0:\n"
        "            time.sleep(600)\n        os._exit(0)\n    return True",
        REFUSED,
    ),
    Hostile("execve of a shell script", "def f():\n    os.execv(f'{OUTSIDE}/script.sh', ['x'])", REFUSED),
    Hostile("execve of the interpreter", "def f():\n    os.execv(sys.executable, ['x', '-c', ''])", REFUSED),
    Hostile(
        "execveat of the interpreter",
        "def f():\n    file = os.open(os.path.realpath(sys.executable), os.O_PATH)\n"
        "    call('execveat', file, b'', 0, 0, 0x1000)",
        "exception",
    ),
    Hostile("a session of its own", "def f():\n    return os.setsid() is None", REFUSED),
    Hostile(
        "another process group", "def f():\n    return os.setpgid(0, 0) is None", REFUSED, works="anyone"
    ),
    Hostile(
        "a fork bomb",
        "while True:\n    for fork in (os.fork, libc.fork):\n        try:\n            fork()\n"
        "        except OSError:\n            pass",
        "cpu_timeout",
        cpu_seconds=0.1,
    ),
    Hostile(
        "a bomb of threads that wait",
        """
def f():
    kind = ctypes.create_string_buffer(256)
    libc.pthread_attr_init(kind)
    libc.pthread_attr_setstacksize(kind, ctypes.c_size_t(16384))
    thread, wait, count = ctypes.c_ulong(), ctypes.cast(libc.pause, ctypes.c_void_p), 0
    while libc.pthread_create(ctypes.byref(thread), kind, wait, None) == 0:
        count += 1
    return count > 8200
""",
        "wrong",
        cpu_seconds=10,
    ),
    Hostile(
        "threads that stay behind",
        "import threading\ndef spin():\n    while True: pass\n"
        "def f():\n    for _ in range(2):\n        threading.Thread(target=spin).start()\n    return True",
        "pass",
    ),
    Hostile(
        "threads without end",
        "import threading\nwhile True:\n    threading.Thread(target=threading.Event().wait).start()",
        "exception RuntimeError",
    ),
]

SIGNALS = [
    Hostile(name, _SIGNALLED.format(act), REFUSED, works=works)
    for name, act, works in [
        ("a signal to the parent", "os.kill(os.getppid(), signal.SIGUSR1)", "anyone"),
        ("a signal to the caller", "os.kill(CALLER, signal.SIGUSR1)", "anyone"),
        ("a signal to everyone", "os.kill(-1, signal.SIGUSR1)", ""),
        ("death to everyone", "os.kill(-1, signal.SIGKILL)", ""),
        ("death to the group", "os.killpg(0, signal.SIGKILL)", ""),
        ("death to the zygote", "os.kill(os.getppid(), signal.SIGKILL)", ""),
        ("death to the judge", "os.kill(os.getpid() + 1, signal.SIGKILL)", ""),
        ("stopping itself", "os.kill(os.getpid(), signal.SIGSTOP)", ""),
        ("tgkill", "call('tgkill', CALLER, CALLER, int(signal.SIGUSR1))", "anyone"),
        (
            "a queued signal",
            "call('rt_sigqueueinfo', CALLER, int(signal.SIGUSR1), "
            "struct.pack('3i116x', int(signal.SIGUSR1), 0, -1))",
            "anyone",
        ),
        (
            "a signal by pidfd",
            "call('pidfd_send_signal', call('pidfd_open', CALLER, 0), int(signal.SIGUSR1), 0, 0)",
            "anyone",
        ),
        (
            "a signal by the owner of a pipe",
            "reader, writer = os.pipe(); fcntl.fcntl(reader, fcntl.F_SETOWN, CALLER); "
            "fcntl.fcntl(reader, 10, int(signal.SIGUSR1)); "
            "fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC); os.write(writer, b'x')",
            "anyone",
        ),
        (
            "a signal by the owner of a pipe, by ioctl",
            "reader, writer = os.pipe(); fcntl.ioctl(reader, 0x8901, struct.pack('i', CALLER)); "
            "fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC); os.write(writer, b'x')",
            "",
        ),
    ]
] + [
    Hostile("abort", "def f():\n    os.abort()", "killed killed by SIG"),
    Hostile("a null pointer", "def f():\n    ctypes.string_at(0)", "killed killed by SIGSEGV"),
    Hostile(
        "outliving the zygote",
        "def f():\n    return checked(libc.prctl(1, 0, 0, 0, 0)) == 0",
        REFUSED,
        works="anyone",
    ),
]

OTHERS = [
    Hostile(name, source, ends, works=works)
    for name, source, ends, works in [
        (
            "attaching to the caller",
            "def f():\n    return call('ptrace', 0x4206, CALLER, 0, 0) == 0",
            REFUSED,
            "root",
        ),
        (
            "attaching to whoever is there",
            """
def f():
    for pid in neighbours():
        try:
            return call("ptrace", 0x4206, pid, 0, 0) == 0
        except OSError:
            pass
""",
            "wrong",
            "root",
        ),
        ("being traced", "def f():\n    return call('ptrace', 0, 0, 0, 0) == 0", REFUSED, "anyone"),
        (
            "reading the judge's memory",
            """
def f():
    here = ctypes.create_string_buffer(64)
    own = struct.pack("2Q", ctypes.addressof(here), 64)
    for pid in neighbours():
        for address in (id(None), id(sys), id(os.environ)):  # siblings of a fork share their addresses
            try:
                call("process_vm_readv", pid, own, 1, struct.pack("2Q", address, 64), 1, 0)
                return True
            except OSError as error:
                if error.errno == 14:  # that process could be read
                    return True
""",
            "wrong",
            "root",
        ),
        (
            "reading memory by /proc",
            """
def f():
    for pid in neighbours():
        try:
            open(f"/proc/{pid}/mem", "rb").close()
            return True
        except OSError:
            pass
""",
            "wrong",
            "anyone",
        ),
        (
            "writing the judge's memory by /proc",
            """
def f():
    for pid in neighbours():
        try:
            open(f"/proc/{pid}/mem", "r+b").close()
            return True
        except OSError:
            pass
""",
            "wrong",
            "anyone",
        ),
        (
            "its own memory by /proc",
            "def f():\n    return bool(open('/proc/self/maps').read())",
            ("exception FileNotFoundError", REFUSED),
            "anyone",
        ),
        (
            "another's descriptors",
            """
def f():
    for pid in neighbours():
        for number in range(32):
            try:
                return call("pidfd_getfd", call("pidfd_open", pid, 0), number, 0) >= 0
            except OSError:
                pass
""",
            "wrong",
            "root",
        ),
        (
            "another's environment",
            """
def f():
    for pid in neighbours():
        try:
            if b"TOKEN_OF_THE_CALLER" in open(f"/proc/{pid}/environ", "rb").read():
                return True
        except OSError:
            pass
""",
            "wrong",
            "",
        ),
        (
            "another's working directory",
            "def f():\n    os.chdir(f'/proc/{CALLER}/cwd')\n    return bool(os.listdir('.'))",
            ("exception FileNotFoundError", REFUSED),
            "anyone",
        ),
        (
            "another's command line",
            "def f():\n    return bool(open(f'/proc/{CALLER}/cmdline').read())",
            ("exception FileNotFoundError", REFUSED),
            "anyone",
        ),
        (
            "another's robust list",
            "def f():\n    head, size = ctypes.c_ulong(), ctypes.c_ulong()\n"
            "    return call('get_robust_list', CALLER, ctypes.byref(head), ctypes.byref(size)) == 0",
            ("exception ProcessLookupError", REFUSED),
            "anyone",
        ),
        (
            "another's limits",
            "import resource\ndef f():\n    return bool(resource.prlimit(CALLER, resource.RLIMIT_CPU))",
            REFUSED,
            "anyone",
        ),
        (
            "the limits of whoever is there",
            """
import resource
def f():
    for pid in neighbours():
        try:
            return bool(resource.prlimit(pid, resource.RLIMIT_CPU))
        except OSError:
            pass
""",
            "wrong",
            "anyone",
        ),
        (
            "the parent's limits",
            "import resource\ndef f():\n    resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0))\n"
            "    return True",
            REFUSED,
            "",
        ),
        (
            "another's priority",
            "def f():\n    os.setpriority(os.PRIO_PROCESS, CALLER, os.getpriority(os.PRIO_PROCESS, 0))\n"
            "    return True",
            ("exception", REFUSED),
            "anyone",
        ),
        (
            "another's processors",
            "def f():\n    os.sched_setaffinity(CALLER, os.sched_getaffinity(0))\n    return True",
            REFUSED,
            "anyone",
        ),
        (
            "higher limits",
            "import resource\ndef f():\n    resource.setrlimit(resource.RLIMIT_CPU, (1000, 1000))\n"
            "    return True",
            "exception ValueError",
            "",
        ),
        (
            "more processes",
            "import resource\ndef f():\n    resource.setrlimit(resource.RLIMIT_NPROC, (10**6, 10**6))\n"
            "    return True",
            "exception ValueError",
            "",
        ),
    ]
]

PROGRAMS = NEW + SIGNALS + OTHERS
