"""Interrupts, full disks, places that cannot be written: nothing finished is lost."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import TASKS, Codestill, assert_refused, write_rows, write_samples

from codestill.files.serialize import read_jsonl
from codestill.types import Attempt

SCORE = ("evaluate", "--samples", "samples.jsonl", "--tasks", "tasks.jsonl", "--run-dir", "run")
STAGE = Path("stages/evaluate-student.jsonl")
# A parent that ignores SIGINT, as a background job does, would hand that on.
START = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from codestill.cli import main
main()
"""


def test_an_interrupt_says_how_to_go_on(tmp_path: Path) -> None:
    loops = [("same", f"    while True: {number}\n") for number in range(20)]
    write_rows(tmp_path / "tasks.jsonl", TASKS[:1])
    write_samples(tmp_path / "samples.jsonl", ("same", "    return x\n"), *loops)
    process = subprocess.Popen(
        [sys.executable, "-c", START, *SCORE, "--execution.workers", "1"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    stage = tmp_path / "run" / STAGE
    try:
        deadline = time.monotonic() + 60
        while not (stage.exists() and stage.read_bytes().endswith(b"\n")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "codestill: stopped." in said and "the same command continues" in said
    assert "Traceback" not in said
    assert [attempt.result.passed for attempt in read_jsonl(stage, Attempt)] == [True]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("a file system can be mounted by root alone")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def resize(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def test_a_full_disk_loses_nothing(codestill: Codestill, small_disk: Path) -> None:
    run = small_disk / "run"
    rows = [(str(row["task_id"]), str(row["reference"]) + "# " + "x" * 400 + "\n") for row in TASKS]
    write_samples(Path("samples.jsonl"), *rows * 150)
    score = (*SCORE[:-1], run)
    assert_refused(codestill(*score), "disk is full", "the same command continues")
    kept = list(read_jsonl(run / STAGE, Attempt))
    assert 10 < len(kept) < 300
    resize(small_disk, "4m")
    assert codestill(*score).code == 0
    whole = {attempt.completion.key: attempt for attempt in read_jsonl(run / STAGE, Attempt)}
    assert len(whole) == 300 and all(whole[attempt.completion.key] == attempt for attempt in kept)


TRAIN = (
    *("run", "sft", "--student", "pocket-0.1m", "--train.max-steps", "4", "--train.checkpoint-steps", "2"),
    *("--examples.tasks", "train.jsonl:train"),
    *(
        "--evaluate.tasks",
        "tasks.jsonl",
        "--evaluate.samples-per-task",
        "1",
        "--evaluate.max-new-tokens",
        "4",
    ),
    *(
        "--evaluate.no-greedy",
        "--evaluate.no-profile",
        "--execution.device",
        "cpu",
        "--execution.threads",
        "1",
    ),
)


@pytest.mark.parametrize("kilobytes", [400, 900, 1300])
def test_a_disk_that_fills_while_training_loses_no_step(
    codestill: Codestill, small_disk: Path, kilobytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has room when the run begins, and others fill it."""
    empty = shutil.disk_usage(small_disk)._replace(free=10**9)
    monkeypatch.setattr("codestill.train.room.shutil.disk_usage", lambda path: empty)
    run = small_disk / "run"
    resize(small_disk, f"{kilobytes}k")
    assert_refused(codestill(*TRAIN, "--run-dir", run), "disk is full", "the same command continues")
    resize(small_disk, "20m")
    assert codestill(*TRAIN, "--run-dir", run).code == 0
    assert codestill(*TRAIN, "--run-dir", "whole").code == 0
    weights = Path("student/model.safetensors")
    assert (run / weights).read_bytes() == (Path("whole") / weights).read_bytes()


def test_a_disk_that_is_too_small_is_told_before_the_training(codestill: Codestill, small_disk: Path) -> None:
    run = small_disk / "run"
    resize(small_disk, "900k")
    assert_refused(
        codestill(*TRAIN, "--run-dir", run), "training needs 0.00168 GB of disk", "--run-dir on another"
    )
    resize(small_disk, "20m")
    assert codestill(*TRAIN, "--run-dir", run).code == 0


def test_places_that_cannot_be_written(codestill: Codestill) -> None:
    write_samples(Path("samples.jsonl"), *((str(row["task_id"]), "") for row in TASKS))
    assert codestill(*SCORE).code == 0  # loads all that is loaded late, while it may be read
    closed = Path("closed")
    closed.mkdir(mode=0o500)
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)
    try:
        assert_refused(codestill(*SCORE[:-1], closed / "run"), "Permission denied", "writable directory")
    finally:
        os.seteuid(mine)
    Path("file").touch()
    assert_refused(codestill(*SCORE[:-1], "file"), "file is not empty and not a run directory")
    assert_refused(codestill(*SCORE[:-1], "file/run"), "file/run", "writable directory")


def test_a_run_directory_with_files_and_no_config(codestill: Codestill) -> None:
    write_samples(Path("samples.jsonl"), *((str(row["task_id"]), "") for row in TASKS))
    stages = Path("run/stages")
    stages.mkdir(parents=True)
    assert_refused(codestill(*SCORE), "run is not empty and not a run directory: it has no config.yaml")
    stages.rmdir()
    Path("run/environment.json").touch()  # a start that was killed goes on
    assert codestill(*SCORE).code == 0


def test_another_config_in_the_same_directory(codestill: Codestill) -> None:
    write_samples(Path("samples.jsonl"), *((str(row["task_id"]), "") for row in TASKS))
    codestill(*SCORE)
    outcome = codestill(*SCORE, "--seed", "3", "--sandbox.cpu-seconds", "2")
    assert_refused(outcome, "seed: saved 0, now 3", "sandbox.cpu_seconds: saved 10.0, now 2.0")


def test_two_processes_in_one_directory(codestill: Codestill) -> None:
    import fcntl

    write_samples(Path("samples.jsonl"), *((str(row["task_id"]), "") for row in TASKS))
    codestill(*SCORE)
    with Path("run/.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert_refused(codestill(*SCORE), "Another process is using run")


def test_a_tracker_leaves_a_foreign_directory_alone(codestill: Codestill) -> None:
    pytest.importorskip("tensorboard")
    write_samples(Path("samples.jsonl"), *((str(row["task_id"]), "") for row in TASKS))
    tracked = (*SCORE, "--execution.trackers", "tensorboard")
    Path("run").mkdir()
    Path("run/thesis.tex").touch()
    assert_refused(codestill(*tracked), "not a run directory")
    assert [path.name for path in Path("run").iterdir()] == ["thesis.tex"]
    Path("run/thesis.tex").unlink()
    assert codestill(*tracked).code == 0
    assert list(Path("run/tensorboard").glob("events.*"))
