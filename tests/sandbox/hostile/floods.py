"""Programs that take all they can get: time, memory, disk, output."""

from tests.sandbox.hostile.program import Hostile

TIME = [
    Hostile(name, source, "cpu_timeout", cpu_seconds=0.1, tests=tests)
    for name, source, tests in [
        ("an endless module", "while True: pass", "1"),
        ("an endless function", "def f():\n    while True: pass", "f()"),
        (
            "SIGXCPU ignored",
            "signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
            "1",
        ),
        (
            "every signal ignored",
            "for n in set(signal.Signals) - {9, 19}: signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
            "1",
        ),
        (
            "clocks that stand still",
            "time.time = time.monotonic = time.process_time = time.perf_counter = lambda: 0.0\n"
            "time.clock_gettime = lambda clock: 0.0\nwhile True: pass",
            "1",
        ),
        ("one long operation in C", "x = 7 ** (10 ** 8)", "1"),
        ("a regular expression", "import re\nre.match('(a+)+$', 'a' * 40 + 'b')", "1"),
        (
            "four threads in C",
            "import hashlib, threading\ndef work():\n    hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)\n"
            "for _ in range(3): threading.Thread(target=work).start()\nwork()",
            "1",
        ),
        (
            "one exception after another",
            "while True:\n    try:\n        while True: pass\n    except BaseException:\n        pass",
            "1",
        ),
        ("an endless iterator", "def f():\n    while True: yield 1", "list(f())"),
        (
            "an endless length",
            "class Long:\n    def __len__(self):\n        while True: pass\ndef f(): return Long()",
            "len(f())",
        ),
        (
            "an endless attribute",
            "class Own:\n    def __getattr__(self, name):\n        while True: pass\ndef f(): return Own()",
            "f().value",
        ),
        ("endless callbacks", "def f(g):\n    while True: g()", "f(lambda: 1)"),
        (
            "work that is declared to be none",
            "def f():\n    say(['sealing'])\n    while True: pass",
            "f()",
        ),
        (
            "a flood of frames",
            "def f():\n    frame = (2).to_bytes(4, 'big')\n    body = b'[\"sealing\"]'\n"
            "    data = (len(body).to_bytes(4, 'big') + b'J' + body) * 4000\n"
            "    while True: os.write(channel()[1], data)",
            "f()",
        ),
        (
            "a number whose power the judge would compute",
            "def f():\n    say(['ok', {'D': '1e99999999'}])\n    time.sleep(9)",
            "assert int(f()) == 5",
        ),
        ("a range that the judge would add up", "def f(): return range(10**15)", "assert sum(f()) == 5"),
    ]
] + [
    Hostile(
        "an endless repr",
        "class Value:\n    def __repr__(self):\n        while True: pass\ndef f(): return Value()",
        "wrong",
        tests="assert f() == 1",
        cpu_seconds=0.1,
    ),
    Hostile(
        "an endless message",
        "class Error(Exception):\n    def __str__(self):\n        while True: pass\ndef f(): raise Error",
        "cpu_timeout",
        tests="f()",
        cpu_seconds=0.1,
    ),
]

WAITING = [
    Hostile(name, source, "wall_timeout", waits=True, cpu_seconds=0.1, tests=tests)
    for name, source, tests in [
        ("sleep", "def f(): time.sleep(600)", "f()"),
        ("a pause without signals", "signal.pause()", "1"),
        ("a thread that is not joined", "import threading\nthreading.Event().wait()", "1"),
        ("a request that is not answered", "def f(): os.read(channel()[0], 1)", "f()"),
        (
            "a request that is not read",
            "def f(x):\n    say(['ok', 1])\n    time.sleep(600)",
            "f(1)\nf('x' * 10**6)",
        ),
        (
            "half an answer",
            "def f():\n    os.write(channel()[1], b'\\0\\0\\0\\xffJ[')\n    time.sleep(600)",
            "f()",
        ),
    ]
]

