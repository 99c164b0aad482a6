"""What a reference returns is computed once for a task's inputs, kept on disk, and believed only when whole.

The references here return something else each time that they run, so an answer that is right in a second
execution was compared with the kept value.
"""

import base64
import json
import marshal
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from codestill.sandbox import Program, Sandbox, SandboxConfig
from codestill.tasks import TasksConfig, evalplus
from codestill.tasks.evalplus import _judge_source
from codestill.types import Task

from .test_evalplus import PLUS
from .test_files import write

RANDOM = "    import os\n    return os.urandom(8).hex()\n"
STEADY = "    return xs[1:]\n"
ANOTHER = base64.b85encode(marshal.dumps({"base": [([3], 0.0)], "plus": []})).decode()


def load(directory: Path, reference: str = RANDOM, **change) -> Task:
    row = {**PLUS, "canonical_solution": reference, "plus_input": [], **change}
    config = TasksConfig(source="humaneval-plus", path=write(directory / "memo.jsonl", row))
    (task,) = config.load().tasks
    return task


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "expected"


@pytest.fixture
def sandbox(cache: Path) -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(cache=cache), workers=1) as built:
        yield built


def expected(sandbox: Sandbox, task: Task) -> str:
    """What an answer was compared with, as ``repr``."""
    result = sandbox.execute(Program.of(task, "    return None\n"))
    assert result.tests[0].verdict == "wrong"
    assert result.tests[0].expected
    return result.tests[0].expected


def passes(sandbox: Sandbox, task: Task, value: str) -> bool:
    return sandbox.execute(Program.of(task, f"    return {value}\n")).passed


def test_the_reference_runs_once(sandbox: Sandbox, tmp_path: Path, cache: Path) -> None:
    task = load(tmp_path)
    value = expected(sandbox, task)
    assert passes(sandbox, task, value)
    assert expected(sandbox, task) == value
    with Sandbox(SandboxConfig(cache=cache), workers=1) as another:
        assert passes(another, task, value)
    with Sandbox(SandboxConfig(cache=tmp_path / "another"), workers=1) as elsewhere:
        assert not passes(elsewhere, task, value)


def test_it_runs_again_for_other_inputs_another_reference_and_another_judge(
    sandbox: Sandbox, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [load(tmp_path), load(tmp_path, base_input=[[[1, 3]]]), load(tmp_path, RANDOM + "    # new\n")]
    source = _judge_source() + "# new\n"
    monkeypatch.setattr(evalplus, "_judge_source", lambda: source)
    tasks.append(load(tmp_path))
    values = {expected(sandbox, task) for task in tasks}
    assert len(values) == 4
    assert len(list(cache.iterdir())) == 4
    assert all(any(passes(sandbox, task, value) for value in values) for task in tasks)


def kept(cache: Path) -> Path:
    (path,) = cache.iterdir()
    return path


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    """Another value in a file that is otherwise whole."""
    content = path.read_text()
    (value,) = [text for text in re.findall(r'"([^"]*)"', content) if len(text) > 8 and len(text) != 64]
    path.write_text(content.replace(value, change(value)))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_text(""),
    "torn": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "no text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "another form": lambda path: path.write_text("{}"),
    "no list of texts": lambda path: path.write_text("[1]"),
    "gone": lambda path: path.unlink(),
    "a directory": lambda path: (path.unlink(), path.mkdir()),
    "other text": lambda path: rewrite(path, lambda value: "text"),
    "too few texts": lambda path: path.write_text("[]"),
    "another value": lambda path: rewrite(path, lambda value: ANOTHER),
}


@pytest.mark.parametrize(
    "damage",
    list(DAMAGE),
)
def test_a_damaged_file_is_ignored(damage: str, tmp_path: Path, cache: Path) -> None:
    task = load(tmp_path, STEADY)
    with Sandbox(SandboxConfig(cache=cache), workers=1) as sandbox:
        assert passes(sandbox, task, "xs[1:]")
    DAMAGE[damage](kept(cache))
    with Sandbox(SandboxConfig(cache=cache), workers=1) as sandbox:
        assert passes(sandbox, task, "xs[1:]")
        assert not passes(sandbox, task, "xs")


def test_a_damaged_file_is_written_anew(tmp_path: Path, cache: Path) -> None:
    task = load(tmp_path)
    with Sandbox(SandboxConfig(cache=cache), workers=1) as sandbox:
        first = expected(sandbox, task)
    kept(cache).write_text("[")
    with Sandbox(SandboxConfig(cache=cache), workers=1) as sandbox:
        second = expected(sandbox, task)
    assert second != first
    with Sandbox(SandboxConfig(cache=cache), workers=1) as sandbox:
        assert passes(sandbox, task, second)


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    task = load(tmp_path, STEADY)
    sealed = tmp_path / "sealed"
    sealed.mkdir(mode=0o500)  # root may write there all the same
    (tmp_path / "file").write_text("")
    for place in (sealed, sealed / "below", tmp_path / "file", tmp_path / "file" / "below", Path("/proc/no")):
        with Sandbox(SandboxConfig(cache=place), workers=1) as sandbox:
            assert passes(sandbox, task, "xs[1:]")
            assert not passes(sandbox, task, "xs")


def test_values_that_are_too_large_or_no_data_are_not_kept(
    sandbox: Sandbox, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fraction = "    from fractions import Fraction\n    return Fraction(len(xs), 3)\n"
    task = load(tmp_path, fraction)
    assert passes(sandbox, task, "__import__('fractions').Fraction(2, 3)")
    assert not passes(sandbox, task, "__import__('fractions').Fraction(1, 3)")
    assert '""' in kept(cache).read_text()
    source = _judge_source().replace("KEPT_BYTES = 8 << 20", "KEPT_BYTES = 4")
    monkeypatch.setattr(evalplus, "_judge_source", lambda: source)
    assert passes(sandbox, load(tmp_path, STEADY), "xs[1:]")
    task = load(tmp_path)
    assert not passes(sandbox, task, expected(sandbox, task))  # it ran again


def test_two_processes_and_their_threads_at_once_do_no_harm(tmp_path: Path, cache: Path) -> None:
    rows = [{**PLUS, "task_id": f"HumanEval/{number}", "base_input": [[[number]]]} for number in range(12)]
    path = write(tmp_path / "tasks.jsonl", *rows)
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from codestill.sandbox import Program, Sandbox, SandboxConfig
        from codestill.tasks import TasksConfig

        tasks = TasksConfig(source="humaneval-plus", path=Path(sys.argv[1])).load().tasks
        with Sandbox(SandboxConfig(cache=Path(sys.argv[2])), workers=3) as sandbox:
            answers = ["    return xs[1:]\\n", "    return [x for x in xs[1:]]\\n", "    return xs\\n"]
            programs = [Program.of(task, answer) for task in tasks for answer in answers]
            print("".join("01"[result.passed] for result in sandbox.run(programs)))
        """
    )
    command = [sys.executable, "-c", program, str(path), str(cache)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in running]
    assert outputs == ["110" * 12 + "\n"] * 2
    assert len(list(cache.iterdir())) == 12  # and no temporary file
    for file in cache.iterdir():
        assert json.loads(file.read_text())
        assert '""' not in file.read_text()
