"""The tables and the figure of this experiment, from its kept result.

    python experiments/seed_sweep/tables.py                        # print the tables
    python experiments/seed_sweep/tables.py --figure docs/seed-sweep.png
    python experiments/seed_sweep/tables.py --keep runs/seed_sweep runs/seed_sweep_202m

``--keep`` adds finished arms to ``result.json``: of each how many of a task's samples passed, a digit per
task in base 11, the nats per byte of every held-out solution, cost, and the losses of training and
validation. All intervals are computed from these.
"""

import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

from codestill.evaluation import read_evaluation
from codestill.evaluation.metrics import compare_pairs, interval, pass_at_k
from codestill.files.serialize import read_jsonl
from codestill.types import Evaluation, Event, Interval

HERE = Path(__file__).parent
RESULT = HERE / "result.json"
SAMPLES = 10
DIGITS = "0123456789A"
CURVES = {"loss": "total", "divergence": "distillation", "cross_entropy": "cross-entropy"}
TEACHER = "teacher"


def keep(directories: list[Path]) -> None:
    """Add the finished arms of comparisons to the result."""
    arms: dict[str, Any] = kept()["arms"] if RESULT.exists() else {}
    about: dict[str, Any] = {}
    for directory in directories:
        for path in sorted(directory.glob("**/results/*.json")):
            run = path.parent.parent
            name = run.name if path.stem == TEACHER else run.parent.name
            evaluation = read_evaluation(path)
            about = {"tasks": evaluation.tasks, "likelihood_tasks": evaluation.likelihood_tasks}
            about["versions"] = evaluation.versions
            arms[name] = scored(evaluation) | {"losses": losses(run)}
            if (accounting := run / "accounting.json").exists():
                arms[name]["accounting"] = json.loads(accounting.read_text(encoding="utf-8"))
    result = {"date": date.today().isoformat(), **about, "arms": arms}
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def kept() -> dict[str, Any]:
    return json.loads(RESULT.read_text(encoding="utf-8"))


def scored(evaluation: Evaluation) -> dict[str, Any]:
    profile = evaluation.profile
    return {
        "passed": "".join(DIGITS[count] for _, count in evaluation.per_task.values()),
        "greedy": "".join(str(int(ok)) for ok in evaluation.greedy_per_task.values()),
        "bleu": evaluation.bleu,
        "nats_per_byte": {key: round(value, 5) for key, value in evaluation.nats_per_byte_per_task.items()},
        "profile": profile.model_dump(mode="json") if profile else None,
        "unfinished": evaluation.unfinished,
    }


def losses(run: Path) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Stage -> loss -> (step, value); of training, the mean of every seven steps."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = {}
    path = run / "metrics.jsonl"
    for event in read_jsonl(path, Event) if path.exists() else ():
        if event.kind == "metrics" and event.stage in ("train", "validation") and event.step is not None:
            for name in CURVES.keys() & event.metrics.keys():
                value = event.metrics[name]
                if isinstance(value, int | float):
                    found.setdefault(event.stage, {}).setdefault(name, []).append((event.step, float(value)))
    for name, points in found.get("train", {}).items():
        parts = [points[start : start + 7] for start in range(0, len(points), 7)]
        found["train"][name] = [
            (part[-1][0], round(sum(value for _, value in part) / len(part), 5)) for part in parts
        ]
    return found


def likelihood(arm: dict[str, Any]) -> Interval:
    return interval(list(arm["nats_per_byte"].values()))


def pass_at(arm: dict[str, Any], k: int) -> Interval:
    return interval([pass_at_k(SAMPLES, DIGITS.index(digit), k) for digit in arm["passed"]])


def percent(value: Interval) -> str:
    return f"{100 * value.mean:.1f} [{100 * value.low:.1f}, {100 * value.high:.1f}]"


def ratio(ours: float, theirs: float) -> str:
    return f" ({ours / theirs:.2f}×)" if theirs else ""


def tables(result: dict[str, Any]) -> list[str]:
    """Markdown: every column with its ratio to the teacher, and the differences from cross-entropy alone."""
    teacher = result["arms"][TEACHER]
    head = ["nats/byte", "pass@1, %", "pass@10, %", "greedy, %", "BLEU", "ms/token", "parameters", "file, MB"]
    lines = [f"| model | {' | '.join(head)} |", f"|---|{'---|' * len(head)}"]
    for name, arm in ordered(result):
        own, theirs, nats = arm["profile"], teacher["profile"], likelihood(arm)
        cells = [
            f"{nats.mean:.3f} [{nats.low:.3f}, {nats.high:.3f}]" + ratio(nats.mean, likelihood(teacher).mean),
            *(percent(pass_at(arm, k)) for k in (1, SAMPLES)),
            percent(interval([float(digit) for digit in arm["greedy"]])),
            f"{arm['bleu']:.1f}" + ratio(arm["bleu"], teacher["bleu"]),
        ]
        for key, form in (
            ("token_milliseconds", "{:.2f}"),
            ("parameters", "{:,}"),
            ("file_megabytes", "{:.0f}"),
        ):
            cells.append(form.format(own[key]) + ratio(own[key], theirs[key]) if own else "–")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "| difference of nats/byte on the same solutions | |", "|---|---|"]
    for name, arm in ordered(result):
        control = f"{name.split('-')[0]}-cross-entropy"
        if name in (TEACHER, control) or control not in result["arms"]:
            continue
        theirs = result["arms"][control]["nats_per_byte"]
        ours = arm["nats_per_byte"]
        both = [key for key in ours if key in theirs]
        found = compare_pairs([[ours[key] for key in both]], [[theirs[key] for key in both]]).interval
        bounds = f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]".replace("-", "−")
        lines.append(f"| {name} − {control} | {bounds} |")
    return lines


def ordered(result: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return sorted(result["arms"].items(), key=lambda item: (item[0] != TEACHER, item[0]))


def draw(result: dict[str, Any], picture: Path) -> None:
    """Training (thin) and validation losses of every student, a panel for each loss."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(CURVES))
    colours = ["#1b7f79", "#c1666b", "#48639c", "#d4a017", "#7d5ba6", "#4f772d", "#8a8a85", "#b85c38"]
    students = [(name, arm) for name, arm in ordered(result) if name != TEACHER]
    for panel, (loss, title) in zip(panels, CURVES.items(), strict=True):
        for (name, arm), colour in zip(students, colours, strict=False):
            for stage, width, alpha in (("train", 0.9, 0.55), ("validation", 2.0, 1.0)):
                points = arm["losses"].get(stage, {}).get(loss)
                if points and (loss != "divergence" or "cross-entropy" not in name):
                    label = name.replace("-", " ") if stage == "validation" else None
                    panel.plot(*zip(*points, strict=True), color=colour, lw=width, alpha=alpha, label=label)
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("optimiser step")
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(color="#ececea")
    panels[0].set_ylabel("nats per token")
    panels[-1].legend(fontsize=7, frameon=False)
    figure.savefig(picture)


def main(arguments: list[str]) -> None:
    match arguments:
        case ["--keep", *directories] if directories:
            keep([Path(directory) for directory in directories])
        case ["--figure", picture]:
            draw(kept(), Path(picture))
        case []:
            print("\n".join(tables(kept())))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
