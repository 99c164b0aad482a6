"""Which answers of each arm are correct, and what they cost in teacher tokens.

    python experiments/amr_evol/answers.py runs/amr_evol

Reads the run directory of ``codestill compare experiments/amr_evol/config.yaml``. An answer is correct if it
passes the tasks' own tests, which no method sees. Differences are paired over instructions and seeds.
"""

import json
import sys
from pathlib import Path
from typing import Any

from codestill.evaluation.metrics import compare_pairs, interval_over_seeds
from codestill.files.run_files import read_accounting, read_config
from codestill.files.serialize import read_jsonl
from codestill.tables.differences import correction
from codestill.tasks import TasksConfig
from codestill.types import Attempt, Difference, Interval

PAIRS = (
    ("amr", "direct"),
    ("cot", "direct"),
    ("ans-repair", "direct"),
    ("best-of-n", "direct"),
    ("amr", "best-of-n"),
    ("amr", "without-decomposition"),
    ("amr", "without-retrieval"),
    ("amr", "library-frozen"),
    ("amr", "library-empty"),
    ("amr", "amr-gated"),
)


def percent(interval: Interval, sign: str = "") -> str:
    mean, low, high = (100 * value for value in (interval.mean, interval.low, interval.high))
    return f"{mean:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def main(directory: Path) -> None:
    correct: dict[str, list[dict[str, float]]] = {}
    accounts: dict[str, list[dict[str, Any]]] = {}
    depth: dict[str, int] = {}
    for run in sorted(directory.glob("*/seed-*")):
        path = run / "stages" / "responses.jsonl"
        if not (run / "results" / "student.json").exists():
            continue  # not done
        if not depth:
            config = read_config(run)[0]
            tasks = TasksConfig.model_validate(config["tasks"]).load().tasks
            depth = {task.task_id: task.difficulty["depth"] for task in tasks}
        passed = {attempt.task_id: float(attempt.result.passed) for attempt in read_jsonl(path, Attempt)}
        correct.setdefault(run.parent.name, []).append(passed)
        accounts.setdefault(run.parent.name, []).append(read_accounting(run))
    levels = sorted(set(depth.values()))
    heads = [
        "arm",
        "correct",
        *(f"at depth {level}" for level in levels),
        "tokens each",
        "correct per 1,000 tokens",
    ]
    print("| " + " | ".join([*heads, "calls each", "kept direct"]) + " |")
    print("|" + "---|" * (len(heads) + 2))
    for arm, seeds in correct.items():
        by_level = [
            sum(value for seed in seeds for key, value in seed.items() if depth[key] == level)
            / sum(depth[key] == level for seed in seeds for key in seed)
            for level in levels
        ]
        known = accounts[arm]
        total = {
            name: sum(account[name] for account in known) for name in (*SUMS, "instructions", "answers_right")
        }
        each = [total[name] / total["instructions"] for name in SUMS]
        whole = percent(interval_over_seeds([list(seed.values()) for seed in seeds]))
        gain = 1000 * total["answers_right"] / total["teacher_tokens"]
        shares = [f"{100 * level:.1f}" for level in by_level]
        cells = [
            arm,
            whole,
            *shares,
            f"{each[0]:.0f}",
            f"{gain:.2f}",
            f"{each[1]:.1f}",
            f"{100 * each[2]:.0f}%",
        ]
        print("| " + " | ".join(cells) + " |")
    print("\n| difference | points | by seed | p |\n|---|---|---|---|")
    found: list[Difference] = []
    for a, b in PAIRS:
        if a in correct and b in correct and len(correct[a]) == len(correct[b]):
            pairs = [
                (list(x.values()), [y[key] for key in x]) for x, y in zip(correct[a], correct[b], strict=True)
            ]
            measured = compare_pairs([x for x, _ in pairs], [y for _, y in pairs])
            count = sum(len(x) for x, _ in pairs)
            found.append(Difference(a=a, b=b, metric="correct", pairs=count, **measured.model_dump()))
            seeds = ", ".join(f"{100 * value:+.1f}" for value in measured.by_seed)
            print(f"| {a} − {b} | {percent(measured.interval, '+')} | {seeds} | {measured.p:.2g} |")
    print(f"\n{correction(found)}")
    print("\n| library | wave | functions | modules | found | added |\n|---|---|---|---|---|---|")
    for arm in correct:
        curves = [
            [json.loads(line) for line in path.read_text().splitlines()]
            for path in sorted(directory.glob(f"{arm}/seed-*/library/growth.jsonl"))
        ]
        for waves in zip(*curves, strict=True):
            mean = {name: sum(wave[name] for wave in waves) / len(waves) for name in waves[0]}
            hits = 100 * mean["found"] / mean["modules"]
            cells = [arm, *(f"{mean[name]:.0f}" for name in ("wave", "functions", "modules"))]
            print("| " + " | ".join([*cells, f"{hits:.0f}%", f"{mean['added']:.0f}"]) + " |")


SUMS = ("teacher_tokens", "teacher_calls", "kept_direct")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
