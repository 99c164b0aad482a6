"""Many programs at once, and what becomes of them when the caller or the machine fails."""

import asyncio
import contextlib
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest

from codestill.errors import SandboxError
from codestill.sandbox import Program, Sandbox, SandboxConfig
from codestill.types import Test

DRIVER = """
import sys
from codestill.sandbox import Program, Sandbox, SandboxConfig
from codestill.types import Test
{before}
sandbox = Sandbox(SandboxConfig(), workers=2)
print(" ".join(str(worker.process.pid) for worker in sandbox._pool._workers), flush=True)
programs = [Program(solution={solution!r}, entry_point="f", tests=(Test(code=str(n)),)) for n in range(3)]
for result in sandbox.run(programs):
    print(result.verdict, flush=True)
"""


def driver(solution: str, before: str = "", **options) -> subprocess.Popen[str]:
    code = DRIVER.format(solution=solution, before=before)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def below(*ancestors: int) -> list[int]:
    """Processes that descend from these."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(path.parent.name)] = int(fields[1])
    found = set(ancestors)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - set(ancestors))


def alive(pids: list[int]) -> list[int]:
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                found.append(pid)
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


def test_completion_order(sandbox, program):
    naps = [program(f"import time\ntime.sleep({seconds})", "1") for seconds in (1, 0, 0)]
    naps.append(naps[1])
    order = [number for number, result in sandbox.stream(naps) if result.passed]
    assert sorted(order) == [0, 1, 2, 3]
    assert order[-1] == 0


def test_closing_the_iterator_kills_what_runs(program):
    with Sandbox(SandboxConfig(cpu_seconds=1000), workers=2) as sandbox:  # no limit ends these programs
        naps = (program(f"import time\ntime.sleep({1000 + n})", "1") for n in range(3))
        stream = sandbox.run([program("import time\ntime.sleep(0.5)", "1"), *naps])
        assert next(stream).passed
        zygotes = [worker.process.pid for worker in sandbox._pool._workers]
        assert wait_until(lambda: len(below(*zygotes)) >= 2 + 2 * 2)  # solver and judge of each
        running = below(*zygotes)
        stream.close()
        assert alive(running) == []
        assert sandbox.execute(program("2", "1")).passed  # by a new worker


def test_closing_the_sandbox_from_another_thread(program):
    with Sandbox(SandboxConfig(), workers=1) as sandbox:
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
def test_interrupted_or_killed_caller_leaves_no_process(how):
    # The program tries to survive by giving back the request to die with its parent.
    solution = "import ctypes, time\nctypes.CDLL(None).prctl(1, 0)\ntime.sleep(60)"
    # A shell may have started this test with the interrupt ignored, which children inherit.
    listen = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)"
    caller = driver(solution, listen)
    assert caller.stdout is not None
    assert caller.stdout.readline()
    assert wait_until(lambda: len(below(caller.pid)) == 2 * (2 + 2))
    running = below(caller.pid)
    caller.send_signal(how)
    caller.communicate(timeout=20)
    assert caller.returncode != 0
    assert wait_until(lambda: alive(running) == [])


def test_lost_worker_is_replaced_and_the_program_run_again(sandbox, program):
    zygotes = [worker.process.pid for worker in sandbox._pool._workers]
    killers = [threading.Timer(0.3 + n / 10, os.kill, (pid, signal.SIGKILL)) for n, pid in enumerate(zygotes)]
    for killer in killers:
        killer.start()
    naps = [program(f"import time\ntime.sleep(1)\n{n}", "1") for n in range(3)]
    assert [result.verdict for result in sandbox.run(naps)] == ["pass"] * 3


def test_a_process_that_cannot_start_is_no_verdict_of_the_program(program, monkeypatch):
    monkeypatch.setattr("codestill.sandbox.sandbox._PAUSES", (0.0,))
    with Sandbox(SandboxConfig(), workers=1) as sandbox:
        monkeypatch.setattr("sys.executable", "/nonexistent/python")
        for worker in sandbox._pool._workers:
            worker.kill()
        result = sandbox.execute(program("1", "1"))
        assert (result.verdict, result.tests) == ("infra_error", ())
        assert "does not start" in result.error
        with pytest.raises(SandboxError, match="does not start"):
            Sandbox(SandboxConfig())


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_the_caller_have_workers_of_their_own(sandbox, method):
    assert sandbox.execute(Program(solution="1", entry_point="f", tests=(Test(code="1"),))).passed
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads, which is the point
        children = [
            context.Process(target=_execute, args=(sandbox if method == "fork" else None, queue, n))
            for n in range(2)
        ]
        for child in children:
            child.start()
    outputs = {queue.get() for _ in children}
    for child in children:
        child.join(30)
        assert child.exitcode == 0
    assert outputs == {"0\n", "1\n"}
    assert sandbox.execute(Program(solution="print(9)", entry_point="f", tests=(Test(code="1"),))).passed


def _execute(sandbox: Sandbox | None, queue, number: int) -> None:
    sandbox = sandbox or Sandbox(SandboxConfig(), workers=1)
    program = Program(solution=f"print({number})", entry_point="f", tests=(Test(code="1"),))
    queue.put(sandbox.execute(program).output)


def test_from_an_asyncio_loop_beside_torch(program):
    torch = pytest.importorskip("torch")
    assert float((torch.ones(200, 200) @ torch.ones(200, 200)).sum()) == 200**3

    async def main() -> list[str]:
        with Sandbox(SandboxConfig(), workers=2) as sandbox:
            direct = sandbox.execute(program("print('a')", "1")).output
            others = [asyncio.to_thread(sandbox.execute, program(f"print({n})", "1")) for n in range(3)]
            return [direct, *(result.output for result in await asyncio.gather(*others))]

    assert asyncio.run(main()) == ["a\n", "0\n", "1\n", "2\n"]


def test_a_forgotten_sandbox_leaves_nothing(program):
    sandbox = Sandbox(SandboxConfig(), workers=1)
    assert sandbox.execute(program("1", "1")).passed
    zygotes = [worker.process.pid for worker in sandbox._pool._workers]
    del sandbox
    gc.collect()
    assert wait_until(lambda: alive(zygotes) == [])


def test_nothing_heavy_is_imported():
    code = "import sys, codestill.sandbox as s; s.Sandbox(s.SandboxConfig()); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_programs_are_records():
    program = Program(solution="x", entry_point="f", tests=(Test(code="1"),))
    assert Program.model_validate_json(program.model_dump_json()) == program
