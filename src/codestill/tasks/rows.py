"""Rows of a task file, each with its place in the file, and how they become tasks."""

import ast
import gzip
import json
import zlib
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from codestill.errors import TaskError
from codestill.files.seal import digest, unseal
from codestill.files.serialize import to_json
from codestill.languages import LANGUAGES
from codestill.languages import parse_python as parsed
from codestill.types import Task

LocatedRows = list[tuple[str, dict[str, Any]]]
"""Pairs of a place, e.g. ``HumanEval.jsonl:17``, and the row there."""


class FieldError(ValueError):
    """A field of a row has the right type and an impossible value."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field


class Row(BaseModel):
    """One row of a published file; unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    reference_field: ClassVar[str]
    """The file's name for the field with the reference solution."""

    @abstractmethod
    def task(self) -> Task:
        """The task. Raises FieldError for an impossible value."""


def read_rows(path: Path) -> LocatedRows:
    """The objects of a .jsonl or .json file, plain or .gz.

    Raises TaskError naming the file, and the line where there is one.
    """
    kind = path.with_suffix("") if path.suffix == ".gz" else path
    if kind.suffix not in (".jsonl", ".json"):
        raise TaskError(
            f"{path} is neither .jsonl nor .json (.gz allowed).",
            next_step="Rename or convert the file; docs/tasks.md lists the fields of a row.",
        )
    text = _read_text(path)
    rows: LocatedRows = []
    if kind.suffix == ".json":
        values = _parse(text, path.name)
        if not isinstance(values, list):
            raise TaskError(
                f"{path.name} holds one JSON {type(values).__name__}, not a list of rows.",
                next_step="Put the rows in a JSON list, or one per line in a .jsonl file.",
            )
        places = [(f"{path.name}: row {number}", value) for number, value in enumerate(values, 1)]
    else:
        lines = text.split("\n")
        _check_seals(lines, path.name)
        places = [
            (where := f"{path.name}:{number}", _parse(line, where))
            for number, line in enumerate(lines, 1)
            if line.strip()
        ]
    for where, value in places:
        if not isinstance(value, dict):
            raise TaskError(
                f"{where}: a row must be a JSON object, not {type(value).__name__}.",
                next_step="Correct that row, or download the file again.",
            )
        rows.append((where, value))
    if not rows:
        raise TaskError(f"{path} has no rows.", next_step="Download the file again, or give another path.")
    return rows


def _check_seals(lines: list[str], name: str) -> None:
    """Raises TaskError for a damaged file that a run wrote: its lines hold checksums."""
    if not any('"checksum":' in line for line in lines):
        return  # somebody else's file
    previous = ""
    lines = lines if lines[-1] else lines[:-1]
    for number, line in enumerate(lines, 1):
        found = unseal(line.encode(errors="surrogatepass"))
        head, checksum = found or (b"", "")
        if checksum != digest(head, previous, last=number == len(lines)):
            raise TaskError(
                f"{name}:{number} does not fit its checksum: the file is damaged or cut.",
                next_step="Copy it again, or repeat the command that wrote it.",
            )
        previous = checksum


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
        return data.decode("utf-8-sig")
    except FileNotFoundError:
        reason, step = "there is no such file", "Correct the path."
    except IsADirectoryError:
        reason, step = "it is a directory", "Give the path of a file in it."
    except OSError as error:
        if not isinstance(error, gzip.BadGzipFile):
            reason, step = error.strerror or str(error), "Correct the path or its permissions."
        else:
            reason, step = "it is not gzip data", "Download the file again, or drop .gz from its name."
    except (EOFError, zlib.error):
        reason, step = "its gzip data is cut off or damaged", "Download the file again."
    except UnicodeDecodeError:
        reason, step = "it is not UTF-8 text", "Save the file as UTF-8; packed files must end in .gz."
    raise TaskError(f"Cannot read {path}: {reason}.", next_step=step)


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TaskError(
            f"{where}: not JSON: {error}", next_step="Correct that line, or download the file again."
        ) from error


def to_tasks(rows: LocatedRows, form: Callable[[dict[str, Any]], type[Row]]) -> list[Task]:
    """One checked task per row; ``form`` chooses the row's format.

    Raises TaskError naming place and field: wrong type, not Python, an entry point that nothing
    defines, a repeated task id.
    """
    tasks: list[Task] = []
    seen: dict[str, str] = {}
    for where, values in rows:
        kind = form(values)
        try:
            task = kind.model_validate(values).task()
            _check_text(task)
            _check_syntax(task, kind.reference_field)
            if task.task_id in seen:
                raise FieldError("task_id", f"{task.task_id!r} was already given at {seen[task.task_id]}")
        except (ValidationError, FieldError) as error:
            raise row_error(where, error) from error
        seen[task.task_id] = where
        tasks.append(task)
    return tasks


def row_error(where: str, error: ValidationError | FieldError) -> TaskError:
    if isinstance(error, FieldError):
        field, reason = error.field, str(error)
    else:
        first = error.errors()[0]
        field, reason = ".".join(map(str, first["loc"]))[:80], first["msg"]
    return TaskError(
        f"{where}: field {field!r}: {reason}.",
        next_step="Correct that row; docs/tasks.md lists the fields of each format.",
    )


def _check_text(task: Task) -> None:
    """Raises FieldError for what cannot be stored: half a surrogate pair, which no file, model or interpreter
    takes, and a difficulty that is nested too deeply."""
    try:
        to_json(task)
    except TypeError as error:
        raise FieldError("difficulty", str(error)) from error
    for name, value in task:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise FieldError(name, f"{text[error.start]!a} is half a surrogate pair, no text") from error


def _check_syntax(task: Task, reference_field: str) -> None:
    defines = LANGUAGES[task.language].defines
    if defines is not None:
        program = f"prompt + {reference_field}"
        try:
            defined = defines(task.program(task.reference), task.entry_point)
        except ValueError as error:
            raise FieldError(program, str(error)) from error
        if not defined:
            raise FieldError("entry_point", f"{program} does not define {task.entry_point!r} at top level")
    parse_python(task.test_setup, "test_setup")
    for test in task.tests:
        parse_python(test.code, "tests")


def parse_python(source: str, field: str) -> ast.Module:
    """The syntax tree; raises FieldError naming ``field``."""
    try:
        return parsed(source)
    except ValueError as error:
        raise FieldError(field, str(error)) from error
