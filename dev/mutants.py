"""Break the code on purpose, one fault at a time, and see that its tests notice: ``make mutants``.

``dev/mutants.toml`` lists the faults: a text of a source file, what stands there instead, and the tests that
should fail. The tests run on copies of the tree, so the working tree is never changed. First they must pass
without any fault. A fault is *killed* when a test fails, *survives* when all pass, and is *broken* when its
text is not found exactly once or no test can run. Results are kept by the tree's content: an interrupted run
continues, and a changed file means that all are run again.

    python dev/mutants.py [--jobs 2] [--only 'losses*'] [--again]
"""

import argparse
import ast
import hashlib
import importlib.util
import json
import multiprocessing
import os
import queue
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parent.parent
LIST = Path("dev/mutants.toml")
KEPT = Path(".venv/mutants.json")
LEFT_OUT = (".*", "runs", "site", "dist", "build", "__pycache__", "wandb")
"""What a copy of the tree does without."""
TEST_SECONDS, RUN_SECONDS = 120, 900
FORKED = multiprocessing.get_context("forkserver")
"""Tests run in forks of a process that has imported what takes long and is never changed."""
Verdict = Literal["killed", "SURVIVES", "BROKEN"]


@dataclass(frozen=True)
class Fault:
    """A deliberate fault."""

    name: str
    """Its part of the code, and what is wrong there."""
    file: str
    before: str
    after: str
    tests: tuple[str, ...]
    """Test files or ids, any one of which must fail."""

    def apply(self, source: str) -> str:
        """The source with the fault. Raises ValueError where it does not apply."""
        found = source.count(self.before)
        if found != 1:
            raise ValueError(f"its text stands {found} times in {self.file}")
        changed = source.replace(self.before, self.after)
        if changed == source:
            raise ValueError("it changes nothing")
        if self.file.endswith(".py"):
            try:
                ast.parse(changed)
            except SyntaxError as error:
                raise ValueError(f"{self.file} does not parse with it: {error}") from error
        return changed


def read_list(root: Path = ROOT) -> tuple[list[Fault], list[str]]:
    """The faults, and the modules that a fork begins with. Raises ValueError where two faults share a
    name."""
    listed = tomllib.loads((root / LIST).read_text(encoding="utf-8"))
    entries = listed["fault"]
    faults = [Fault(**entry | {"tests": tuple(entry["tests"])}) for entry in entries]
    names = [fault.name for fault in faults]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"faults share a name: {', '.join(sorted(twice))}")
    return faults, listed.get("preload", [])


