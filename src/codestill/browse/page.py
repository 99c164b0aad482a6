"""Rows as one static page, with filters where scripts run."""

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

from codestill.browse.rows import Row, StageRows
from codestill.files.serialize import write_atomic
from codestill.terminal import printable

LONGEST = 12_000
"""Characters of one text on the page."""


def write_rows(name: str, stages: Sequence[StageRows], path: Path, limit: int) -> tuple[int, int]:
    """Write the page of a run called ``name``; returns how many rows it shows, and of how many.

    At most ``limit`` rows are shown, of every stage about as many.
    """
    chosen = _in_turn(stages, limit)
    available = sum(len(stage.rows) for stage in stages)
    script = _file("rows.js")
    context = {
        "name": name,
        "stages": stages,
        "rows": chosen,
        "available": available,
        "verdicts": sorted({row.verdict for row in chosen if row.verdict}),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "style": Markup(_file("rows.css")),
    }
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("codestill.browse"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["cut"] = _cut
    write_atomic(path, printable(templates.get_template("rows.html.j2").render(context)))
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


def _cut(text: str) -> str:
    rest = len(text) - LONGEST
    return text if rest <= 0 else f"{text[:LONGEST]}\n… {rest:,} more characters are not shown"


def _file(name: str) -> str:
    return resources.files("codestill.browse").joinpath(f"templates/{name}").read_text(encoding="utf-8")
