"""Rows as one static page, with filters where scripts run."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from codestill.browse.rows import Row, StageRows
from codestill.files.serialize import write_atomic
from codestill.pages import cut, render, templates_of

LONGEST = 12_000
"""Characters of one text on the page."""


def write_rows(name: str, stages: Sequence[StageRows], path: Path, limit: int) -> tuple[int, int]:
    """Write the page of a run called ``name``; returns how many rows it shows, and of how many.

    At most ``limit`` rows are shown, of every stage about as many.
    """
    chosen = _in_turn(stages, limit)
    available = sum(len(stage.rows) for stage in stages)
    templates = templates_of("codestill.browse")
    templates.filters["cut"] = partial(cut, longest=LONGEST)
    html = render(
        templates,
        "rows.html.j2",
        name=name,
        stages=stages,
        rows=chosen,
        available=available,
        verdicts=sorted({row.verdict for row in chosen if row.verdict}),
    )
    write_atomic(path, html)
    return len(chosen), available


def _in_turn(stages: Sequence[StageRows], limit: int) -> list[Row]:
    """The first rows of every stage, as many of each as ``limit`` allows, in the stages' order."""
    shares = dict.fromkeys(range(len(stages)), 0)
    left = limit
    while left > 0:
        hungry = [number for number, stage in enumerate(stages) if shares[number] < len(stage.rows)]
        if not hungry:
            break
        for number in hungry[:left]:
            more = min(max(left // len(hungry), 1), len(stages[number].rows) - shares[number])
            shares[number] += more
        left = limit - sum(shares.values())
    return [row for number, stage in enumerate(stages) for row in stage.rows[: shares[number]]]
