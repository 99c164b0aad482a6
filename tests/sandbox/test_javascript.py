"""JavaScript: the same limits, the same judge, the same tests in another language."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from codestill.errors import SandboxUnavailable, TaskError
from codestill.evaluation import check_gates
from codestill.languages import LanguageSpec
from codestill.sandbox import Program, Sandbox, SandboxConfig, feedback
from codestill.tasks import TasksConfig
from codestill.types import ExecutionResult, Task

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
ROW = {
    "task_id": "js/0",
    "language": "javascript",
    "prompt": "// Twice every item of xs.\nfunction doubled(xs) {\n",
    "entry_point": "doubled",
    "reference": "  return xs.map((x) => 2 * x);\n}\n",
    "tests": [
        "assert doubled([1, 2.5]) == [2, 5.0]",
        "assert doubled([]) == []",
        "assert doubled([-1]) == [-2]",
    ],
}
TASK = Task.model_validate(ROW)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(cpu_seconds=1, wall_factor=1, memory_megabytes=1024), 1) as box:
        yield box


def ran(sandbox: Sandbox, body: str, *tests: str) -> ExecutionResult:
    task = TASK.model_copy(update={"prompt": "function f(x) {\n", "entry_point": "f"})
    return sandbox.execute(Program.of(Task.model_validate(task.model_dump() | {"tests": tests}), body))


@needs_node
def test_a_program_passes_or_fails_as_in_python(sandbox: Sandbox) -> None:
    assert sandbox.execute(Program.of(TASK, TASK.reference)).passed
    wrong = sandbox.execute(Program.of(TASK, "  return xs;\n}\n"))
    assert feedback(wrong) == "AssertionError\nINPUT: ([1, 2.5])\nOUTPUT: [1, 2.5]\nEXPECTED: [2, 5.0]"
    unknown = sandbox.execute(Program.of(TASK, "  return ys;\n}\n"))
    assert (unknown.verdict, unknown.tests[0].error_type) == ("exception", "ReferenceError")
    assert unknown.tests[0].line == 3
    broken = sandbox.execute(Program.of(TASK, "  return (;\n}\n"))
    assert broken.verdict == "exception" and broken.error.startswith("SyntaxError")


@needs_node
@pytest.mark.parametrize(
    "value",
    [
        "None",
        "True",
        "-3",
        "2.5",
        "1e300",
        "'é\\n\"'",
        "[1, [2, 'a']]",
        "{'a': [None, 1.5]}",
        "{1: 2}",
        "{3, 4}",
    ],
)
def test_values_cross_both_ways(sandbox: Sandbox, value: str) -> None:
    result = ran(sandbox, "  return x;\n}\n", f"assert f({value}) == {value}")
    assert result.passed, result


@needs_node
@pytest.mark.parametrize("tier", ["A", "B", "C"])
def test_a_program_passes_in_every_tier(tier: str) -> None:
    config = SandboxConfig(cpu_seconds=5, memory_megabytes=1024)
    try:
        box = Sandbox(config.model_copy(update={"tier": tier}), 1)
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    with box:
        result = box.execute(Program.of(TASK, TASK.reference))
        assert result.passed and f"tier {tier}" in result.sandbox, result


@needs_node
@pytest.mark.parametrize(
    ("body", "test"),
    [
        ("  x.push(1);\n", "a = []\nf(a)\nassert a == [1]"),
        ("  x[0].push(1);\n", "row = []\nf([row])\nassert row == [1]"),
        ("  x.push(1); return x;\n", "a = []\nassert f(a) is a and a == [1]"),
        ("  x.b = 2;\n", "d = {'a': {}}\nf(d)\nassert d == {'a': {}, 'b': 2}"),
        ("  x.add(2);\n", "s = {1}\nf(s)\nassert s == {1, 2}"),
        ("  return x + 1n;\n", "assert f(2 ** 70) == 2 ** 70 + 1"),
        ("  return x;\n", "assert f([2 ** 70, 1]) == [2 ** 70, 1]"),
        ("  return x;\n", "import math\nassert math.copysign(1, f(-0.0)) == -1"),
    ],
)
def test_arguments_are_what_they_were_and_their_changes_are_seen(
    sandbox: Sandbox, body: str, test: str
) -> None:
    result = ran(sandbox, body + "}\n", test)
    assert result.passed, result


@needs_node
@pytest.mark.parametrize(
    ("body", "test"),
    [
        ("  return x;\n", "assert f(x=1) == 1"),
        ("  return 1;\n", "assert f(b'a') == 1"),
        ("  return x(2);\n", "assert f(lambda n: n + 1) == 3"),
        ("  x[0].push(1); return x[1];\n", "row = []\nassert f([row, row]) == [1]"),
        ("  x.reverse();\n", "a, b = [1], [2]\nm = [a, b]\nf(m)\nassert m[0] is b"),
        (
            "  console.log('hi');\n",
            "import contextlib, io\nb = io.StringIO()\nwith contextlib.redirect_stdout(b):\n    f(1)\n"
            "assert b.getvalue() == 'hi\\n'",
        ),
    ],
)
def test_what_cannot_cross_makes_no_verdict(sandbox: Sandbox, body: str, test: str) -> None:
    assert ran(sandbox, body + "}\n", test).verdict == "undecidable"


@needs_node
def test_whole_numbers_beyond_a_double_and_functions(sandbox: Sandbox) -> None:
    assert ran(sandbox, "  return 2n ** 70n;\n}\n", "assert f(1) == 2 ** 70").passed
    result = ran(sandbox, "  return () => 1;\n}\n", "assert f(1) == 1")
    assert (result.verdict, result.tests[0].error_type) == ("exception", "TypeError")


@needs_node
@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ("  while (true) {}\n}\n", "cpu_timeout"),
        ("  const a = []; while (true) a.push(new Array(1e6).fill(1.5));\n}\n", "killed"),
        ("  while (true) console.log('x'.repeat(1000));\n}\n", "output_limit"),
        ("  process.exit(0);\n}\n", "exception"),
        ("  process.kill(process.ppid, 9);\n}\n", "exception"),
        ("  return require('child_process').execSync('echo 1').toString();\n}\n", "exception"),
        ("  require('fs').writeFileSync('/usr/lib/x', 'a');\n}\n", "exception"),
        ("  return require('fs').readFileSync('/etc/passwd', 'utf8');\n}\n", "exception"),
    ],
)
def test_limits_and_walls_are_the_same(sandbox: Sandbox, body: str, verdict: str) -> None:
    assert ran(sandbox, body, "assert f(1) == 1").verdict == verdict


@needs_node
def test_tasks_of_a_file_hold_their_gates(tmp_path: Path, sandbox: Sandbox) -> None:
    (tmp_path / "mine.jsonl").write_text(json.dumps(ROW) + "\n", encoding="utf-8")
    config = TasksConfig.model_validate({"source": "jsonl", "path": tmp_path / "mine.jsonl"})
    with pytest.raises(TaskError, match="js/0 is in javascript"):
        config.load()
    gates = check_gates(config.model_copy(update={"stop": "javascript"}).load(), sandbox)
    assert (gates.reference, gates.empty, gates.pass_body) == (1, 0, 0)


def test_a_missing_runtime_says_so(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LanguageSpec, "executable", lambda self: None)
    with pytest.raises(SandboxUnavailable, match="node is not installed"):
        sandbox.execute(Program.of(TASK, TASK.reference))


def test_no_test_shares_a_process_with_it() -> None:
    with Sandbox(SandboxConfig(verdict="in-process"), 1) as box:
        program = Program.of(TASK, TASK.reference)
        with pytest.raises(SandboxUnavailable):
            box.execute(program)


def test_a_python_task_is_stored_as_before() -> None:
    assert TASK.model_dump()["language"] == "javascript"
    assert "language" not in TASK.model_copy(update={"language": "python"}).model_dump()
