"""The model card of a pocket teacher: what it is, what it is not, and its measured skills."""

from collections.abc import Sequence
from pathlib import Path

from codestill.files.serialize import write_atomic
from codestill.recipes.pocket.exam.records import MEASURES, Exam, Score
from codestill.run import Run

FRONT = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
tags: [code, distillation, codestill]
---
"""


def write_bundle(name: str, about: str, exams: Sequence[Exam], run: Run) -> Path:
    """Write what is published of a run: the student's weights in bfloat16, the tokenizer, and the card."""
    from codestill.models.student import Student

    place = Student.load(run.student_directory, dtype="bfloat16").save(run.bundle_directory)
    write_atomic(place / "README.md", card(name, about, exams))
    return place


def card(name: str, about: str, exams: Sequence[Exam]) -> str:
    """Markdown with the front matter of model hubs, and a table of skills for each exam."""
    return "\n".join([FRONT + f"# {name}\n\n{about.strip()}\n", *map(_measured, exams)])


def _measured(exam: Exam) -> str:
    depths = sorted({depth for score in exam.scores for depth in score.by_depth})
    head = ["measure", "what is counted", "n", "all", *(f"depth {depth}" for depth in depths)]
    rows = [head, ["---"] * len(head), *(_row(score, depths) for score in exam.scores)]
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    scored = [
        f"| {group.score} | {group.programs} | {group.passed:.2f} | {8 * group.tests:.1f} |"
        for group in exam.calibration
    ]
    return "\n".join(
        [
            f"## Measured on {exam.split} compositions",
            "",
            f"Percent with 95% bootstrap intervals. It repairs and judges attempts of {exam.student}.",
            f"Programs were executed in: {exam.sandbox}.",
            "",
            *lines,
            "",
            "Programs by the judge's score, which predicts how many of eight tests pass:",
            "",
            "| score | programs | share that passes all | tests passed |",
            "| --- | --- | --- | --- |",
            *scored,
            "",
        ]
    )


def _row(score: Score, depths: Sequence[str]) -> list[str]:
    by_depth = [score.by_depth[depth].percent(sign="") if depth in score.by_depth else "" for depth in depths]
    value = score.value.percent(sign="")
    return [score.measure, MEASURES[score.measure], str(score.count), value, *by_depth]
