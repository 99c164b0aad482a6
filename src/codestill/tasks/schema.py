"""Task files of the user's own, and files of samples."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from codestill.errors import TaskError
from codestill.files.serialize import to_json, write_atomic
from codestill.tasks.rows import FieldError, Row, read_rows, row_error, to_tasks
from codestill.types import Split, Task


class _TaskRow(Row):
    """A row with the fields of Task."""

    model_config = ConfigDict(frozen=True, extra="allow")
    reference_field: ClassVar[str] = "reference"

    checksum: str = ""
    """Of the files that runs write: no field of a task."""

    def task(self) -> Task:
        return Task.model_validate(self.model_extra)


def read_tasks(path: Path, default_split: Split | None = None) -> list[Task]:
    """Tasks from a .jsonl or .json file whose rows have the fields of Task; plain or .gz.

    A row without a split belongs to ``default_split``, or where that is None to ``test``, the safe choice:
    test tasks are not trained on. Raises TaskError naming file, line and field.
    """
    rows = read_rows(path)
    if default_split is not None:
        rows = [(where, {"split": default_split, **row}) for where, row in rows]
    return to_tasks(rows, lambda values: _TaskRow)


def write_tasks(path: Path, tasks: Iterable[Task]) -> None:
    """Write a .jsonl file that :func:`read_tasks` reads back as equal tasks."""
    if path.suffix != ".jsonl":
        raise TaskError(f"Task files are JSONL; {path.name} is not.", next_step="Give a name in .jsonl.")
    write_atomic(path, "".join(to_json(task) + "\n" for task in tasks))


class _Sample(BaseModel):
    task_id: str
    completion: str | None = None
    solution: str | None = None


def read_samples(path: Path) -> list[tuple[str, str]]:
    """(task id, completion) pairs of a samples file in HumanEval's format, in file order.

    EvalPlus's ``solution``, a whole program, is taken as a completion, and a completion may repeat the
    prompt: the prompt followed by a whole program is the same program.
    Raises TaskError naming file, line and field.
    """
    samples = []
    for where, row in read_rows(path):
        try:
            sample = _Sample.model_validate(row)
            text = sample.completion if sample.completion is not None else sample.solution
            if text is None:
                raise FieldError("completion", "the row has neither `completion` nor `solution`")
        except (ValidationError, FieldError) as error:
            raise row_error(where, error) from error
        samples.append((sample.task_id, text))
    return samples
