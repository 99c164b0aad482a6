"""Which answers of a comparison's arms are right, and what they cost.

    python benchmarks/amr_evol.py runs/amr_evol

Reads what ``codestill compare benchmarks/amr_evol.yaml`` left. Right is what passes the tasks' own tests,
which no method has seen. Differences are paired over instructions and seeds.
"""

import json
import sys
from pathlib import Path
from typing import Any

from codestill.evaluation.metrics import interval_over_seeds, paired_difference
from codestill.serialize import read_jsonl
from codestill.tasks import TasksConfig
from codestill.types import Attempt, Interval

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


def said(one: Interval, sign: str = "") -> str:
    return f"{100 * one.mean:{sign}.1f} [{100 * one.low:{sign}.1f}, {100 * one.high:{sign}.1f}]"


def main(directory: Path) -> None:
    right: dict[str, list[dict[str, float]]] = {}
    accounts: dict[str, list[dict[str, Any]]] = {}
    depth: dict[str, int] = {}
    for run in sorted(directory.glob("*/seed-*")):
        path = run / "stages" / "responses.jsonl"
        if not (run / "results" / "student.json").exists():
            continue  # not done
        if not depth:
            config = json.loads(json.dumps(_yaml(run / "config.yaml")["tasks"]))
            tasks = TasksConfig.model_validate(config).load().tasks
            depth = {task.task_id: task.difficulty["depth"] for task in tasks}
        found = {one.task_id: float(one.result.passed) for one in read_jsonl(path, Attempt)}
        right.setdefault(run.parent.name, []).append(found)
        accounts.setdefault(run.parent.name, []).append(json.loads((run / "accounting.json").read_text()))
    levels = sorted(set(depth.values()))
    heads = [
        "arm",
        "right",
        *(f"at depth {level}" for level in levels),
        "tokens each",
        "right per 1,000 tokens",
    ]
    print("| " + " | ".join([*heads, "calls each", "kept direct"]) + " |")
    print("|" + "---|" * (len(heads) + 2))
    for arm, found in right.items():
        by_level = [
            sum(value for seed in found for key, value in seed.items() if depth[key] == level)
            / sum(depth[key] == level for seed in found for key in seed)
            for level in levels
        ]
        known = accounts[arm]
        each = [sum(one[name] for one in known) / sum(one["instructions"] for one in known) for name in SUMS]
        whole = said(interval_over_seeds([list(seed.values()) for seed in found]))
        gain = 1000 * sum(one["answers_right"] for one in known) / sum(one["teacher_tokens"] for one in known)
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
    print("\n| difference | points |\n|---|---|")
    for a, b in PAIRS:
        if a in right and b in right and len(right[a]) == len(right[b]):
            pairs = [
                (list(x.values()), [y[key] for key in x]) for x, y in zip(right[a], right[b], strict=True)
            ]
            found = paired_difference([x for x, _ in pairs], [y for _, y in pairs])
            print(f"| {a} − {b} | {said(found, '+')} |")
    print("\n| library | wave | functions | modules | found | added |\n|---|---|---|---|---|---|")
    for arm in right:
        curves = [
            [json.loads(line) for line in path.read_text().splitlines()]
            for path in sorted(directory.glob(f"{arm}/seed-*/library/growth.jsonl"))
        ]
        for waves in zip(*curves, strict=True):
            mean = {name: sum(one[name] for one in waves) / len(waves) for name in waves[0]}
            hits = 100 * mean["found"] / mean["modules"]
            cells = [arm, *(f"{mean[name]:.0f}" for name in ("wave", "functions", "modules"))]
            print("| " + " | ".join([*cells, f"{hits:.0f}%", f"{mean['added']:.0f}"]) + " |")


SUMS = ("teacher_tokens", "teacher_calls", "kept_direct")


def _yaml(path: Path) -> Any:
    import yaml

    return yaml.safe_load(path.read_text())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
