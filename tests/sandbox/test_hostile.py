"""Programs that try to get out, or to pass without solving anything. ``f`` answers True if they succeeded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FORGERIES = {
    "exit 0 by sys": "import sys\nsys.exit(0)",
    "exit 0 by os": "import os\nos._exit(0)",
    "exit 0 in the test": "import os\ndef f(): os._exit(0)",
    "exit 0 from a thread": """
import os, threading, time
threading.Thread(target=lambda: os._exit(0)).start()
def f():
    time.sleep(0.2)
""",
    "exit 0 by atexit": "import atexit, os\natexit.register(os._exit, 0)\ndef f(): raise SystemExit(0)",
    "words": "print('passed'); print('done')",
    "bytes to every descriptor": """
import os
for n in range(64):
    for text in (b"pass", b"\\0\\0\\0\\4done", b"\\0\\0\\0\\x24" + bytes(32) + b"done"):
        try:
            os.write(n, text)
        except OSError:
            pass
os._exit(0)
""",
    "bytes to every descriptor, then on": """
import os
for n in range(3, 64):
    try:
        os.write(n, b"\\0\\0\\0\\x24" + bytes(32) + b"done")
    except OSError:
        pass
def f(): return True
""",
    "report closed": "import os\nos.closerange(0, 64)\ndef f(): return True",
    "report redirected": """
import os
r, w = os.pipe()
for n in range(64):
    if n not in (r, w):
        try:
            os.fstat(n); os.dup2(w, n)
        except OSError:
            pass
def f(): return True
""",
    "builtins replaced": """
import builtins
builtins.print = builtins.compile = builtins.exec = builtins.len = lambda *a, **k: 1
builtins.AssertionError = KeyboardInterrupt
builtins.abs = lambda x: 0
""",
    "os functions replaced": "import os\nos.write = lambda fd, data: len(data)\nos._exit = lambda code: None",
    "assertions skipped by a trace function": """
import sys
def trace(frame, event, arg):
    if event == "line" and frame.f_code.co_filename.startswith("<test"):
        frame.f_lineno = frame.f_lineno + 1
    return trace
sys.settrace(trace)
""",
    "SIGXCPU ignored": "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
    "limits raised": """
import resource
def f():
    resource.setrlimit(resource.RLIMIT_CPU, (1000, 1000))
    return True
""",
    "endless threads": "from threading import *\nwhile True: Thread(target=Event().wait).start()",
    "deep recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()",
    "endless repr": """
class Value:
    def __repr__(self):
        while True: pass
def f(): return Value()
""",
}

ACTS = {
    "fork": "import os\ndef f():\n    if os.fork() == 0: os._exit(0)\n    return True",
    "fork by libc": "import ctypes\ndef f():\n    pid = ctypes.CDLL(None).fork()\n    return pid >= 0",
    "vfork by libc": "import ctypes\ndef f():\n    return ctypes.CDLL(None).syscall(58) >= 0",
    "posix_spawn": "import os\ndef f():\n    return os.posix_spawn('/bin/true', ['true'], {}) > 0",
    "subprocess": "import subprocess\ndef f():\n    return subprocess.run(['/bin/true']).returncode == 0",
    "os.system": "import os\ndef f():\n    return os.system('true') == 0",
    "multiprocessing": """
import multiprocessing
def f():
    multiprocessing.Process(target=print).start()
    return True
""",
    "exec": "import os\ndef f():\n    os.execv('/bin/true', ['true'])",
    "socket": "import socket\ndef f():\n    return bool(socket.socket())",
    "unix socket": "import socket\ndef f():\n    return bool(socket.socket(socket.AF_UNIX))",
    "datagram pair": "import socket as s\ndef f():\n    return bool(s.socketpair(s.AF_UNIX, s.SOCK_DGRAM))",
    "kill the parent": "import os\ndef f():\n    os.kill(os.getppid(), 9)\n    return True",
    "kill all": "import os\ndef f():\n    os.kill(-1, 9)\n    return True",
    "limit the parent": """
import os, resource
def f():
    resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0))
    return True
