"""The tables and the figure of a comparison, from its kept result.

    python experiments/tables.py EXPERIMENT                            # print the tables
    python experiments/tables.py EXPERIMENT --figure docs/FIGURE.png
    python experiments/tables.py EXPERIMENT --keep runs/EXPERIMENT

EXPERIMENT is a folder beside this file with a ``config.yaml``. ``--keep`` writes its ``result.json`` from a
finished run: for each arm and seed, how many of a task's samples passed, a digit per task in the order of the
files, the nats per byte of each held-out solution where they were measured, and what each arm's first seed
consumed. All else is computed from these.
"""

import json
import statistics
import sys
from datetime import date
from pathlib import Path
from typing import Any

from codestill.evaluation import read_evaluation
from codestill.evaluation.metrics import compare_pairs, interval, interval_over_seeds
from codestill.files.serialize import read_record
from codestill.types import Comparison, Interval

HERE = Path(__file__).parent


def keep(name: str, directory: Path) -> None:
    """Write the result of a finished run."""
    comparison = read_record(directory / "comparison.json", Comparison)
    passed: dict[str, dict[str, str]] = {}
    nats: dict[str, dict[str, dict[str, float]]] = {}
    problems: list[str] = []
    about: dict[str, Any] = {}
    for arm in comparison.arms:
        role = "teacher" if arm.name == comparison.teacher else "student"
        for run in arm.runs:
            evaluation = read_evaluation(directory / run / "results" / f"{role}.json")
            counts = evaluation.per_task.values()
            passed.setdefault(arm.name, {})[str(evaluation.seed)] = "".join(str(count) for _, count in counts)
            if found := evaluation.nats_per_byte_per_task:
                rounded = {task: round(value, 5) for task, value in found.items()}
                nats.setdefault(arm.name, {})[str(evaluation.seed)] = rounded
            problems = [evaluation.problems[task] for task in evaluation.per_task if evaluation.problems]
            names = ("tasks", "data_hash", "samples_per_task", "versions")
            about = {name: getattr(evaluation, name) for name in names}
    result = {
        "command": f"codestill compare experiments/{name}/config.yaml",
        "date": date.today().isoformat(),
        **about,
        "differences": [[difference.a, difference.b] for difference in comparison.differences],
        "accounting": {arm.name: arm.accounting for arm in comparison.arms if arm.accounting},
        **({"problems": problems} if problems else {}),
        "passed": passed,
        **({"nats_per_byte": nats} if nats else {}),
    }
    result_file(name).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def result_file(name: str) -> Path:
    return HERE / name / "result.json"


def kept(name: str) -> dict[str, Any]:
    return json.loads(result_file(name).read_text(encoding="utf-8"))


def rates(result: dict[str, Any], arm: str) -> list[list[float]]:
    """pass@1 of every task (columns) with every seed (rows)."""
    samples = result["samples_per_task"]
    return [[int(count) / samples for count in tasks] for tasks in result["passed"][arm].values()]


def differences(result: dict[str, Any]) -> list[tuple[str, str, Interval, list[float]]]:
    """Each pair of arms, the difference of pass@1 with its interval, and the difference with each seed."""
    rows = []
    for a, b in result["differences"]:
        left, right = rates(result, a), rates(result, b)
        by_seed = [(sum(ours) - sum(theirs)) / len(ours) for ours, theirs in zip(left, right, strict=True)]
        apart = compare_pairs(left, right, groups=result.get("problems")).interval
        rows.append((a, b, apart, by_seed))
    return rows


def percent(interval: Interval) -> str:
    return f"{100 * interval.mean:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def points(value: float) -> str:
    """One decimal, signed, with a true minus sign."""
    return f"{100 * value:+.1f}".replace("-", "−")


def tables(result: dict[str, Any]) -> list[str]:
    """Markdown: pass@1 of each arm, and the paired differences."""
    lines = ["| trained on | pass@1, % | with each seed |", "|---|---|---|"]
    for arm in result["passed"]:
        values = rates(result, arm)
        seeds = ", ".join(f"{100 * sum(row) / len(row):.1f}" for row in values)
        score = interval_over_seeds(values, groups=result.get("problems"))
        lines.append(f"| {arm} | {percent(score)} | {seeds if len(values) > 1 else ''} |")
    lines += ["", "| difference | points | with each seed | |", "|---|---|---|---|"]
    for a, b, whole, by_seed in differences(result):
        bounds = f"{points(whole.mean)} [{points(whole.low)}, {points(whole.high)}]"
        shown = "" if whole.low > 0 or whole.high < 0 else "not shown"
        lines.append(f"| {a} − {b} | {bounds} | {', '.join(map(points, by_seed))} | {shown} |")
    return lines + (likelihoods(result) if "nats_per_byte" in result else [])


def likelihoods(result: dict[str, Any]) -> list[str]:
    """Markdown: nats per byte of held-out solutions, and the differences on the same ones."""
    by_task = {
        arm: {
            task: statistics.mean(seed[task] for seed in seeds.values())
            for task in next(iter(seeds.values()))
        }
        for arm, seeds in result["nats_per_byte"].items()
    }
    lines = ["", "| | nats per byte of held-out solutions |", "|---|---|"]
    lines += [f"| {arm} | {nats(interval(list(values.values())))} |" for arm, values in by_task.items()]
    for a, b in result["differences"]:
        if a in by_task and b in by_task:
            apart = interval([by_task[a][task] - by_task[b][task] for task in by_task[b]])
            lines.append(f"| {a} − {b} | {nats(apart)} |")
    return lines


def nats(interval: Interval) -> str:
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]".replace("-", "−")


def draw(result: dict[str, Any], picture: Path) -> None:
    """Each difference with its interval, and small circles for the seeds."""
    from matplotlib.figure import Figure

    rows = differences(result)[::-1]
    figure = Figure(figsize=(7.2, 0.9 + 0.42 * len(rows)), dpi=160, layout="constrained")
    plot = figure.add_subplot()
    plot.axvline(0, color="#8a8a85", lw=1)
    for height, (_, _, whole, by_seed) in enumerate(rows):
        shown = whole.low > 0 or whole.high < 0
        colour = "#1b7f79" if shown else "#8a8a85"
        plot.plot([100 * whole.low, 100 * whole.high], [height, height], color=colour, lw=2.2)
        plot.plot(100 * whole.mean, height, "o", color=colour, ms=7)
        plot.plot(
            [100 * value for value in by_seed], [height] * len(by_seed), "o", color=colour, mfc="white", ms=3
        )
    plot.set_yticks(range(len(rows)), [f"{a} − {b}" for a, b, _, _ in rows])
    plot.set_ylim(-0.6, len(rows) - 0.4)
    plot.set_xlabel("points of pass@1, with 95% intervals; circles: seeds")
    plot.grid(axis="x", color="#e4e4e0")
    plot.set_axisbelow(True)
    plot.spines[["top", "right", "left"]].set_visible(False)
    plot.tick_params(axis="y", length=0)
    figure.savefig(picture)


def main(arguments: list[str]) -> None:
    match arguments:
        case [name, "--keep", directory]:
            keep(name, Path(directory))
        case [name, "--figure", picture]:
            draw(kept(name), Path(picture))
        case [name]:
            print("\n".join(tables(kept(name))))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
