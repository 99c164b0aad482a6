"""What the commands print."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from codestill.cli.console import console
from codestill.evaluation import read_evaluation
from codestill.evaluation.differences import correction
from codestill.evaluation.metrics import greedy_alone
from codestill.types import Arm, Comparison, Difference, Evaluation, Interval

if TYPE_CHECKING:
    from codestill.logits import CacheManifest

NONE = "-"


def _percent(value: Interval | None) -> str:
    return NONE if value is None else value.percent()


def print_runs(directories: Sequence[Path]) -> None:
    """A row per evaluation of the runs, after warnings about views that are no better than chance."""
    from codestill.report.files import read_rounds  # the report imports matplotlib: not for every command

    for directory in directories:
        for cycle in read_rounds(directory):
            for calibration in cycle.calibrations:
                if calibration.warning:
                    message = f"round {cycle.round}: {calibration.warning}"
                    console.print(message, highlight=False, soft_wrap=True)
    evaluations = {
        f"{directory.name}/{path.stem}": read_evaluation(path)
        for directory in directories
        for path in sorted((directory / "results").rglob("*.json"))
    }
    notes = [note for evaluation in evaluations.values() for note in _notes(evaluation)]
    for evaluation in evaluations.values():
        for warning in evaluation.warnings:
            console.print(f"WARNING: {warning}", style="bold", highlight=False, soft_wrap=True, markup=False)
    console.print(_score_table([(name, e.tasks, e) for name, e in evaluations.items()]))
    for note in dict.fromkeys(notes):
        console.print(note, highlight=False, soft_wrap=True)
    for directory in directories:
        console.print(
            f"run: {directory}    report: codestill report {directory}", highlight=False, soft_wrap=True
        )


def print_cache(directory: Path, manifest: "CacheManifest") -> None:
    """What a logit cache holds, and how much it loses."""
    console.print(
        f"{directory}: {manifest.sequences:,} sequences, {manifest.tokens:,} tokens, "
        f"{manifest.bytes_per_token:.1f} bytes each, {manifest.entries / max(manifest.tokens, 1):.1f} "
        f"probabilities kept of {manifest.vocabulary:,}",
        highlight=False,
        soft_wrap=True,
    )
    table = Table("temperature", "tail", "KL nats", "error", "gradient error", box=None, pad_edge=False)
    for error in manifest.error:
        gradient = f"{100 * error.gradient_error:.2g}%"
        table.add_row(
            f"{error.temperature:g}", error.rule, f"{error.kl:.3f}", f"{error.kl_error:.1g}", gradient
        )
    console.print(table)
    for error in manifest.error[:1]:
        console.print(
            f"error: forward KL against the full vocabulary, over {error.positions:,} tokens, for a student "
            f"with {error.student} frequencies",
            highlight=False,
            soft_wrap=True,
        )


def _levels(scored: Sequence[Evaluation | Arm]) -> list[str]:
    """Difficulties that are numbers, a column each."""
    names = {name for scores in scored for name in scores.by_difficulty}
    return sorted(name for name in names if name.rpartition("=")[2].isdigit())


def _score_table(rows: Sequence[tuple[str, str, Evaluation | Arm]]) -> Table:
    """A row of scores under each name, with what it is a score on; columns without a value are left out."""
    scored = [scores for _, _, scores in rows]
    columns: dict[str, Callable[[Evaluation | Arm], str]] = {"pass@1": lambda e: _percent(e.pass_at[1])}
    columns |= {
        level.replace("=", " "): lambda e, level=level: _percent(e.by_difficulty.get(level))
        for level in _levels(scored)
    }
    columns["pass@k"] = _large_k
    if not greedy_alone(scored):
        columns["greedy"] = lambda e: _percent(e.greedy)
    columns |= {
        "BLEU": lambda e: NONE if e.bleu is None else f"{e.bleu:.1f}",
        "nats/byte": lambda e: f"{e.nats_per_byte.mean:.3f}" if e.nats_per_byte else NONE,
        "ms/token": lambda e: f"{e.profile.token_milliseconds:.2f}" if e.profile else NONE,
        "parameters": lambda e: f"{e.profile.parameters:,}" if e.profile else NONE,
        "MB": lambda e: f"{e.profile.file_megabytes:.1f}" if e.profile else NONE,
    }
    cells = {name: [of(scores) for scores in scored] for name, of in columns.items()}
    cells = {name: column for name, column in cells.items() if set(column) != {NONE}}
    table = Table("model", "tasks", box=None, pad_edge=False)
    for name in cells:
        table.add_column(name, justify="right")
    for number, (name, tasks, _) in enumerate(rows):
        table.add_row(name, tasks, *(column[number] for column in cells.values()))
    return table


def _large_k(scores: Evaluation | Arm) -> str:
    top = max(scores.pass_at)
    return f"@{top} {_percent(scores.pass_at[top])}" if top > 1 else NONE


def _notes(evaluation: Evaluation) -> list[str]:
    gates = evaluation.gates
    notes = [
        f"gates: reference {gates.reference}/{gates.tasks}, empty {gates.empty}/{gates.tasks}, "
        f"pass body {gates.pass_body}/{gates.tasks}; sandbox: {evaluation.sandbox}"
    ]
    if evaluation.quantization:
        notes.append(f"{evaluation.model}: {evaluation.quantization} weights, dequantised")
    if evaluation.subset:
        notes.append(f"SUBSET: {evaluation.task_count} tasks only; not a score on {evaluation.tasks}.")
    if evaluation.pass_at_base:
        notes.append(f"base tests alone: pass@1 {_percent(evaluation.pass_at_base[1])}")
    return notes


def print_comparison(comparison: Comparison) -> None:
    """A row per arm, then the paired differences as sentences, and which survive a correction."""
    console.print(
        f"\n{comparison.title}: {comparison.task_count} tasks of {comparison.tasks}", highlight=False
    )
    runs = {arm.name: f"{len(arm.runs)} run{'s' * (len(arm.runs) > 1)}" for arm in comparison.arms}
    console.print(_score_table([(arm.name, runs[arm.name], arm) for arm in comparison.arms]))
    for difference in comparison.differences:
        console.print(difference_sentence(difference), highlight=False, soft_wrap=True, markup=False)
    if note := correction(comparison.differences):
        console.print(note, highlight=False, soft_wrap=True, markup=False)


def difference_sentence(difference: Difference) -> str:
    """``a - b: +6.2 points [+2.5, +10.1] pass@1: the interval excludes zero``, and each seed's own."""
    verdict = "excludes zero" if difference.excludes_zero else "includes zero: no difference is shown"
    sentence = (
        f"{difference.a} - {difference.b}: {100 * difference.interval.mean:+.1f} points "
        f"{_bounds(difference.interval)} {difference.metric}, "
        f"over {difference.pairs} pairs of task and seed: the interval {verdict}."
    )
    if len(difference.by_seed) > 1:
        sentence += f" By seed: {', '.join(f'{100 * value:+.1f}' for value in difference.by_seed)}"
        if (over_seeds := difference.t_interval) is not None:
            sentence += f"; t interval over {len(difference.by_seed)} seeds {_bounds(over_seeds)}"
            sentence += " excludes zero" if over_seeds.excludes_zero else " includes zero"
        sentence += "."
    return sentence


def _bounds(interval: Interval) -> str:
    return f"[{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"


def print_exams(directory: Path) -> None:
    """A row per measure of every exam in a run."""
    from codestill.recipes.pocket.exam import MEASURES, read_exam

    for path in sorted(directory.glob("exam-*.json")):
        exam = read_exam(path)
        depths = sorted({depth for score in exam.scores for depth in score.by_depth})
        table = Table(box=None, pad_edge=False)
        for name in ("measure", "what is counted"):
            table.add_column(name)
        for name in ("n", "all", *(f"depth {depth}" for depth in depths)):
            table.add_column(name, justify="right")
        for score in exam.scores:
            levels = [_percent(score.by_depth.get(depth)) for depth in depths]
            table.add_row(
                score.measure, MEASURES[score.measure], str(score.count), _percent(score.value), *levels
            )
        title = f"{exam.model}, {exam.split} compositions; it repairs and judges attempts of {exam.student}"
        console.print(f"\n{title}", highlight=False, soft_wrap=True)
        console.print(table)
