"""Reading and changing what is outside, in every way that the kernel offers."""

from tests.sandbox.hostile.program import Hostile

REFUSED = "exception PermissionError"
ABSENT = "exception FileNotFoundError"
UNSUPPORTED = "exception OSError"
SEALED = ("exception OSError", REFUSED)  # mounted to be read in tier A
OUT = (ABSENT, REFUSED)  # not there in tier A, refused in tier B


def _read(name: str, how: str, ends: str | tuple[str, str] = OUT, works: str = "anyone") -> Hostile:
    return Hostile(f"reading {name}", f"def f():\n    {how}", ends, works=works)


def _change(name: str, how: str, ends: str | tuple[str, str] = OUT, works: str = "anyone") -> Hostile:
    return Hostile(name, f"def f():\n    {how}\n    return True", ends, works=works)


READING = [
    _read("a secret", "return open(SECRET).read() == 'secret'"),
    _read("a secret by descriptor", "return os.read(os.open(SECRET, os.O_RDONLY), 9) == b'secret'"),
    _read("a secret by libc", "return checked(libc.open(SECRET.encode(), 0)) >= 0"),
    _read(
        "a secret by openat2",
        "return os.read(call('openat2', -100, SECRET.encode(), bytes(24), 24), 9) == b'secret'",
        "exception OSError",
    ),
    _read(
        "a secret relative to a directory",
        "return os.read(os.open('secret.txt', 0, dir_fd=os.open(OUTSIDE, os.O_PATH)), 9) == b'secret'",
    ),
    _read("a secret from within", "os.chdir(OUTSIDE); return open('secret.txt').read() == 'secret'"),
    _read(
        "a secret by many ways up",
        "return open('../' * 40 + SECRET).read() == 'secret'",
    ),
    _read(
        "a secret through the root of a process",
        "return open('/proc/self/root' + SECRET).read() == 'secret'",
    ),
    _read(
        "a secret through the zygote's root",
        "return open(f'/proc/{os.getppid()}/root' + SECRET).read() == 'secret'",
        works="root",
    ),
    _read("a secret by sendfile", "return os.sendfile(1, os.open(SECRET, 0), 0, 6) == 6"),
    _read(
        "a secret by a handle",
        "handle = struct.pack('Ii', 128, 0) + bytes(128); mount = ctypes.c_int(); "
        "buffer = ctypes.create_string_buffer(handle, len(handle)); "
        "call('name_to_handle_at', -100, SECRET.encode(), buffer, ctypes.byref(mount), 0); "
        "return call('open_by_handle_at', os.open(OUTSIDE, os.O_PATH), buffer, 0) >= 0",
        "exception",
        "",
    ),
    _read(
        "a secret by a hard link in scratch",
        "os.link(SECRET, 'here'); return open('here').read() == 'secret'",
        works="",
    ),
    _read(
        "a secret by a symbolic link in scratch",
        "os.symlink(SECRET, 'here'); return open('here').read() == 'secret'",
        works="",
    ),
    _read(
        "a secret as source", "import linecache; return linecache.getline(SECRET, 1) == 'secret\\n'", "wrong"
    ),
    _read(
        "a secret as a module",
        "sys.path.insert(0, OUTSIDE); import planted_module; return planted_module.VALUE == 'secret'",
        "exception ModuleNotFoundError",
    ),
    _read(
        "a secret in a file's attributes", "return os.getxattr(SECRET, 'user.note') == b'secret'", UNSUPPORTED
    ),
    _read("the names of a file's attributes", "return os.listxattr(SECRET) == ['user.note']", UNSUPPORTED),
    _read(
        "what becomes of a directory",
        "watch = call('inotify_init1', 0); "
        "return checked(libc.inotify_add_watch(watch, OUTSIDE.encode(), 0xfff)) >= 0",
        REFUSED,
    ),
    _read("a directory", "return 'secret.txt' in os.listdir(OUTSIDE)"),
    _read("the root directory", "return 'proc' in os.listdir('/')", ("wrong", REFUSED)),
    _read("the passwords", "return 'root' in open('/etc/passwd').read()"),
    _read("the users", "import pwd; return pwd.getpwuid(0).pw_name == 'root'", "exception KeyError"),
    Hostile(
        "homes",
        """
def f():
    for home in ("/root", os.path.dirname(SOURCES), "/home"):
        try:
            if set(os.listdir(home)) & {".bashrc", ".ssh", ".cache", "codestill", "user", "ubuntu"}:
                return True
        except OSError:
            pass
""",
        "wrong",
        works="root",
    ),
    _read("the expected values that are kept", "return open(KEPT).read() == '[\"secret\"]'"),
    _read("the package's sources", "return bool(open(f'{SOURCES}/types.py').read())"),
    _read(
        "the package itself",
        "import codestill.sandbox; return True",
        "exception ModuleNotFoundError",
        "",
    ),
    _read("these tests", "return bool(open(f'{TESTS}/hostile/files.py').read())"),
    Hostile(
        "reading a disk",
        """
def f():
    for name in range(1 << 12):
        path = f"/dev/block/{name >> 6}:{name & 63}"
        if os.path.exists(path) and os.open(path, os.O_RDONLY) >= 0:
            return True
    return any(stat.S_ISBLK(os.stat(f"/dev/{name}").st_mode) for name in os.listdir("/dev"))
""",
        ("wrong", REFUSED),
    ),
    _read("the kernel's log", "return os.open('/dev/kmsg', 0) >= 0", works="root"),
    _read("the machine", "return bool(open('/sys/kernel/mm/transparent_hugepage/enabled').read())"),
    _read("its own environment by /proc", "return open('/proc/self/environ').read() is not None"),
    _read("the caller's token", "return 'TOKEN_OF_THE_CALLER' in os.environ", "wrong"),
    _read(
        "the caller's token in C",
        "libc.getenv.restype = ctypes.c_char_p; return libc.getenv(b'TOKEN_OF_THE_CALLER') == b'secret'",
        "wrong",
    ),
]