def problem(fault: Fault, root: Path = ROOT) -> str:
    """Why a fault does not apply to the tree; empty where it does."""
    try:
        fault.apply((root / fault.file).read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def pytest(root: Path, tests: Sequence[str], seconds: float | None = None) -> tuple[int, str]:
    """Run the tests in a tree, up to the first failure: pytest's exit code, and what it printed. The code is
    negative where a signal ended it, or so many ``seconds``."""
    with tempfile.NamedTemporaryFile() as output:
        process = FORKED.Process(target=_inside, args=(root, tests, output.name))
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            os.killpg(process.pid or 0, signal.SIGKILL)
            process.join()
        return process.exitcode or 0, Path(output.name).read_text(errors="replace")


def _inside(root: Path, tests: Sequence[str], output: str) -> None:
    """The tests, in a process that has imported no module of the tree."""
    os.setsid()
    stream = os.open(output, os.O_WRONLY)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    os.chdir(root)
    sys.path.insert(0, str(root / "src"))
    # Plugins that are not asked for take longer to load than most of the tests to run.
    os.environ |= {"PYTHONPATH": str(root / "src"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    from pytest import main

    options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "pytest_timeout", "--timeout", str(TEST_SECONDS)]
    sys.exit(int(main([*options, *tests])))


def verdict(fault: Fault, copy: Path) -> tuple[Verdict, str]:
    """Whether the tests notice the fault in a copy of the tree, which is as before afterwards."""
    path = copy / fault.file
    whole = path.read_text(encoding="utf-8")
    try:
        _write(path, fault.apply(whole))
        code, said = pytest(copy, fault.tests, RUN_SECONDS)
    finally:
        _write(path, whole)
    if code == 1:
        return "killed", ""
    if code == 0:
        return "SURVIVES", ""
    return "BROKEN", f"pytest ended with {code}: {said.strip()[-600:]}"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    # A compiled file is told by the second and the size of its source: both may be those of the fault.
    if path.suffix == ".py":
        Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)


@contextmanager
def copies(root: Path, count: int) -> Iterator["queue.SimpleQueue[Path]"]:
    """Copies of the tree, to take from and to put back into."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as place:
        free: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(count):
            copy = Path(place) / str(number)
            shutil.copytree(root, copy, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
            free.put(copy)
        yield free


def state(root: Path) -> str:
    """A digest of the sources and tests."""
    digest = hashlib.sha256()
    for top in ("src", "tests", "pyproject.toml"):
        place = root / top
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file() and path.suffix != ".pyc":
                digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


@dataclass
class Kept:
    """Verdicts by content of the tree and of the fault."""

    path: Path
    tree: str
    known: dict[str, Verdict]

    @classmethod
    def read(cls, root: Path) -> "Kept":
        path, tree = root / KEPT, state(root)
        known = json.loads(path.read_text()) if path.exists() else {}
        return cls(path, tree, known.get(tree, {}))

    def key(self, fault: Fault) -> str:
        return hashlib.sha256(json.dumps(asdict(fault)).encode()).hexdigest()

    def put(self, fault: Fault, found: Verdict) -> None:
        self.known[self.key(fault)] = found
        self.path.parent.mkdir(exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps({self.tree: self.known}))
        temporary.replace(self.path)


def run(root: Path, only: str, jobs: int, again: bool, say: Callable[[str], None] = print) -> int:
    """Run the faults whose names match; returns the exit status."""
    listed, preload = read_list(root)
    faults = [fault for fault in listed if fnmatch(fault.name, only)]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    FORKED.set_forkserver_preload(preload)
    kept = Kept.read(root)
    found: dict[str, Verdict] = {}
    for fault in faults:
        if why := problem(fault, root):
            found[fault.name] = "BROKEN"
            say(f"BROKEN    {fault.name}: {why}")
        elif not again and kept.known.get(kept.key(fault)) == "killed":
            found[fault.name] = "killed"
    owed = [fault for fault in faults if fault.name not in found]
    say(f"{len(faults)} faults, {len(owed)} to run")
    with copies(root, jobs) as free:
        if owed:
            copy = free.get()
            tests = sorted({test for fault in owed for test in fault.tests})
            code, said = pytest(copy, tests)
            free.put(copy)
            if code:
                say(f"{said}\nThe tests must pass before they can notice a fault.")
                return 2

        def one(fault: Fault) -> tuple[Fault, Verdict, str, float]:
            copy, started = free.get(), time.monotonic()
            try:
                return fault, *verdict(fault, copy), time.monotonic() - started
            finally:
                free.put(copy)

        with ThreadPoolExecutor(jobs) as pool:
            for number, (fault, ended, why, seconds) in enumerate(pool.map(one, owed), 1):
                found[fault.name] = ended
                kept.put(fault, ended)
                say(f"{number:3}/{len(owed)}  {ended:8}  {seconds:5.1f} s  {fault.name}")
                if why:
                    say(why)
    return conclude(found, say)


def conclude(found: dict[str, Verdict], say: Callable[[str], None]) -> int:
    """Say what is left to do; 1 where there is anything, or no fault at all."""
    left = {name: ended for name, ended in found.items() if ended != "killed"}
    say(f"{len(found) - len(left)} of {len(found)} faults are killed.")
    for name, ended in left.items():
        say(f"{ended:8}  {name}")
    return 1 if left or not found else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=1, help="faults at a time")
    parser.add_argument("--only", default="*", help="names to run, with * and ?")
    parser.add_argument("--again", action="store_true", help="also those known to be killed")
    options = parser.parse_args()
    return run(ROOT, options.only, options.jobs, options.again, lambda line: print(line, flush=True))


if __name__ == "__main__":
    sys.exit(main())
