"""The tables of this experiment, from its kept result.

    python experiments/real/tables.py                       # print the tables
    python experiments/real/tables.py --keep runs/real      # from run directories

``--keep`` adds the finished runs below ``runs/real`` to ``result.json``; a run is named CONFIG-SEED, an
evaluation beside it CONFIG-SEED-TASKS or MODEL-TASKS. Kept are, for each evaluation, whether each task's
greedy program passed all tests, a digit each, in the order of the set; and each run's accounting and wall
time. All scores and intervals are computed from these digits. The 0.5B student as it is was evaluated for
``experiments/published_scores``.
"""

import json
import re
import sys
from datetime import date
from pathlib import Path
from typing import Any

from codestill.evaluation import read_evaluation
from codestill.evaluation.metrics import compare_pairs, interval_over_seeds
from codestill.files.serialize import read_jsonl
from codestill.types import Attempt, Interval, Task

HERE = Path(__file__).parent
RESULT = HERE / "result.json"
PUBLISHED = HERE.parent / "published_scores" / "result.json"
SETS = {"humaneval-plus": "HumanEval+", "mbpp-plus": "MBPP+, tasks not trained on"}
FIRST_TRAINED = 601
"""MBPP's training tasks are 601 to 974; MBPP+ contains 108 of them."""
GROUPS = {
    "smollm2": {
        "smollm2": "as it is",
        "references": "`sft`, references",
        "sft": "`sft`, teacher's verified answers",
        "aligned": "`logit_kd`, the same answers, aligned vocabularies",
        "persd": "`persd`",
        "amr_evol": "`amr_evol`, 32 tasks",
        "iterkd": "`iterkd`, 32 tasks and 31 of its own",
    },
    "qwen-0.5b": {"qwen-0.5b": "as it is", "logit_kd": "`logit_kd`"},
}
"""Arms by student; the first is the student before training."""
CONTRASTS = (("sft", "references"), ("persd", "sft"), ("aligned", "sft"))
"""Pairs of arms that are compared with each other."""
STUDENTS = {"smollm2": "SmolLM2-135M-Instruct", "qwen-0.5b": "Qwen2.5-Coder-0.5B-Instruct"}


def keep(directory: Path) -> None:
    """Add finished runs and evaluations to the result."""
    result: dict[str, Any] = (
        json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {"scores": {}, "runs": {}}
    )
    for path in sorted(directory.glob("*/results/student.json")):
        run = path.parent.parent
        evaluation = read_evaluation(path)
        tasks = evaluation.tasks.split("/")[0]
        if (
            set_name := next((name for name in SETS if tasks.startswith(name)), None)
        ) and not evaluation.subset:
            name = run.name.removesuffix(f"-{set_name}")
            kept = result["scores"].setdefault(name, {})
            kept[set_name] = digits(run) | {"data_hash": evaluation.data_hash, "prompts": evaluation.prompts}
        accounting = run / "accounting.json"
        if not re.search(r"-plus$", run.name) and accounting.exists():
            counts = json.loads(accounting.read_text(encoding="utf-8"))
            counts.pop("checksum", None)
            minutes = (path.stat().st_mtime - (run / "config.yaml").stat().st_mtime) / 60
            result["runs"][run.name] = {"minutes": round(minutes), **counts}
        result |= {"date": date.today().isoformat(), "versions": evaluation.versions}
    RESULT.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def digits(run: Path) -> dict[str, Any]:
    """Whether each task's greedy program passed all tests; the tasks' numbers; tokens."""
    (path,) = (run / "tasks").glob("*-plus*.jsonl")
    tasks = list(read_jsonl(path, Task))
    attempts = {
        attempt.task_id: attempt
        for attempt in read_jsonl(run / "stages" / "evaluate-student-greedy.jsonl", Attempt)
    }
    return {
        "plus": "".join(str(int(attempts[task.task_id].result.passed)) for task in tasks),
        "numbers": " ".join(task.task_id.rpartition("/")[2] for task in tasks),
        "tokens": sum(attempt.completion.tokens for attempt in attempts.values()),
        "cut": sum(attempt.completion.finish == "length" for attempt in attempts.values()),
    }


def scores(result: dict[str, Any], arm: str, tasks: str) -> list[list[float]]:
    """Passes of every task (columns) with every seed (rows); of MBPP+ those that no student learnt."""
    rows = []
    for name, sets in sorted(result["scores"].items()):
        if re.fullmatch(rf"{re.escape(arm)}(-\d+)?", name) and tasks in sets:
            found = sets[tasks]
            rows.append(
                [
                    float(digit)
                    for digit, number in zip(found["plus"], found["numbers"].split(), strict=True)
                    if tasks != "mbpp-plus" or int(number) < FIRST_TRAINED
                ]
            )
    return rows


