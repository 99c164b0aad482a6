"""Proof that a recipe keeps the promises that every bundled one keeps."""

import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

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
    with tempfile.TemporaryDirectory(prefix="codestill-check-") as place:
        whole = Path(place, "whole")
        done = _worked(path, whole)
        if done.returncode:
            yield Finding(name, "runs on tiny data", False, _last_line(done.stderr))
            return
        events = int(done.stdout.split()[-1])
        yield Finding(name, "runs on tiny data", True, f"{events} events")
        yield _gates(name, whole)
        weights = (whole / "student" / "model.safetensors").exists()
        yield Finding(name, "leaves a student", weights, "" if weights else "there is no student/: call fit")
        for share in _KILLED_AT:
            after = max(1, round(share * events))
            killed = Path(place, f"killed-{after}")
            first = _worked(path, killed, after)
            second = _worked(path, killed)
            what = f"killed after {after} of {events} events, goes on to the same bytes"
            if first.returncode != -9:
                yield Finding(name, what, False, "ran to its end: events depend on chance")
            elif second.returncode:
                yield Finding(name, what, False, _last_line(second.stderr))
            else:
                different = _different(whole, killed)
                yield Finding(name, what, not different, ", ".join(different[:3]))
                yield _calls(name, killed, after)


def _worked(path: Path, directory: Path, after: int | None = None) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "codestill.extend.worker", str(path), str(directory)]
    more = [] if after is None else [str(after)]
    return subprocess.run(
        command + more, capture_output=True, text=True, check=False, timeout=_PATIENCE_SECONDS
    )


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