""",
    "outlive the parent": "import ctypes\ndef f():\n    return ctypes.CDLL(None).prctl(1, 0) == 0",
    "ptrace": "import ctypes, os\ndef f():\n    return ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0",
    "unshare": "import ctypes\ndef f():\n    return ctypes.CDLL(None).unshare(0x10000000) == 0",
    "memfd": "import os\ndef f():\n    return os.memfd_create('x') >= 0",
    "own environment": "import os\ndef f():\n    return 'TOKEN_OF_THE_CALLER' in os.environ",
}

FILE_ACTS = {
    "read a secret": "def f():\n    return open(SECRET).read() == 'secret'",
    "read the password file": "def f():\n    return bool(open('/etc/passwd').read())",
    "read the parent's environment": """
import os
def f():
    return b'TOKEN' in open(f'/proc/{os.getppid()}/environ', 'rb').read()
""",
    "read own memory": "def f():\n    return bool(open('/proc/self/maps').read())",
    "list the home directory": "import os\ndef f():\n    return bool(os.listdir(os.path.dirname(SECRET)))",
    "write outside": "def f():\n    open(SECRET, 'w').write('')\n    return True",
    "truncate outside": "import os\ndef f():\n    os.truncate(SECRET, 0)\n    return True",
    "delete outside": "import os\ndef f():\n    os.remove(SECRET)\n    return True",
    "create outside": "import os\ndef f():\n    os.mkdir(SECRET + '.new')\n    return True",
    "link into scratch": """
import os
def f():
    os.link(SECRET, 'here')
    return open('here').read() == 'secret'
""",
    "symlink in scratch": """
import os
def f():
    os.symlink(SECRET, 'here')
    return open('here').read() == 'secret'
""",
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forgery_does_not_pass(sandbox, program, name):
    result = sandbox.execute(
        program("def f(): return None\n" + FORGERIES[name], "assert f() == 'the answer'")
    )
    assert not result.passed, result


@pytest.mark.parametrize("name", ACTS)
def test_forbidden_act(sandbox, program, name, monkeypatch):
    monkeypatch.setenv("TOKEN_OF_THE_CALLER", "token")
    result = sandbox.execute(program(ACTS[name], "assert f() is True"))
    assert not result.passed, result
    assert result.verdict in ("wrong", "exception")


@pytest.mark.parametrize("name", FILE_ACTS)
def test_files_outside_are_out_of_reach(sandbox, program, name, tmp_path):
    if "landlock" not in sandbox.description.split(",")[0]:
        pytest.skip("this kernel has no Landlock")
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    solution = f"SECRET = {str(secret)!r}\n{FILE_ACTS[name]}"
    result = sandbox.execute(program(solution, "assert f() is True"))
    assert result.verdict == "exception", result
    assert secret.read_text() == "secret"
    assert list(tmp_path.iterdir()) == [secret]


def test_mode_of_files_outside_stays(sandbox, program, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    before = secret.stat().st_mode
    sandbox.execute(program(f"import os\nos.chmod({str(secret)!r}, 0o777)", "1"))
    assert secret.stat().st_mode == before


def test_fork_bomb_leaves_nothing(sandbox, program):
    bomb = """
import os, ctypes
libc = ctypes.CDLL(None)
while True:
    try:
        os.fork()
    except OSError:
        pass
    libc.fork()
"""
    before = children()  # what other tests of this process left running
    assert sandbox.execute(program(bomb, "1")).verdict == "cpu_timeout"
    assert children() == before


@pytest.mark.parametrize(
    "mess",
    [
        "import os\nfor n in range(1500):\n    os.mkdir('d')\n    os.chdir('d')",
        "import os\nos.makedirs('a/b')\nos.umask(0o777)\nos.makedirs('c')\nopen('c.txt', 'w').close()",
        "for n in range(500): open(str(n), 'w').close()",
    ],
)
def test_scratch_is_removed(sandbox, program, mess, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = sandbox.execute(program(mess, "1"))
    assert result.passed, result
    assert list(tmp_path.iterdir()) == []


def children() -> list[int]:
    """Process ids of this process's children."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            found.append(int(path.parent.name))
    return found


@pytest.mark.slow
def test_all_of_this_as_an_unprivileged_user():
    """Runs this file again as nobody, with an interpreter that nobody can reach."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    system = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    if not Path(system).exists():
        pytest.skip(f"no {system}")
    packages = [path for path in sys.path if path.endswith("site-packages")]
    source = Path(__file__).parents[2] / "src"
    done = subprocess.run(
        [system, "-m", "pytest", "-p", "no:cacheprovider", "-q", __file__],
        user=65534,
        group=65534,
        extra_groups=[],
        env={"PYTHONPATH": ":".join([str(source), *packages]), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
