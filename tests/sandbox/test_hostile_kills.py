"""Death of the caller, of a zygote, of a judge, at any moment: nothing stays, and no verdict is false."""

import contextlib
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.sandbox.hostile.world import World, descendants

from codestill.errors import SandboxUnavailable
from codestill.sandbox import Program, Sandbox, SandboxConfig
from codestill.sandbox.inside.child import Judge
from codestill.types import Test

RESIST = {
    "sleeping": "import time\ntime.sleep(600)",
    "computing": "while True: pass",
    "deaf to signals": """
import signal
for number in set(signal.Signals) - {9, 19}:
    signal.signal(number, signal.SIG_IGN)
while True:
    pass
""",
    "outliving its parent": "import ctypes, time\nctypes.CDLL(None).prctl(1, 0)\ntime.sleep(600)",
    "in threads": """
import threading, time
for _ in range(8):
    threading.Thread(target=time.sleep, args=(600,)).start()
threading.Event().wait()
""",
    "between two answers": "import time\ndef f():\n    while True: yield time.sleep(0.01)",
}
CALLER = """
import sys
from codestill.sandbox import Program, Sandbox, SandboxConfig
from codestill.types import Test
solutions = {solutions!r}
box = Sandbox(SandboxConfig(tier={tier!r}, cpu_seconds=1000), workers=len(solutions))
print("built", flush=True)
list(box.run(Program(solution=s, entry_point="f", tests=(Test(code="list(f())"),)) for s in solutions))
"""
NAP = "import time\ndef f():\n    time.sleep({seconds})\n    return {answer}"


def config(tier: str) -> SandboxConfig:
    return SandboxConfig.model_validate({"tier": tier})


@pytest.fixture(params=["A", "B"])
def tier(request: pytest.FixtureRequest) -> str:
    try:
        Sandbox(config(request.param), workers=1).close()
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    return request.param


@pytest.fixture
def orphans(tmp_path: Path) -> Iterator[None]:
    """What loses its parent comes to this process, so that nothing escapes the count."""
    with World(tmp_path).watched():
        yield


def nap(answer: int, seconds: float = 0.25) -> Program:
    solution = NAP.format(seconds=seconds, answer=answer)
    return Program(solution=solution, entry_point="f", tests=(Test(code="assert f() == 1"),))


def running() -> set[int]:
    """Descendants of this process that have not ended; those that have are waited for."""
    found = set()
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                found.add(pid)
            elif int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1]) == os.getpid():
                os.waitpid(pid, os.WNOHANG)
    return found


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not (done := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return done


def test_a_killed_caller_leaves_nothing(tier: str, orphans: None) -> None:
    before = running()
    code = CALLER.format(tier=tier, solutions=list(RESIST.values()))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as caller:
        try:
            assert caller.stdout is not None and caller.stdout.readline() == "built\n"
            # The caller; and of each program a guard, a zygote, a solver and a judge.
            assert wait_until(lambda: len(running() - before) == 1 + 4 * len(RESIST))
            time.sleep(0.1)  # for the programs to have begun
        finally:
            caller.kill()
    assert wait_until(lambda: running() == before)


_WRAPPED = 10_000  # process ids begin again from below at some number


class Victims:
    """The processes of a sandbox with one worker, whose solver is forked before its judge."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box

    def find(self, who: str) -> int | None:
        for worker in list(self.box._pool._workers):
            family = [worker.process.pid, *descendants(worker.process.pid)]
            place = ("guard", "zygote", "solver", "judge").index(who)
            if len(family) == 4:
                if family[3] - family[2] > _WRAPPED:
                    family[2:] = family[3], family[2]
                return family[place]
        return None

    def kill(self, who: str) -> bool:
        pid = self.find(who)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return pid is not None


@pytest.mark.parametrize("who", ["guard", "zygote", "solver", "judge"])
def test_a_death_in_the_middle_does_not_change_the_verdict(tier: str, who: str, orphans: None) -> None:
    before = running()
    with Sandbox(config(tier), workers=1) as box:
        for answer, verdict in ((1, "pass"), (2, "wrong")):
            killer = ThreadPoolExecutor().submit(wait_until, lambda: Victims(box).kill(who))
            result = box.execute(nap(answer))
            assert killer.result() and result.verdict == verdict, result
    assert wait_until(lambda: running() == before)


@pytest.mark.parametrize("reading", [False, True])
def test_a_judge_may_die_before_its_request_and_before_reading_it(reading: bool) -> None:
    class Confinement:
        def enter(self, role: str, kept: list[int], cpu: int | None) -> None:
            while reading and not select.select(kept, [], [], 20)[0]:
                pass
            os.kill(os.getpid(), signal.SIGKILL)

    judge = Judge(Confinement(), [])  # pyright: ignore[reportArgumentType]
    if not reading:
        os.waitid(os.P_PID, judge.child.pid, os.WEXITED | os.WNOWAIT)
    judge.begin(os.getpid(), 0, [0, 0, 0, 0])
    judge.wait(20)
    assert judge.ended() and judge.status == -signal.SIGKILL and not judge.fit


@pytest.mark.parametrize(
    ("who", "verdict"),
    [("guard", "infra_error"), ("zygote", "infra_error"), ("solver", "killed"), ("judge", "undecidable")],
)
def test_one_death_after_another_is_told(
    tier: str, who: str, verdict: str, orphans: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codestill.sandbox.sandbox._PAUSES", (0.01, 0.01, 0.01))
    stop = threading.Event()

    def kill_always(box: Sandbox) -> None:
        while not stop.is_set():
            Victims(box).kill(who)
            time.sleep(0.005)

    before = running()
    with Sandbox(config(tier), workers=1) as box:
        killer = threading.Thread(target=kill_always, args=(box,))
        killer.start()
        result = box.execute(nap(1))
        stop.set()
        killer.join()
        assert (result.verdict, result.tests) == (verdict, ()), result
        assert box.execute(nap(1, 0)).passed
    assert wait_until(lambda: running() == before)


def test_deaths_at_any_moment_make_no_verdict_false(tier: str, orphans: None) -> None:
    chance, stop = random.Random(0), threading.Event()

    def kill_now_and_then(box: Sandbox) -> None:
        while not stop.is_set():
            time.sleep(chance.uniform(0, 0.15))
            for worker in list(box._pool._workers):
                family = [worker.process.pid, *descendants(worker.process.pid)]
                with contextlib.suppress(OSError):
                    os.kill(chance.choice(family), signal.SIGKILL)

    before = running()
    with Sandbox(config(tier), workers=1) as box:
        killer = threading.Thread(target=kill_now_and_then, args=(box,))
        killer.start()
        programs = [nap(1 + number % 2, number / 5000) for number in range(40)]
        results = list(box.run(programs))
        stop.set()
        killer.join()
    assert len(results) == len(programs)
    for number, result in enumerate(results):
        right = ("pass", "wrong")[number % 2]
        assert result.verdict in (right, "infra_error", "killed", "undecidable"), (number, result)
    assert {"pass", "wrong"} <= {result.verdict for result in results}
    assert wait_until(lambda: running() == before)
