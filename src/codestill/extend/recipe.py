"""Proof that a recipe keeps the promises that every bundled one keeps."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, TracebackType
from typing import NamedTuple

from codestill.extend.finding import Finding
from codestill.files.run_files import read_ledger
from codestill.files.serialize import read_record
from codestill.types import Evaluation

_KILLED_AT = (0.2, 0.5, 0.8)
"""Of the run's events, the share after which it is killed."""
_COMPARED = ("stages", "results", "samples", "student", "examples.jsonl", "accounting.json", "funnel.json")
"""What must come out the same, to the byte."""
_PATIENCE_SECONDS = 900


def check_recipe(path: Path, module: ModuleType) -> Iterator[Finding]:
    """Run it on tiny data; kill it, and let it go on: the same bytes, no call twice, scores behind gates."""
    name = path.stem
    unexplained = [field for field, info in module.Config.model_fields.items() if not info.description]
    yield Finding(name, "every setting has help", not unexplained, ", ".join(unexplained) or "docstrings")
    with tempfile.TemporaryDirectory(prefix="codestill-check-") as place, _Worker(path, place) as worker:
        whole = Path(place, "whole")
        done = worker.run(whole)
        if done.code:
            yield Finding(name, "runs on tiny data", False, _last_line(done.err))
            return
        events = int(done.out.split()[-1])
        yield Finding(name, "runs on tiny data", True, f"{events} events")
        yield _gates(name, whole)
        weights = (whole / "student" / "model.safetensors").exists()
        yield Finding(name, "leaves a student", weights, "" if weights else "there is no student/: call fit")
        for share in _KILLED_AT:
            after = max(1, round(share * events))
            killed = Path(place, f"killed-{after}")
            first = worker.run(killed, after)
            second = worker.run(killed)
            what = f"killed after {after} of {events} events, goes on to the same bytes"
            if first.code != -signal.SIGKILL:
                yield Finding(name, what, False, "ran to its end: events depend on chance")
            elif second.code:
                yield Finding(name, what, False, _last_line(second.err))
            else:
                different = _different(whole, killed)
                yield Finding(name, what, not different, ", ".join(different[:3]))
                yield _calls(name, killed, after)


class _Done(NamedTuple):
    """A run that has ended."""

    code: int
    """Its exit code, negative for a signal."""
    out: str
    err: str


class _Worker:
    """The process that runs a recipe file, again and again."""

    def __init__(self, recipe: Path, place: str) -> None:
        self.recipe, self.said = recipe, Path(place, "worker.err")

    def __enter__(self) -> "_Worker":
        with self.said.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "codestill.extend.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                start_new_session=True,  # so that a run that never ends can be ended with it
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: TracebackType | BaseException | None) -> None:
        if kind is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
        with self.process:  # closes its standard input, at which it ends
            pass

    def run(self, directory: Path, after: int | None = None) -> _Done:
        """One run in a directory, killed ``after`` so many events."""
        import fcntl  # here: Windows has none

        said = str(directory.with_name(f"said-{directory.name}"))
        job = {"said": said, "recipe": str(self.recipe), "directory": str(directory), "after": after}
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(job).encode() + b"\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], _PATIENCE_SECONDS)[0]:
            raise subprocess.TimeoutExpired(self.process.args, _PATIENCE_SECONDS)
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(_last_line(self.said.read_text(errors="replace")))
        # A sandbox process that was being forked holds its parent's lock until it becomes another program.
        for lock in directory.glob(".lock"):
            with lock.open() as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)
        out, err = (Path(said + suffix).read_text(errors="replace") for suffix in (".out", ".err"))
        return _Done(int(answer), out, err)


def _gates(name: str, run: Path) -> Finding:
    found = sorted((run / "results").rglob("*.json"))
    if not found:
        return Finding(name, "evaluates behind gates", False, "no result was written: call evaluate")
    failures = [why for path in found if (why := read_record(path, Evaluation).gates.failure())]
    return Finding(
        name, "evaluates behind gates", not failures, "; ".join(failures) or f"{len(found)} scores"
    )


def _calls(name: str, run: Path, after: int) -> Finding:
    ledger = run / "ledger.jsonl"
    calls = Counter((call.stage, call.key) for call in read_ledger(ledger)) if ledger.exists() else Counter()
    again = [f"{stage} {key}" for (stage, key), count in calls.items() if count > 1]
    detail = ", ".join(again[:3]) or f"{calls.total()} calls"
    return Finding(name, f"killed after {after}, pays no call twice", not again, detail)


def _different(whole: Path, killed: Path) -> list[str]:
    """Files that are not the same in both."""
    files = {
        path.relative_to(place) for place in (whole, killed) for path in place.rglob("*") if path.is_file()
    }
    compared = sorted(path for path in files if path.parts[0] in _COMPARED)
    return [str(path) for path in compared if _bytes(whole / path) != _bytes(killed / path)]


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "it ended without a word")
