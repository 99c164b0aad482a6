"""Verdicts do not change with the machine's load."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from codestill.sandbox import Program, Sandbox, SandboxConfig
from codestill.types import Test

ENDLESS = "while True: pass"
STINTS = """
import time
while True:
    start = time.perf_counter()
    while time.perf_counter() - start < 0.0025:
        pass
    time.sleep(0.0008)
"""
"""Computes between the ticks of the kernel's clock, which are then charged to whoever runs at a tick."""
COMPUTES = """
import time

def f():  # {number}: distinct programs, because equal ones are executed once
    start = time.process_time()
    while time.process_time() - start < {seconds}:
        pass
    return {number}
"""


@contextlib.contextmanager
def one_busy_core(*others: str) -> Iterator[None]:
    """This thread and what it starts run on one core, which these other programs keep busy."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    # In sessions of their own, so that each gets a share as large as the program's.
    busy = [subprocess.Popen([sys.executable, "-c", other], start_new_session=True) for other in others]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()
        os.sched_setaffinity(0, before)


def computes(number: int, seconds: float) -> Program:
    test = Test(code=f"assert f() == {number}")
    source = COMPUTES.format(number=number, seconds=seconds)
    return Program(solution=source, entry_point="f", tests=(test,))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("count", [4, pytest.param(200, marks=pytest.mark.slow)])
def test_programs_within_their_cpu_limit_pass_on_a_busy_core(count: int) -> None:
    with one_busy_core(*[ENDLESS] * 4), Sandbox(SandboxConfig(cpu_seconds=2)) as sandbox:
        assert sandbox.workers == 1
        results = list(sandbox.run(computes(number, 1) for number in range(count)))
    assert [result.verdict for result in results] == ["pass"] * count


def test_programs_over_their_cpu_limit_fail_on_a_busy_core() -> None:
    with one_busy_core(*[ENDLESS] * 4), Sandbox(SandboxConfig(cpu_seconds=1)) as sandbox:
        assert sandbox.execute(computes(0, 3)).verdict == "cpu_timeout"


def test_cpu_time_is_what_a_program_used_and_not_the_ticks_that_met_it() -> None:
    with one_busy_core(STINTS), Sandbox(SandboxConfig(cpu_seconds=4)) as sandbox:
        assert sandbox.execute(computes(0, 3.4)).verdict == "pass"
