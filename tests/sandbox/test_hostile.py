"""Hostile programs (``hostile/``), each held to its exact verdict, and to having touched nothing.

Every one runs in tiers A and B; as root, all of it runs once more as a plain user.
"""

import os
import platform
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.sandbox.hostile import PROGRAMS, SEARCHES, Hostile
from tests.sandbox.hostile.world import World, descendants

from codestill.errors import SandboxUnavailable
from codestill.sandbox import Program, Sandbox, SandboxConfig
from codestill.types import ExecutionResult, Test

TIERS = ("A", "B")
CONTROL = Program(
    solution="import random\ndef f(values): return sorted(values)",
    entry_point="f",
    tests=(Test(code="assert f([3, 1, 2]) == [1, 2, 3]"), Test(code="assert f([]) == []")),
)
HERE = [row for row in PROGRAMS if row.machine in ("", platform.machine())]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    # Where every user may look: the sandbox, and not the mode of a directory, is to keep programs out.
    with tempfile.TemporaryDirectory(dir="/tmp") as directory, World(Path(directory)).watched() as made:
        yield made


@pytest.fixture(scope="module", params=TIERS)
def box(request: pytest.FixtureRequest, world: World) -> Iterator[Sandbox]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_LIBRARY_PATH", str(world.readable))  # programs may read what is there
        try:
            built = Sandbox(config(request.param, cache=world.kept), workers=1)
        except SandboxUnavailable as error:
            pytest.skip(str(error))
        with built:
            yield built


def config(tier: str, **options: object) -> SandboxConfig:
    settings = {"cpu_seconds": 2, "wall_factor": 1, "memory_megabytes": 256, "file_megabytes": 8}
    return SandboxConfig.model_validate({"tier": tier, **settings, **options})


def state(world: World, box: Sandbox) -> dict[str, Any]:
    """The world's, without the one judge that may be kept: one thread, the null device and a socket."""
    found = world.state()
    readable = os.geteuid() == 0  # a plain user may not count their descriptors
    for worker in box._pool._workers:
        zygote, *judges = descendants(worker.process.pid)
        for pid in judges[:1]:
            assert found["processes"].pop(pid) == (1, 4 if readable else 0)
            threads, descriptors = found["processes"][zygote]
            found["processes"][zygote] = (threads, descriptors - readable)
    return found


def token() -> str:
    return f"EXPECTED-{secrets.token_hex(16)}"


def told(result: ExecutionResult) -> str:
    """How the result ended, as rows have it."""
    failed = next((test for test in result.tests if test.verdict != "pass"), None)
    return f"{result.verdict} {(failed.error_type if failed else '') or result.error}"


