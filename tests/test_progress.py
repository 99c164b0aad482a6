"""Progress in a notebook, told by a real kernel."""

from pathlib import Path
from typing import Any

from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from tests.support.notebooks import execute

CELL = """
from codestill.progress import progress_bars
from codestill.types import Event

bars = progress_bars()
bars(Event(stage="train", kind="message", message="3 examples <b> are left out\\x1b[2J"))
for stage, total in (("gates", 5), ("answers", 5000), ("train", 20)):
    for done in range(1, total + 1):
        bars(Event(stage=stage, kind="progress", done=done, total=total))
"""
STOPPED = """
bars(Event(stage="evaluate", kind="progress", done=3, total=9))
bars.close()
"""
MANY = """
for number in range(300):
    bars(Event(stage="teacher", kind="message", message=f"note {number}"))
"""


class Counting(NotebookClient):
    """Counts the updates of outputs that a kernel sends."""

    updates = 0

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        self.updates += msg["msg_type"] == "update_display_data"
        return super().process_message(msg, cell, cell_index)


def test_a_cell_has_one_output_which_is_rewritten_now_and_then(tmp_path: Path) -> None:
    notebook = new_notebook(cells=[new_code_cell(CELL), new_code_cell(STOPPED), new_code_cell(MANY)])
    client = execute(notebook, tmp_path / "here", Counting)
    first, *others = [cell.outputs for cell in notebook.cells]
    (shown,) = first
    assert others == [[], []] and shown.output_type == "display_data"
    lines = shown.data["text/plain"].splitlines()
    assert len(lines) == 101  # the last of many, and the stage that goes on
    assert lines[-2] == "teacher: note 299" and lines[-1].startswith("evaluate: ██████████░")
    assert lines[-1].endswith(" 3 of 9 done")
    assert isinstance(client, Counting) and client.updates < 300 + 100  # of 5,000 events


def test_what_is_done_is_a_line_and_what_goes_on_a_bar(tmp_path: Path) -> None:
    notebook = new_notebook(cells=[new_code_cell(CELL), new_code_cell(STOPPED)])
    execute(notebook, tmp_path / "here")
    lines = notebook.cells[0].outputs[0].data["text/plain"].splitlines()
    assert lines[:3] == [
        "train: 3 examples <b> are left out␛[2J",
        "answers: 5,000 done",
        "train: 20 done",
    ]
    (bar,) = lines[3:]
    assert bar.count("█") == 10 and bar.count("░") == 20
