"""``codestill runs``, ``show`` and ``data``: what runs hold."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from codestill.browse import Filter, Form, Row, StageRows, export, list_runs, read_stages, write_rows
from codestill.cli.console import console

_STATES = {"running": "bold cyan", "finished": "green", "stopped": "yellow", "damaged": "bold red"}
_AGES = ((86400, "d"), (3600, "h"), (60, "min"))
_PAGE_ROWS = 2000


def runs(directory: Path = Path("runs"), /, *, arms: Annotated[bool, Parameter(negative="")] = False) -> None:
    """List the runs and comparisons below DIRECTORY, the newest first.

    Parameters
    ----------
    directory
        Where to look.
    arms
        Also list the runs of comparisons.
    """
    found = list_runs(directory, arms=arms)
    table = Table("run", "kind", "state", "pass@1", "tasks", "age", box=None, pad_edge=False)
    for run in found:
        state = Text(run.state, style=_STATES[run.state])
        if run.doing:
            state.append(f", {run.doing}", style="default")
        score = run.score.percent() if run.score else ""
        table.add_row(str(run.path), run.kind, state, score, run.tasks, _age(run.age_seconds))
    if found:
        console.print(table)
    else:
        console.print(f"no run below {directory}", highlight=False)


def _age(seconds: float) -> str:
    return next(
        (f"{seconds / size:.0f} {unit}" for size, unit in _AGES if seconds >= size), f"{seconds:.0f} s"
    )


def show(
    run: Path,
    /,
    *,
    stage: str = "",
    verdict: str = "",
    error: str = "",
    task: str = "",
    text: str = "",
    limit: int | None = None,
    page: Path | None = None,
) -> None:
    """Show the stages of RUN, or the rows of them that filters name.

    Parameters
    ----------
    run
        A run's directory.
    stage
        Of this stage, e.g. `attempts` or `round-1/attempts`; `examples` are what the student was trained on.
    verdict
        With this verdict; `failing` is every one but `pass`.
    error
        Whose error contains this.
    task
        Whose task id contains this.
    text
        Whose text contains this regular expression.
    limit
        At most so many rows (default: 10; on a page 2,000).
    page
        Write them to this HTML file instead, which filters in a browser.
    """
    wanted = Filter(stage, verdict, error, task, text)
    stages = read_stages(run, wanted)
    if page is not None:
        shown, available = write_rows(str(run), stages, page, _PAGE_ROWS if limit is None else limit)
        return console.print(f"{page}: {shown:,} of {available:,} rows", highlight=False, soft_wrap=True)
    if wanted == Filter() and limit is None:
        return _print_stages(run, stages)
    rows = [row for found in stages for row in found.rows]
    most = 10 if limit is None else limit
    for row in rows[:most]:
        _print_row(row)
    more = f", {len(rows) - most:,} more: --limit {len(rows)}" if len(rows) > most else ""
    console.print(f"{min(most, len(rows)):,} of {len(rows):,} rows{more}", highlight=False)
    return None


def _print_stages(run: Path, stages: list[StageRows]) -> None:
    table = Table("stage", box=None, pad_edge=False)
    table.add_column("rows", justify="right")
    table.add_column("verdicts")
    for stage in stages:
        count = f"{len(stage.rows):,}" + (f" of {stage.count:,}" if len(stage.rows) < stage.count else "")
        verdicts = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in stage.verdicts.items())
        table.add_row(stage.name, count, verdicts)
    console.print(table)
    console.print(
        f"rows: codestill show {run} --stage NAME    all: --page rows.html", highlight=False, soft_wrap=True
    )


def _print_row(row: Row) -> None:
    head = Text(f"{row.stage}  {row.key}", style="bold")
    if row.verdict:
        head.append(f"  {row.verdict}", style="green" if row.verdict == "pass" else "red")
    console.print(head)
    if row.error:
        console.print(row.error, style="yellow", highlight=False)
    if row.prompt:
        console.print(Text(row.prompt.rstrip("\n"), style="dim"))
    if row.before:
        styles = {"-": "red", "+": "green"}
        for line in row.changes():
            console.print(Text(line, style=styles.get(line[:1], "default")))
    else:
        console.print(Text(row.text.rstrip("\n")))
    console.print()


def data(run: Path, /, *, to: Form, output: Path | None = None, part: str = "") -> None:
    """Write the examples that RUN's student was trained on, for other trainers.

    Parameters
    ----------
    run
        A run's directory.
    to
        `sft`: lines with prompt and completion. `messages`: lines with the turns of a chat. `hf`: a dataset
        that `datasets.load_from_disk` reads.
    output
        The file or directory to write (default: below `data` in the run's directory).
    part
        Of an earlier training: `round-1`, or `warm-up`.
    """
    place, count = export(run, to, output, part)
    console.print(f"{place}: {count:,} examples", highlight=False, soft_wrap=True)
