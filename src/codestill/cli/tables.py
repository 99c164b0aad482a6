"""What the commands print."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from codestill.browse import read_run
from codestill.browse.usage import usage_table
from codestill.cli.console import console
from codestill.tables import Tabular
from codestill.tables.scores import percent
from codestill.tables.table import WIDTH

if TYPE_CHECKING:
    from codestill.logits import CacheManifest


def print_tables(result: Tabular) -> None:
    """What a result shows itself as."""
    for table in result.tables():
        for line in table.above:
            console.print(line, highlight=False, soft_wrap=True)
        if table.rows:
            console.print(table.rich(min(WIDTH, console.width)))
        for line in table.below:
            console.print(line, highlight=False, soft_wrap=True)


def print_run(directory: Path) -> None:
    """A row per evaluation of a run, after warnings about views that are no better than chance."""
    from codestill.report.rounds import read_rounds  # the report imports matplotlib: not for every command

    for cycle in read_rounds(directory):
        for calibration in cycle.calibrations:
            if calibration.warning:
                message = f"round {cycle.round}: {calibration.warning}"
                console.print(message, highlight=False, soft_wrap=True)
    run = read_run(directory)
    print_tables(run.scores)
    for table in run.drafts:
        print_tables(table)
    console.print(
        f"run: {directory}    report: codestill report {directory}", highlight=False, soft_wrap=True
    )


def print_usage(directory: Path) -> None:
    """What a run or comparison took beside what was forecast; nothing where nothing was."""
    if (table := usage_table(directory)) is not None:
        print_tables(table)


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
            levels = [percent(score.by_depth.get(depth)) for depth in depths]
            table.add_row(
                score.measure, MEASURES[score.measure], str(score.count), percent(score.value), *levels
            )
        title = f"{exam.model}, {exam.split} compositions; it repairs and judges attempts of {exam.student}"
        console.print(f"\n{title}", highlight=False, soft_wrap=True)
        console.print(table)
