"""HumanEval's infilling tasks (Bavarian et al. 2022, arXiv 2207.14255, section 4), as published by
openai/human-eval-infilling: a part of each reference solution is taken out, and both its sides are given.

The single-line and multi-line tasks follow from HumanEval: they are made of it, byte for byte as published.
"""

import re
from collections.abc import Iterator
from typing import Any, Literal

from codestill.tasks.humaneval import HumanEvalRow
from codestill.tasks.rows import LocatedRows
from codestill.types import Task

Lines = Literal["single-line", "multi-line"]
_ID = re.compile(r"\w+/(.+)/[^/]+")


class InfillingRow(HumanEvalRow):
    """A row whose ``canonical_solution`` stands between ``prompt`` and ``suffix``."""

    suffix: str

    def task(self) -> Task:
        part_of = _ID.fullmatch(self.task_id)
        problem = part_of[1] if part_of else ""
        return super().task().model_copy(update={"suffix": self.suffix, "problem": problem})


def taken_out(rows: LocatedRows, lines: Lines) -> LocatedRows:
    """The rows of the infilling tasks of HumanEval's rows: without each line of the solution that is not
    blank, or without each range of lines that begins and ends with one. Rows that have a suffix are returned
    as they are."""
    return [
        (where, row)
        for where, values in rows
        for row in ([values] if "suffix" in values else _rows(values, lines == "multi-line"))
    ]


def _rows(values: dict[str, Any], multi: bool) -> Iterator[dict[str, Any]]:
    solution = values.get("canonical_solution")
    if not isinstance(solution, str):
        yield values  # the row's own check says what is wrong with it
        return
    lines = solution.splitlines(keepends=True)
    code = [number for number, line in enumerate(lines) if line.strip()]
    for place, first in enumerate(code):
        for last in code[place:] if multi else [first]:
            # The published prompts have an empty line before a solution's first line.
            before = f"{values['prompt']}\n" if first == 0 else values["prompt"] + "".join(lines[:first])
            name = (
                f"MultiLineInfilling/{{}}/L{first}_L{last}" if multi else f"SingleLineInfilling/{{}}/L{first}"
            )
            yield values | {
                "task_id": name.format(values["task_id"]),
                "prompt": before,
                "canonical_solution": "".join(lines[first : last + 1]),
                "suffix": "".join(lines[last + 1 :]),
            }
