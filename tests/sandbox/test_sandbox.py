"""Many programs at once, and what becomes of them when the caller or the machine fails."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from codestill.errors import SandboxError
from codestill.sandbox import Program, SandboxConfig
from codestill.types import Test

DRIVER = """
import sys
from codestill.sandbox import Program, SandboxConfig
from codestill.types import Test
{before}
sandbox = SandboxConfig(unsafe={unsafe}).build(workers=2)
print(sandbox.description, flush=True)
programs = [Program(solution={solution!r}, entry_point="f", tests=(Test(code=str(n)),)) for n in range(3)]
for result in sandbox.run(programs):
    print(result.verdict, flush=True)
"""
FORBID = """
import ctypes, struct
from codestill.sandbox import isolation
def forbid(number, code, argument=None):
    "Answer a system call (for one value of its first argument) with an error, here and in children."
    rows = [(0x20, 0, 0, 0), (0x15, 0, 3 if argument is not None else 1, number)]
    if argument is not None:
        rows += [(0x20, 0, 0, 16), (0x15, 0, 1, argument)]
    rows += [(0x06, 0, 0, 0x50000 | code), (0x06, 0, 0, 0x7FFF0000)]
    body = b"".join(struct.pack("=HBBI", *row) for row in rows)
    buffer = ctypes.create_string_buffer(body, len(body))
    class Filter(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_void_p)]
    libc = ctypes.CDLL(None)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.byref(Filter(len(rows), ctypes.addressof(buffer))), 0, 0) == 0
x86 = isolation.platform.machine() == "x86_64"
"""


def driver(solution: str, before: str = "", unsafe: bool = False, **options) -> subprocess.Popen[str]:
    code = DRIVER.format(solution=solution, before=before, unsafe=unsafe)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def processes_below(directory: Path) -> list[str]:
    """Processes whose working directory is below ``directory``."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if link.readlink().is_relative_to(directory):
                found.append(link.parent.name)
        except OSError:
            continue
    return found


def wait_until(condition, seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_results_in_order_and_identical_programs_once(sandbox, program):
    slow = "import time\ntime.sleep(0.3)\n"
    programs = [program((slow if n % 5 == 0 else "") + f"print({n})", "1") for n in range(12)]
    unique = program("import random\nprint(random.random())", "1")
    results = list(sandbox.run([unique, *programs, unique]))
    assert [result.output for result in results[1:-1]] == [f"{n}\n" for n in range(12)]
    assert results[0] is results[-1]  # drawn once
    assert sandbox.execute(unique).output != results[0].output


def test_results_come_before_all_programs_are_taken(sandbox, program):
    taken = []

    def programs():
        for number in range(100):
            taken.append(number)
            yield program(f"print({number})", "1")

    stream = sandbox.run(programs())
    assert next(stream).output == "0\n"
    assert len(taken) < 20
    stream.close()
    assert len(taken) < 20


def test_closing_the_iterator_kills_what_runs(program, tmp_path, monkeypatch):
    sandbox = SandboxConfig(cpu_seconds=1000).build(workers=2)  # no limit ends these programs
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    programs = [program("1", "1"), *(program(f"import time\ntime.sleep({1000 + n})", "1") for n in range(3))]
    stream = sandbox.run(programs)
    assert next(stream).passed
    assert wait_until(lambda: len(processes_below(tmp_path)) > 0)
    stream.close()
    assert processes_below(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_closing_the_sandbox_from_another_thread(program):
    with SandboxConfig().build(workers=1) as sandbox:
        threading.Timer(0.5, sandbox.close).start()
        with pytest.raises(SandboxError, match="closed"):
            sandbox.execute(program("import time\ntime.sleep(60)", "1"))


def test_many_caller_threads(sandbox, program):
    results = {}

    def call(number: int) -> None:
        results[number] = sandbox.execute(program(f"print({number})", "1")).output

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: f"{number}\n" for number in range(8)}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_or_killed_caller_leaves_no_process(how, tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    # The program tries to survive by giving back the request to die with its parent.
    solution = "import ctypes, time\nctypes.CDLL(None).prctl(1, 0)\ntime.sleep(60)"
    # A shell may have started this test with the interrupt ignored, which children inherit.
    listen = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)"
    caller = driver(solution, listen, env=environment)
    assert wait_until(lambda: len(processes_below(tmp_path)) == 2)
    caller.send_signal(how)
    caller.communicate(timeout=20)
    assert caller.returncode != 0
    assert wait_until(lambda: processes_below(tmp_path) == [])
    if how == signal.SIGINT:
        assert list(tmp_path.iterdir()) == []


def test_missing_seccomp_is_refused_and_named():
    before = FORBID + "forbid(157 if x86 else 167, 1, argument=22)"
    out, error = driver("1", before).communicate(timeout=60)
    assert "SandboxUnavailable" in error and "seccomp" in error and "EPERM" in error and "unsafe" in error
    assert out == ""


def test_unsafe_runs_without_seccomp_and_says_so():
    before = FORBID + "forbid(157 if x86 else 167, 1, argument=22)"
    out, error = driver("1", before, unsafe=True).communicate(timeout=60)
    description, *verdicts = out.splitlines()
    assert "seccomp" not in description.split(",")[0] and "no seccomp (EPERM)" in description, error
    assert verdicts == ["pass"] * 3


def test_missing_landlock_is_stated():
    out, error = driver("1", FORBID + "forbid(444, 38)").communicate(timeout=60)
    description, *verdicts = out.splitlines()
    assert description == "process: seccomp+rlimits+session, no landlock (ENOSYS)", error
    assert verdicts == ["pass"] * 3


def test_a_process_that_cannot_start_is_an_error_and_no_verdict(sandbox, program, monkeypatch):
    monkeypatch.setattr("codestill.sandbox.sandbox._PAUSES", (0.0,))
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    with pytest.raises(SandboxError, match="does not start"):
        sandbox.execute(program("1", "1"))


def test_nothing_heavy_is_imported():
    code = "import sys, codestill.sandbox as s; s.SandboxConfig().build(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_programs_are_records():
    program = Program(solution="x", entry_point="f", tests=(Test(code="1"),))
    assert Program.model_validate_json(program.model_dump_json()) == program