@pytest.mark.parametrize("row", HERE, ids=lambda row: row.name.replace(" ", "_"))
def test_program(row: Hostile, box: Sandbox, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state(world, box)
    with monkeypatch.context() as patch:
        if row.waits:
            patch.setattr("codestill.sandbox.verdict.WALL_MARGIN_SECONDS", 0.1)
        result = box.execute(row.program(world.names(), token()))
    assert told(result).startswith(row.expected(box.config.tier)), result
    assert state(world, box) == before
    assert box.execute(CONTROL).passed


@pytest.mark.parametrize(
    "row", [row for row in HERE if row.works], ids=lambda row: row.name.replace(" ", "_")
)
def test_the_same_act_works_where_nothing_forbids_it(row: Hostile, tmp_path: Path) -> None:
    """Else the test above would show nothing: a program may fail for a reason of its own."""
    if row.works == "root" and os.geteuid() != 0:
        pytest.skip("an act of root's")
    with World(tmp_path).watched() as world:
        done = subprocess.run(
            [sys.executable, "-c", row.text(world.names()) + "\nassert f() is True"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("row", SEARCHES, ids=lambda row: row.name.replace(" ", "_"))
def test_searches_find_the_value_where_the_tests_share_the_process(row: Hostile, world: World) -> None:
    with Sandbox(config("best", verdict="in-process"), workers=1) as shared:
        result = shared.execute(row.program(world.names(), token()))
    assert result.passed and "in-process" in result.sandbox, result


def test_rows_are_what_they_promise() -> None:
    names = [row.name for row in PROGRAMS]
    assert len(names) >= 60 and len(set(names)) == len(names)
    assert all(row.expected(tier) for row in PROGRAMS for tier in TIERS)


LEAVE = """
import os
for make in (
    lambda: open("left", "w").write("x"),
    lambda: open("json.py", "w").write("raise SystemExit(0)"),
    lambda: os.makedirs("deep/er/still"),
    lambda: os.symlink("/", "link"),
    lambda: os.environ.update(LEFT="x", PYTHONPATH="."),
    lambda: os.utime(".", (0, 0)),
    lambda: os.chmod(".", 0),
):
    try:
        make()
    except OSError:
        pass
os.umask(0o777)
os.chdir("/")
import builtins, json
builtins.left = json.left = True
def f(): return True
"""
LOOK = """
import builtins, json, os, tempfile
def f():
    found = [name for name in ("left", "LEFT", "PYTHONPATH") if name in os.environ or hasattr(json, name)]
    for place in (".", tempfile.gettempdir() if os.path.isdir("/box") else "."):
        try:
            found += os.listdir(place)
        except OSError:
            pass
    return found, hasattr(builtins, "left"), os.umask(0o22) == 0o777, os.stat(".").st_mtime == 0
"""


def test_nothing_is_left_for_the_next_program(box: Sandbox) -> None:
    leave = Program(solution=LEAVE, entry_point="f", tests=(Test(code="assert f() is True"),))
    look = Program(
        solution=LOOK, entry_point="f", tests=(Test(code="assert f() == ([], False, False, False)"),)
    )
    assert box.execute(leave).passed
    result = box.execute(look)
    assert result.passed, result.tests


def test_what_tests_compute_once_is_not_the_programs_to_say(tmp_path: Path) -> None:
    """Values that are kept for all programs of a task come from its tests, whole and in their order."""

    def program(solution: str, setup: str, *tests: str) -> Program:
        return Program(
            solution=solution,
            entry_point="f",
            test_setup=setup,
            tests=tuple(Test(code=test) for test in tests),
        )

    setup = "def both(g):\n    assert __memo__(lambda: 'one') == 'one'\n    g()\n"
    tests = ("both(f)", "assert __memo__(lambda: 'two') == 'two'")
    early = program("import os\ndef f(): os._exit(0)", setup, *tests)
    right = [program(f"def f(): return {n}", setup, *tests) for n in range(3)]
    named = "EXPECTED = __memo__(lambda: NAME)"  # that tests have it of the program is their mistake
    liar = program("NAME = 'lie'\ndef f(): return 'lie'", named, "assert f() == EXPECTED")
    honest = program("NAME = 'truth'\ndef f(): return 'truth'", named, "assert f() == EXPECTED")
    with Sandbox(config("best", cache=tmp_path), workers=1) as box:
        assert not box.execute(early).passed
        assert [result.verdict for result in box.run(right)] == ["pass"] * 3
        assert box.execute(liar).passed  # of itself alone
        assert box.execute(honest).passed


def test_neighbours_are_not_disturbed(box: Sandbox, world: World) -> None:
    """Many at once on two workers, with controls between them."""
    rows = [row for row in HERE if row.cpu_seconds is None and not row.waits][::3]
    hostile = [row.program(world.names(), token()) for row in rows]
    controls = [
        CONTROL.model_copy(update={"solution": f"{CONTROL.solution}\n# {n}"}) for n in range(len(rows))
    ]
    programs = [program for pair in zip(hostile, controls, strict=True) for program in pair]
    before = state(world, box)
    with Sandbox(config(box.config.tier), workers=2) as busy:
        results = list(busy.run(programs))
    assert [result.verdict for result in results[1::2]] == ["pass"] * len(rows)
    for row, result in zip(rows, results[::2], strict=True):
        assert told(result).startswith(row.expected(box.config.tier)), (row.name, result)
    assert state(world, box) == before


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_of_this_as_a_plain_user() -> None:
    """With an interpreter and packages that nobody can reach."""
    if os.geteuid() != 0:
        pytest.skip("this is the plain user's half; root's half needs root")
    packages = [path for path in sys.path if path.endswith("site-packages")]
    root = Path(__file__).parents[2]
    environment = {
        "PYTHONPATH": os.pathsep.join([str(root / "src"), *packages]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/nonexistent",
        "PATH": os.environ["PATH"],
    }

    def as_nobody(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            user=65534,
            group=65534,
            extra_groups=[],
            env=environment,
            cwd=root,
            capture_output=True,
            text=True,
        )

    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        try:
            reachable = as_nobody(python, "-c", "import codestill.sandbox, pytest").returncode == 0
        except OSError:
            continue
        if reachable:
            break
    else:
        pytest.skip(f"no {version} that a plain user can run with these packages")
    done = as_nobody(
        python, "-m", "pytest", "-rs", __file__, str(Path(__file__).with_name("test_hostile_kills.py"))
    )
    assert done.returncode == 0, done.stdout[-5000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) >= len(HERE) * len(TIERS), done.stdout[-5000:]
    print(done.stdout)
