"""The table of this experiment, from its kept result.

    python experiments/published_scores/tables.py                                  # print the table
    python experiments/published_scores/tables.py --keep runs/published            # from run directories

``--keep`` writes ``result.json`` from the directories below ``runs/published``: for each model and task set,
whether each task's greedy program passed the base tests and all tests, a digit each, in the order of the set.
All scores and intervals are computed from these digits.
"""

import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

from codestill.evaluation import read_evaluation
from codestill.evaluation.metrics import interval
from codestill.files.serialize import read_jsonl
from codestill.types import Attempt, Interval, Task

HERE = Path(__file__).parent
RESULT = HERE / "result.json"
PUBLISHED = {
    "qwen2.5-coder-0.5b-instruct": {"humaneval": (61.6, 57.3), "mbpp": (52.4, 43.7)},
    "qwen2.5-coder-1.5b-instruct": {"humaneval": (70.7, 66.5), "mbpp": (69.2, 59.4)},
}
"""Pass@1 in percent by model and set, on the base tests and on all (Qwen2.5-Coder's technical report), of the
unquantised weights."""
SETS = {"humaneval": "humaneval-plus", "mbpp": "mbpp-plus"}


def keep(directory: Path) -> None:
    """Write the result of finished runs, named MODEL-SET."""
    scores: dict[str, Any] = {}
    about: dict[str, Any] = {}
    for model in PUBLISHED:
        for name, tasks in SETS.items():
            run = directory / f"{model}-{tasks}"
            if not (run / "results" / "student.json").exists():
                continue
            evaluation = read_evaluation(run / "results" / "student.json")
            scores.setdefault(model, {})[name] = of_run(run) | {
                "prompts": evaluation.prompts,
                "quantization": evaluation.quantization,
                "unfinished": evaluation.unfinished,
                "data_hash": evaluation.data_hash,
            }
            about = {"versions": evaluation.versions}
    result = {"date": date.today().isoformat(), **about, "scores": scores}
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def of_run(run: Path) -> dict[str, Any]:
    """A digit for each task, in order, and the tokens that were generated."""
    (path,) = (run / "tasks").glob("*.jsonl")
    tasks = list(read_jsonl(path, Task))
    attempts = {
        attempt.task_id: attempt
        for attempt in read_jsonl(run / "stages" / "evaluate-student-greedy.jsonl", Attempt)
    }
    base = [
        all(
            verdict.verdict == "pass"
            for verdict, test in zip(attempts[task.task_id].result.tests, task.tests, strict=False)
            if test.group == "base"
        )
        and len(attempts[task.task_id].result.tests) > 0
        for task in tasks
    ]
    return {
        "base": "".join(str(int(ok)) for ok in base),
        "plus": "".join(str(int(attempts[task.task_id].result.passed)) for task in tasks),
        "tokens": sum(attempt.completion.tokens for attempt in attempts.values()),
    }


def score(digits: str) -> Interval:
    """pass@1 with its interval over tasks."""
    return interval([float(digit) for digit in digits])


def table(result: dict[str, Any]) -> list[str]:
    """Markdown: our score beside the published one."""
    lines = ["| model | tests | published, % | here, % | published within |", "|---|---|---|---|---|"]
    for model, sets in result["scores"].items():
        for name, found in sets.items():
            for group, label, published in zip(
                ("base", "plus"), (name, f"{name}+"), PUBLISHED[model][name], strict=True
            ):
                here = score(found[group])
                inside = here.low <= published / 100 <= here.high
                bounds = f"{100 * here.mean:.1f} [{100 * here.low:.1f}, {100 * here.high:.1f}]"
                lines.append(f"| {model} | {label} | {published} | {bounds} | {'yes' if inside else 'no'} |")
    return lines


def main(arguments: list[str]) -> None:
    match arguments:
        case ["--keep", directory]:
            keep(Path(directory))
        case []:
            print("\n".join(table(json.loads(RESULT.read_text(encoding="utf-8")))))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
