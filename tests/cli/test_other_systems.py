"""macOS and Windows: whatever executes no program works, the rest says what to do. Imitated on Linux."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import TASKS, Codestill, write_samples

# Other packages have their own variant for every system: they are loaded before anything is taken away.
ELSEWHERE = """
import os, platform, signal, socket, sys
import cyclopts.config, datasets, jinja2, matplotlib.pyplot, psutil, pydantic, rich.progress, sacrebleu, torch
import transformers, transformers.models.gpt2, transformers.models.llama
assert not any(name.startswith("codestill") for name in sys.modules)
for name in ("resource", "fcntl"):
    sys.modules[name] = None
for module, names in (
    (os, "fork geteuid memfd_create pidfd_open pidfd_getfd sched_getaffinity setsid wait4 pread"),
    (signal, "pthread_sigmask sigtimedwait SIGXCPU SIGCHLD SIG_BLOCK"),
    (socket, "AF_UNIX SOCK_SEQPACKET send_fds recv_fds"),
):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
platform.system = lambda: SYSTEM
"""
WORK = """
import pkgutil, importlib, codestill
names = [one.name for one in pkgutil.walk_packages(codestill.__path__, "codestill.")]
names = [name for name in names if "sandbox.inside." not in name]  # imported in the sandbox alone
for name in names:
    importlib.import_module(name)
assert {"codestill.sandbox.worker", "codestill.train.loop", "codestill.recipes.sft"} <= set(names)
from codestill.cli import main
if SYSTEM == "Darwin":
    del sys.modules["fcntl"]  # macOS has it; run directories are locked with it
for line in sys.argv[1:]:
    try:
        main(line.split())
    except SystemExit as ended:
        print(f"{line} -> {ended.code}", file=sys.stderr, flush=True)
"""


@pytest.mark.parametrize("system", ["Darwin", pytest.param("Windows", marks=pytest.mark.slow)])
def test_what_executes_nothing_works_and_the_rest_says_to_use_a_container(
    codestill: Codestill, system: str
) -> None:
    write_samples(Path("samples.jsonl"), *((str(row["task_id"]), str(row["reference"])) for row in TASKS))
    evaluate = "evaluate --samples samples.jsonl --tasks tasks.jsonl --run-dir"
    assert codestill(*evaluate.split(), "run").code == 0
    works = (
        "--help",
        "students",
        "tasks ls",
        "tasks show tasks.jsonl",
        "report run",
        "run sft --help",
        "doctor",
    )
    executes = ["tasks check tasks.jsonl", "doctor --sandbox"]
    if system == "Darwin":  # the lock of a run directory on Windows cannot be imitated
        executes.append(f"{evaluate} other")
    done = subprocess.run(
        [sys.executable, "-c", (ELSEWHERE + WORK).replace("SYSTEM", repr(system)), *works, *executes],
        capture_output=True,
        text=True,
        check=False,
    )
    ended = [line for line in done.stderr.splitlines() if " -> " in line]
    assert ended == [*(f"{line} -> 0" for line in works), *(f"{line} -> 2" for line in executes)], done.stderr
    assert done.stderr.count(f"seccomp, and this is {system}") == len(executes)
    assert done.stderr.count("in a Linux container or virtual machine") == len(executes)
    assert "sandbox          does not work: " in done.stdout and "Linux container" in done.stdout
    assert Path("run/report.html").stat().st_size > 1000
    assert "Traceback" not in done.stderr