def read() -> dict[str, Any]:
    """The kept result, with the published scores' evaluations of the 0.5B student on the same tasks."""
    result: dict[str, Any] = json.loads(RESULT.read_text(encoding="utf-8"))
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))["scores"]["qwen2.5-coder-0.5b-instruct"]
    for name, set_name in (("humaneval", "humaneval-plus"), ("mbpp", "mbpp-plus")):
        for sets in [*result["scores"].values()]:
            found, own = sets.get(set_name), published[name]
            if found and (found["data_hash"], found["prompts"]) == (own["data_hash"], own["prompts"]):
                before = result["scores"].setdefault("qwen-0.5b", {})
                before[set_name] = own | {"numbers": found["numbers"]}
    return result


def points(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")


def cell(values: list[list[float]]) -> str:
    if not values:
        return "–"
    score = interval_over_seeds(values)
    return f"{100 * score.mean:.1f} [{100 * score.low:.1f}, {100 * score.high:.1f}]"


def difference(values: list[list[float]], before: list[list[float]]) -> str:
    """Paired with the student as it was, over tasks and seeds, and each seed's own."""
    if not values or not before:
        return ""
    measured = compare_pairs(values, before * len(values))
    bounds: Interval = measured.interval
    seeds = f" ({', '.join(map(points, measured.by_seed))})" if len(values) > 1 else ""
    return f"{points(bounds.mean)} [{points(bounds.low)}, {points(bounds.high)}]{seeds}"


def score_table(result: dict[str, Any]) -> list[str]:
    """Markdown: every arm on both sets, and its difference from the student as it was."""
    lines = ["| student | trained by | set | seeds | pass@1, % | difference, points (by seed) | tokens |"]
    lines.append("|---|---|---|---|---|---|---|")
    for group, arms in GROUPS.items():
        for tasks, title in SETS.items():
            before = scores(result, next(iter(arms)), tasks)
            for arm, label in arms.items():
                values = scores(result, arm, tasks)
                if not values:
                    continue
                found = [
                    sets[tasks]
                    for name, sets in result["scores"].items()
                    if re.fullmatch(rf"{re.escape(arm)}(-\d+)?", name) and tasks in sets
                ]
                tokens = sum(f["tokens"] for f in found) / sum(len(f["plus"]) for f in found)
                gained = "" if arm == group else difference(values, before)
                set_name = f"{title} ({len(values[0])})"
                cells = (STUDENTS[group], label, set_name, len(values), cell(values), gained, f"{tokens:.0f}")
                lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def contrasts(result: dict[str, Any]) -> list[str]:
    """Markdown: pairs of trained arms, on the seeds that both have."""
    lines = ["| difference | set | seeds | points (by seed) |", "|---|---|---|---|"]
    labels = {arm: label for arms in GROUPS.values() for arm, label in arms.items()}
    for arm, other in CONTRASTS:
        for tasks, title in SETS.items():
            first, second = scores(result, arm, tasks), scores(result, other, tasks)
            both = min(len(first), len(second))
            if both:
                measured = compare_pairs(first[:both], second[:both])
                bounds = measured.interval
                shown = f"{points(bounds.mean)} [{points(bounds.low)}, {points(bounds.high)}]"
                seeds = f" ({', '.join(map(points, measured.by_seed))})" if both > 1 else ""
                cells = (f"{labels[arm]} − {labels[other]}", title, both, f"{shown}{seeds}")
                lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def summary(result: dict[str, Any]) -> list[str]:
    """Markdown for the first page: a line per arm, both sets beside each other."""
    lines = [
        "| student | trained by (seeds) | HumanEval+, % | gain | MBPP+, % | gain |",
        "|---|---|---|---|---|---|",
    ]
    for group, arms in GROUPS.items():
        for arm, label in arms.items():
            found = {tasks: scores(result, arm, tasks) for tasks in SETS}
            if not all(found.values()):  # runs on a few tasks are not for the first page
                continue
            before = {tasks: scores(result, next(iter(arms)), tasks) for tasks in SETS}
            seeds = max(map(len, found.values()))
            cells = [STUDENTS[group], label if arm == group else f"{label} ({seeds})"]
            for tasks, values in found.items():
                gained = "" if arm == group else difference(values, before[tasks]).partition(" (")[0]
                cells += [cell(values), gained]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def rates(result: dict[str, Any]) -> list[str]:
    """Markdown: what the runs count, a line per run."""
    lines = ["| run | counts |", "|---|---|"]
    for name, accounting in sorted(result["runs"].items()):
        counts = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in accounting.items())
        lines.append(f"| {name} | {counts} |")
    return lines


def main(arguments: list[str]) -> None:
    match arguments:
        case ["--keep", directory]:
            keep(Path(directory))
        case []:
            result = read()
            tables = (score_table(result), contrasts(result), summary(result), rates(result))
            print("\n\n".join("\n".join(lines) for lines in tables))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