_MEMORY = "memory"
MEMORY = [
    Hostile(name, source, ends, tests=tests, cpu_seconds=4)
    for name, source, ends, tests in [
        ("a heap", "x = []\nwhile True: x.append(bytes(10**7))", _MEMORY, "1"),
        ("small objects", "x = []\nwhile True: x.append([None] * 5000)", _MEMORY, "1"),
        ("one large object", "x = bytearray(10**12)", _MEMORY, "1"),
        ("a large string", "def f(): return 'x' * 10**11", _MEMORY, "f()"),
        ("a large number", "def f(): return 1 << 10**11", _MEMORY, "f()"),
        (
            "a shared map",
            "import mmap\ndef f():\n    mmap.mmap(-1, 3 << 30)[-1] = 1\n    return True",
            "exception OSError",
            "assert f() is True",
        ),
        (
            "many shared maps",
            "import mmap\ndef f():\n    maps = []\n    while len(maps) < 300:\n"
            "        maps.append(mmap.mmap(-1, 10 << 20))\n    return True",
            "exception OSError",
            "assert f() is True",
        ),
        (
            "a map of its output",
            "import mmap\ndef f():\n    os.ftruncate(1, 3 << 30)\n    return True",
            "exception OSError",
            "assert f() is True",
        ),
        (
            "the allocator of C",
            "libc.malloc.restype = ctypes.c_void_p\ndef f():\n"
            "    return libc.malloc(ctypes.c_size_t(3 << 30)) is not None",
            "wrong",
            "assert f() is True",
        ),
        (
            "a decompression bomb",
            "import zlib\ndef f():\n    packer = zlib.compressobj(9)\n"
            "    bomb = b''.join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()\n"
            "    whole = b''\n    while True: whole += zlib.decompress(bomb)",
            _MEMORY,
            "f()",
        ),
        (
            "memory errors that are caught",
            "def f():\n    taken = []\n    for _ in range(200):\n        try:\n"
            "            taken.append(bytearray(1 << 24))\n        except MemoryError:\n            pass\n"
            "    return len(taken) > 64",
            "wrong",
            "assert f() is True",
        ),
        (
            "stacks",
            "sys.setrecursionlimit(10**9)\ndef f(): return max([1], key=lambda _: f())",
            "killed killed by SIGSEGV",
            "f()",
        ),
        (
            "pipes",
            "def f():\n    total = 0\n    for _ in range(400):\n        reader, writer = os.pipe()\n"
            "        total += fcntl.fcntl(writer, 1031, 1 << 20)\n    return total > 1 << 28",
            "exception OSError",
            "assert f() is True",
        ),
        (
            "an answer that no judge can hold",
            "def f():\n    say(b'[\"ok\",[' + b'[],' * 20_000_000 + b'[]]]')",
            "undecidable",
            "f()",
        ),
        (
            "a frame over the limit",
            "def f():\n    os.write(channel()[1], b'\\xff\\xff\\xff\\xffJ')\n    time.sleep(9)",
            "undecidable",
            "f()",
        ),
        (
            "a list that the judge would make",
            "def f(): return range(10**12)",
            _MEMORY,
            "assert list(f()) == [1]",
        ),
    ]
]

DISK = [
    Hostile(name, source, ends, cpu_seconds=4)
    for name, source, ends in [
        (
            "a large file",
            "def f():\n    with open('large', 'wb') as file:\n        for _ in range(100):\n"
            "            file.write(bytes(1 << 20))\n    return True",
            ("exception OSError", "exception PermissionError"),
        ),
        (
            "many files",
            "def f():\n    for n in range(10**5): open(str(n), 'w').close()\n    return True",
            ("exception OSError", "exception PermissionError"),
        ),
        (
            "many directories",
            "def f():\n    for _ in range(10**5): os.mkdir('d'); os.chdir('d')\n    return True",
            ("exception OSError", "exception PermissionError"),
        ),
        (
            "many files of some size",
            "def f():\n    for n in range(100):\n"
            "        with open(str(n), 'wb') as file: file.write(bytes(10**6))\n"
            "    return True",
            ("exception OSError", "exception PermissionError"),
        ),
        (
            "a file with holes",
            "def f():\n    with open('large', 'wb') as file: file.truncate(1 << 40)\n    return True",
            ("exception OSError", "exception PermissionError"),
        ),
        (
            "space set aside",
            "def f():\n    os.posix_fallocate(os.open('large', os.O_CREAT | os.O_RDWR), 0, 1 << 30)\n"
            "    return True",
            ("exception OSError", "exception PermissionError"),
        ),
        (
            "files that are deleted and held open",
            "def f():\n    held = []\n    for n in range(40):\n        held.append(open('x', 'wb'))\n"
            "        os.remove('x')\n"
            "        held[-1].write(bytes(10**6))\n        held[-1].flush()\n    return True",
            ("exception OSError", "exception PermissionError"),
        ),
        (
            "more open files than are allowed",
            "def f():\n    return len([os.dup(0) for _ in range(2000)]) == 2000",
            "exception OSError",
        ),
    ]
]

_FLOOD = "x = b'x' * 10**5\nfor _ in range(20):\n    {0}\ndef f(): return True"
OUTPUT = [
    Hostile(name, source, "output_limit")
    for name, source in [
        ("printing", "for _ in range(20): print('x' * 10**5)\ndef f(): return True"),
        ("standard output", _FLOOD.format("os.write(1, x)")),
        ("standard error", _FLOOD.format("os.write(2, x)")),
        ("output from C", _FLOOD.format("libc.write(1, x, len(x))")),
        ("output within a test", "def f():\n    print('x' * 2 * 10**6)\n    return True"),
        ("output that is a hole", "os.ftruncate(1, 4 << 20)\ndef f(): return True"),
        ("output far away", "os.lseek(1, 4 << 20, os.SEEK_SET)\nos.write(1, b'x')\ndef f(): return True"),
        (
            "warnings",
            "import warnings\nfor n in range(40): warnings.warn('x' * 10**5 + str(n))\ndef f(): return True",
        ),
        (
            "every descriptor that is no pipe",
            "x = b'x' * 10**6\nfor number in range(1024):\n    for _ in range(2):\n        try:\n"
            "            if not stat.S_ISFIFO(os.fstat(number).st_mode): os.write(number, x)\n"
            "        except OSError:\n            pass\ndef f(): return True",
        ),
    ]
] + [
    Hostile(
        "every descriptor",
        "x = b'x' * 10**6\nfor number in range(1024):\n    try:\n        os.set_blocking(number, False)\n"
        "        os.write(number, x)\n    except OSError:\n        pass\ndef f(): return True",
        "output_limit",
    ),
]

PROGRAMS = TIME + WAITING + MEMORY + DISK + OUTPUT
