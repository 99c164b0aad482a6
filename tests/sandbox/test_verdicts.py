"""What each kind of program is told about itself."""

import os

import pytest

from codestill.sandbox import Program, Sandbox, SandboxConfig, feedback
from codestill.types import ExecutionResult, Task, Test


def test_pass_and_result_fields(sandbox, program):
    result = sandbox.execute(program("def f(x):\n    return x + 1\nprint('é', object())", "assert f(1) == 2"))
    assert result.passed
    assert [test.verdict for test in result.tests] == ["pass"]
    assert result.output == "é <object object at 0x...>\n"  # no address: reruns give equal bytes
    assert result.sandbox == sandbox.description
    assert 0 < result.cpu_seconds < 1
    assert result.wall_seconds > 0
    assert feedback(result) == ""


def test_every_test_has_its_result(sandbox, program):
    result = sandbox.execute(
        program(
            "def f(x):\n    return x + 1",
            "assert f(1) == 2",
            "assert f(1) == 3",
            "assert 7 == f(x=2)",
            "assert not f(1)",
            "assert abs(f(2) - 7) < 1e-6",
            "assert f('a') == 1",
            "raise ValueError('no')",
            "assert f(5) == 6",
        )
    )
    assert result.verdict == "wrong"
    shown = [(test.verdict, test.call, test.actual, test.expected) for test in result.tests]
    assert shown == [
        ("pass", "", "", ""),
        ("wrong", "f(1)", "2", "3"),
        ("wrong", "f(x=2)", "3", "7"),
        ("wrong", "f(1)", "2", "False"),
        ("wrong", "f(2)", "False", "True"),
        ("exception", "f('a')", "", ""),
        ("exception", "", "", ""),
        ("pass", "", "", ""),
    ]
    assert result.tests[5].error_type == "TypeError"
    assert (result.tests[6].error_type, result.tests[6].message) == ("ValueError", "no")


def test_failing_call_is_found_through_the_set_up(sandbox, program):
    setup = """
def assertion(out, exp):
    assert out == exp, f"got {out}"
def check(candidate):
    for inputs, expected in [([1, 2], 3), ([2, 3], 6)]:
        assertion(
            candidate(*inputs),
            expected)
"""
    result = sandbox.execute(program("def f(a, b):\n    return a + b", "check(f)", setup=setup))
    (test,) = result.tests
    assert (test.verdict, test.call, test.actual, test.expected) == ("wrong", "f(2, 3)", "5", "6")
    assert test.message == "got 5"