CHANGING = [
    _change("overwriting a secret", "open(SECRET, 'w').write('')"),
    _change("appending to a secret", "open(SECRET, 'a').write('x')"),
    _change("truncating a secret", "os.truncate(SECRET, 0)", REFUSED),
    _change("truncating a secret while opening it", "os.open(SECRET, os.O_RDONLY | os.O_TRUNC)", REFUSED),
    _change("truncating a secret without opening it to read", "os.open(SECRET, 3 | os.O_TRUNC)", REFUSED),
    _change(
        "truncating by openat2",
        "call('openat2', -100, SECRET.encode(), struct.pack('3Q', 0o1000, 0, 0), 24)",
        UNSUPPORTED,
    ),
    _change("deleting a secret", "os.remove(SECRET)"),
    _change("renaming a secret", "os.rename(SECRET, SECRET + '.old')"),
    _change("deleting a directory", "os.rmdir(f'{OUTSIDE}/empty')"),
    _change("a directory outside", "os.mkdir(f'{OUTSIDE}/new')"),
    _change("a file outside", "open(f'{OUTSIDE}/new', 'w').close()"),
    _change("a file outside that has no name", "os.open(OUTSIDE, os.O_TMPFILE | os.O_RDWR)"),
    _change("a symbolic link outside", "os.symlink(SECRET, f'{OUTSIDE}/new')"),
    _change("a hard link outside", "os.link(SECRET, f'{OUTSIDE}/new')"),
    _change("a pipe outside", "os.mkfifo(f'{OUTSIDE}/new')", REFUSED),
    _change(
        "a device outside",
        "os.mknod(f'{OUTSIDE}/new', 0o600 | stat.S_IFCHR, os.makedev(1, 3))",
        REFUSED,
        "root",
    ),
    _change(
        "moving a file out of scratch",
        "open('own', 'w').close(); os.rename('own', f'{OUTSIDE}/new')",
        works="",
    ),
    _change(
        "a link out of scratch, written through",
        "os.symlink(SECRET, 'own'); open('own', 'w').write('')",
        works="",
    ),
    Hostile(
        "another mode",
        "def f():\n    os.chmod(SECRET, 0o777)\n    return stat.S_IMODE(os.stat(SECRET).st_mode) == 0o777",
        (ABSENT, "wrong"),
        works="anyone",
    ),
    Hostile(
        "another owner",
        "def f():\n    os.chown(SECRET, 1, 1)\n    return os.stat(SECRET).st_uid == 1",
        (ABSENT, "wrong"),
        works="root",
    ),
    Hostile(
        "another time",
        "def f():\n    os.utime(SECRET, (0, 0))\n    return os.stat(SECRET).st_mtime == 0",
        (ABSENT, "wrong"),
        works="anyone",
    ),
    Hostile(
        "another time, of what may be read",
        "def f():\n    os.utime(READABLE, (0, 0))\n    return os.stat(READABLE).st_mtime == 0",
        "wrong",
        works="anyone",
    ),
    _change("another attribute", "os.setxattr(SECRET, 'user.other', b'x')", REFUSED),
    _change("one attribute less", "os.removexattr(SECRET, 'user.note')", REFUSED),
    _change("overwriting what may be read", "open(READABLE, 'w').write('')", SEALED),
    _change("truncating what may be read", "os.open(READABLE, os.O_RDONLY | os.O_TRUNC)", REFUSED),
    _change("deleting what may be read", "os.remove(READABLE)", SEALED),
    Hostile(
        "the flags of what may be read",
        """
def f():
    file, flags = os.open(READABLE, os.O_RDONLY), bytearray(8)
    fcntl.ioctl(file, 0x80086601, flags)
    fcntl.ioctl(file, 0x40086602, struct.pack("l", struct.unpack("l", flags)[0] | 0x40))
    return True
""",
        REFUSED,
    ),
    _change("another standard library", "open(os.__file__, 'r+').close()", REFUSED, "root"),
    _change(
        "a module for all programs after it",
        "open(os.path.join(os.path.dirname(os.__file__), 'hostile_module.py'), 'w').close()",
        SEALED,
        "",
    ),
    Hostile(
        "files in shared places",
        """
def f():
    made = []
    for place in ("/var/tmp", "/dev/shm", "/run", "/home", "/", "/dev", "/etc", "/var/lock"):
        try:
            open(f"{place}/{MARK}", "w").close()
            made.append(place)
        except OSError:
            pass
    return bool(made)
""",
        "wrong",
    ),
    Hostile(
        "shared memory",
        "from multiprocessing import shared_memory\n"
        "def f():\n    shared_memory.SharedMemory(name=MARK, create=True, size=4096)\n    return True",
        (ABSENT, REFUSED),
    ),
]

PROGRAMS = READING + CHANGING
