"""``codestill runs``, ``show`` and ``data``: what runs hold."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from codestill.browse import Filter, Form, export, list_runs, read_stages, write_rows
from codestill.cli.console import console
from codestill.cli.tables import print_tables

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
    if found := list_runs(directory, arms=arms):
        print_tables(found)
    else:
        console.print(f"no run below {directory}", highlight=False)


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
        print_tables(stages)
        rows_of = f"rows: codestill show {run} --stage NAME    all: --page rows.html"
        return console.print(rows_of, highlight=False, soft_wrap=True)
    rows = [row for found in stages for row in found.rows]
    most = 10 if limit is None else limit
    for row in rows[:most]:
        print_tables(row)
        console.print()
    more = f", {len(rows) - most:,} more: --limit {len(rows)}" if len(rows) > most else ""
    console.print(f"{min(most, len(rows)):,} of {len(rows):,} rows{more}", highlight=False)
    return None


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