@pytest.mark.parametrize(
    ("solution", "test", "verdict", "error"),
    [
        ("def f(:", "f()", "exception", "SyntaxError: invalid syntax (line 1)"),
        ("def f(): pass\n1 / 0", "f()", "exception", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(0)", "1", "exception", "SystemExit: 0"),
        (
            "import os\nos._exit(0)",
            "1",
            "exception",
            "SystemExit: the process left with status 0 before its tests ended",
        ),
        ("x = bytearray(10**11)", "1", "memory", "MemoryError"),
        ("x = []\nwhile True: x.append(bytes(10**7))", "1", "memory", "MemoryError"),
        ("while True: pass", "1", "cpu_timeout", "more than 1 s of CPU time"),
        ("while True: print('x' * 1000)", "1", "output_limit", "more than 1000 kB of output"),
        ("import ctypes\nctypes.string_at(0)", "1", "killed", "killed by SIGSEGV"),
        ("input()", "1", "exception", "EOFError: EOF when reading a line"),
        ("open('big', 'wb').write(bytes(10**8))", "1", "exception", "OSError: [Errno 27] File too large"),
        ("def f(): pass", "1", "pass", ""),
    ],
)
def test_verdict(sandbox, program, solution, test, verdict, error):
    result = sandbox.execute(program(solution, test))
    assert (result.verdict, result.error) == (verdict, error)
    if verdict != "pass":
        assert result.tests == ()
        assert feedback(result)


def test_verdicts_inside_a_test(sandbox, program):
    solution = """
def f(what):
    if what == "assert":
        assert False, "an assertion of the solution's own"
    if what == "exit":
        raise SystemExit(0)
    if what == "memory":
        return bytearray(10**11)
    import time
    while what == "spin":
        pass
"""
    result = sandbox.execute(
        program(solution, "f('assert')", "f('exit')", "f('memory')", "f('none')", "f('spin')", "f('none')")
    )
    verdicts = [test.verdict for test in result.tests]
    assert verdicts == ["exception", "exception", "memory", "pass"]  # the fifth did not end
    assert (result.verdict, result.error) == ("exception", "more than 1 s of CPU time")


def test_first_failure_decides_and_a_later_limit_is_told(sandbox, program):
    result = sandbox.execute(program("def f(): return 1", "assert f() == 1", "while True: pass"))
    assert result.verdict == "cpu_timeout"
    assert [test.verdict for test in result.tests] == ["pass"]


def test_fractional_cpu_limit_counts(sandbox, program):
    spin = "import time\nwhile time.process_time() < {}: pass"
    assert sandbox.execute(program(spin.format(0.5), "1", cpu_seconds=0.3)).verdict == "cpu_timeout"
    assert sandbox.execute(program(spin.format(1.3), "1", cpu_seconds=5)).verdict == "pass"


def test_waiting_program_meets_the_wall_limit(program):
    with Sandbox(SandboxConfig(cpu_seconds=0.1, wall_factor=1), workers=1) as quick:
        result = quick.execute(program("import time\ntime.sleep(60)", "1"))
    assert (result.verdict, result.error) == ("wall_timeout", "more than 2.1 s of wall time")


def test_load_does_not_turn_computing_into_waiting(program):
    """Six programs share a core: each takes longer than the wall limit, and less than the CPU limit."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        with Sandbox(SandboxConfig(cpu_seconds=2, wall_factor=1), workers=6) as crowded:
            spin = "import time\nwhile time.process_time() < 0.9: pass"
            programs = [program(spin, f"assert {n} >= 0") for n in range(6)]
            assert [result.verdict for result in crowded.run(programs)] == ["pass"] * 6
    finally:
        os.sched_setaffinity(0, cores)


def test_program_is_not_main_and_is_importable_as_main(sandbox, program):
    solution = """
import pickle, dataclasses, __main__
if __name__ == "__main__":
    raise SystemExit
@dataclasses.dataclass
class Point:
    x: "int"
def f():
    return pickle.loads(pickle.dumps(Point(3))) == Point(3) and __main__.f is f
"""
    assert sandbox.execute(program(solution, "assert f() is True")).passed


def test_sets_are_ordered_alike_in_every_process(sandbox, program):
    solution = "print(list({str(i) for i in range(40)}))"
    first, second = (sandbox.execute(program(solution, "1", f"{n}")) for n in range(2))
    assert first.output == second.output


def test_ordinary_programs_are_not_hindered(sandbox, program):
    solution = """
import asyncio, shutil, tempfile, threading, os, random, zoneinfo, decimal
def f():
    results = []
    threads = [threading.Thread(target=results.append, args=(i,)) for i in range(4)]
    [t.start() for t in threads]; [t.join() for t in threads]
    with open("a.txt", "w") as file:
        file.write("text")
    shutil.copy("a.txt", "b.txt")
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"x")
    os.urandom(4)
    asyncio.run(asyncio.sleep(0))
    return sorted(results), open("b.txt").read()
"""
    result = sandbox.execute(program(solution, "assert f() == ([0, 1, 2, 3], 'text')"))
    assert result.passed, result


def test_numpy_is_importable(sandbox, program):
    pytest.importorskip("numpy")
    solution = "import numpy as np\ndef f():\n    return float((np.eye(50) @ np.ones(50)).sum())"
    result = sandbox.execute(program(solution, "assert f() == 50", cpu_seconds=10))
    assert result.passed, result


def test_hostile_values_do_not_break_the_report(sandbox, program):
    solution = r"""
class Text(str):
    def __getitem__(self, key): raise KeyError
    def encode(self, *a): raise KeyError
class Value:
    def __repr__(self): raise RuntimeError
class Error(Exception):
    def __str__(self): return Text("odd \0 \ud800 text")
def f(kind):
    if kind: raise Error
    return Value()
"""
    result = sandbox.execute(program(solution, "assert f(0) == 1", "f(1)", "assert f(2) == 'x' * 9999"))
    assert [test.verdict for test in result.tests] == ["wrong", "exception", "exception"]
    assert result.tests[0].actual == "<RuntimeError in repr>"
    assert result.tests[1].message == "odd \0 \\ud800 text"


def test_long_values_are_cut(sandbox, program):
    result = sandbox.execute(program("def f(): return 'a b ' * 10**5", "assert f() == ''"))
    assert len(result.tests[0].actual) == 2000
    assert len(feedback(result, max_words=7).split("OUTPUT: ")[1].split("\n")[0].split()) == 8


def test_feedback_cuts_to_words():
    result = ExecutionResult(verdict="exception", error="one two three four")
    assert feedback(result, max_words=2) == "one two ..."


def test_program_of_a_task(sandbox: Sandbox):
    task = Task(
        task_id="t",
        prompt="def f(x):\n",
        entry_point="f",
        reference="    return x\n",
        tests=(Test(code="assert f(3) == 3"),),
    )
    assert sandbox.execute(Program.of(task, task.reference)).verdict == "pass"
    assert sandbox.execute(Program.of(task, "    pass\n")).verdict == "wrong"
    assert sandbox.execute(Program.of(task, "")).verdict == "exception"
