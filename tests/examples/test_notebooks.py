"""The notebooks in ``examples/`` run from top to bottom, offline, and show tables and progress."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from tests.support.notebooks import execute

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(path.name for path in EXAMPLES.glob("*.ipynb"))


def executed(name: str, directory: Path) -> list[Any]:
    """The cells with what they put out."""
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    execute(notebook, directory)
    put_out = [one for cell in notebook.cells for one in cell.get("outputs", ())]
    assert not [one.text for one in put_out if one.get("name") == "stderr"]
    return notebook.cells


def outputs(cells: list[Any], start: str) -> list[Any]:
    """What the one cell whose code holds ``start`` put out."""
    (cell,) = [cell for cell in cells if cell.cell_type == "code" and start in cell.source]
    return cell.outputs


def table(cells: list[Any], start: str) -> str:
    """The text of the table that a cell shows last, which is there as HTML, too."""
    shown = outputs(cells, start)[-1].data
    assert "<table>" in shown["text/html"]
    return shown["text/plain"]


def progress(cells: list[Any], start: str) -> list[str]:
    """The lines of progress that a cell has in the end, which are one output."""
    first, *others = outputs(cells, start)
    assert first.output_type == "display_data" and len(others) <= 1
    return first.data["text/plain"].splitlines()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_they_are_kept_without_what_they_put_out(name: str) -> None:
    for cell in nbformat.read(EXAMPLES / name, as_version=4).cells:
        assert cell.cell_type == "markdown" or (cell.outputs == [] and cell.execution_count is None)


def test_own_tasks_and_teacher(tmp_path: Path) -> None:
    cells = executed("own_tasks_and_teacher.ipynb", tmp_path / "here")
    before, after = (
        float(line.split("%")[0].split()[-1])
        for line in table(cells, '"student after"').partition("\n\n")[0].splitlines()
        if line.startswith("student")
    )
    assert after > before + 20
    said = progress(cells, "codestill.distill(")
    assert any(line.startswith("answers: 15 done") for line in said)
    assert any(line.startswith("train: 40 done") for line in said)
    assert "█" not in "".join(said) and len(said) < 10
    assert (tmp_path / "here" / "runs" / "names" / "student" / "config.json").exists()


def test_reading_a_run(tmp_path: Path) -> None:
    cells = executed("reading_a_run.ipynb", tmp_path / "here")
    assert "reading/student" in table(cells, "codestill.read_run(")
    stages = table(cells, "run.stages")
    assert "round-1/attempts" in stages and "round-1/refinements" in stages
    failing = table(cells, "attempts = run.rows(").splitlines()
    assert failing[0].split() == ["stage", "key", "verdict", "error", "text"]
    assert not any(" pass " in line for line in failing[1:])
    repair = outputs(cells, "repairs = run.rows(")[-1].data["text/plain"].splitlines()
    assert repair[0].endswith("pass") and any(line.startswith("+ ") for line in repair)
    assert any("image/png" in one.get("data", {}) for one in outputs(cells, "plt.subplots"))
    assert "examples" in table(cells, "run.accounting")
    (said,) = outputs(cells, "run.export(")
    assert '"messages":[{"' in said.text.replace(" ", "")
