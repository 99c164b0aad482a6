"""The records of a run's stages as rows: verdict, error, text, and what the text repairs."""

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from rich.text import Text

from codestill.errors import RunError
from codestill.files.run_files import Marker, redo, stored
from codestill.files.serialize import is_object, read_jsonl, read_record
from codestill.tables import Table, Tabular

EXAMPLES = "examples"
"""Training examples, as a stage beside the others."""
_TABLE_ROWS = 20
_CELL = 60
"""Characters of a text in a table."""
_KEYS = ("key", "example_id", "task_id", "name")
_TEXTS = ("completion", "text", "reference", "code", "prompt")


class _Record(BaseModel):
    """Any record."""

    model_config = ConfigDict(extra="allow")


@dataclass(frozen=True, repr=False)
class Row(Tabular):
    """One record of a stage."""

    stage: str
    """With its round or part, e.g. ``round-1/attempts``."""
    key: str
    task: str
    verdict: str
    """Of its execution; empty for what was not executed."""
    error: str
    """What failed first, in a line."""
    text: str
    """What a model wrote, or the record itself where it is no model's."""
    before: str
    """The attempt that the text repairs; empty where it repairs none."""
    prompt: str
    """What the text answers, where the record has it."""

    def changes(self) -> list[str]:
        """The lines of attempt and repair, each behind ``- ``, ``+ `` or two spaces."""
        lines = difflib.ndiff(self.before.splitlines(), self.text.splitlines())
        return [line for line in lines if not line.startswith("?")]

    def shown(self) -> Text:
        """All of it: what it is, its error, the prompt, and the text, or what the text changes."""
        lines = [Text(f"{self.stage}  {self.key}", style="bold")]
        if self.verdict:
            lines[0].append(f"  {self.verdict}", style="green" if self.verdict == "pass" else "red")
        if self.error:
            lines.append(Text(self.error, style="yellow"))
        if self.prompt:
            lines.append(Text(self.prompt.rstrip("\n"), style="dim"))
        if self.before:
            styles = {"-": "red", "+": "green"}
            lines += [Text(line, style=styles.get(line[:1], "default")) for line in self.changes()]
        else:
            lines.append(Text(self.text.rstrip("\n")))
        return Text("\n").join(lines)

    def tables(self) -> Sequence[Table]:
        return (Table((), (), above=(self.shown(),)),)


class Rows(Tabular, tuple[Row, ...]):
    """Rows in their stages' order. A table shows the first ones; each by itself is shown whole."""

    def tables(self) -> Sequence[Table]:
        columns = {
            "stage": [row.stage for row in self[:_TABLE_ROWS]],
            "key": [row.key for row in self[:_TABLE_ROWS]],
            "verdict": [row.verdict for row in self[:_TABLE_ROWS]],
            "error": [_line(row.error, _CELL) for row in self[:_TABLE_ROWS]],
            "text": [_line(row.text, _CELL) for row in self[:_TABLE_ROWS]],
        }
        columns = {name: cells for name, cells in columns.items() if any(cells)}
        more = len(self) - _TABLE_ROWS
        below = (f"and {more:,} more rows",) if more > 0 else () if self else ("no rows",)
        return (Table(tuple(columns), tuple(zip(*columns.values(), strict=True)), below=below),)


@dataclass(frozen=True, repr=False)
class StageRows(Tabular):
    """A stage, and its rows so far."""

    name: str
    rows: Rows
    count: int
    """Rows that it will have; those that it has where nobody has said."""

    @property
    def verdicts(self) -> dict[str, int]:
        """How many rows have each verdict, the most frequent first."""
        found = Counter(row.verdict for row in self.rows if row.verdict)
        return dict(found.most_common())

    def tables(self) -> Sequence[Table]:
        return self.rows.tables()


class Stages(Tabular, list[StageRows]):
    """Stages in the order in which they were finished."""

    def tables(self) -> Sequence[Table]:
        rows = tuple((stage.name, _count(stage), _verdicts(stage)) for stage in self)
        return (Table(("stage", "rows", "verdicts"), rows, frozenset({"rows"})),)


def _count(stage: StageRows) -> str:
    rows = len(stage.rows)
    return f"{rows:,}" + (f" of {stage.count:,}" if rows < stage.count else "")


def _verdicts(stage: StageRows) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in stage.verdicts.items())


@dataclass(frozen=True)
class Filter:
    """Which rows are wanted; empty fields want all."""

    stage: str = ""
    """A stage's name, with or without its round."""
    verdict: str = ""
    """A verdict, or ``failing`` for all but ``pass``."""
    error: str = ""
    """Part of the error, upper or lower case."""
    task: str = ""
    """Part of the task's id."""
    text: str = ""
    """A regular expression that the text contains. Raises RunError where it is none."""

    def __post_init__(self) -> None:
        try:
            re.compile(self.text)
        except re.error as error:
            raise RunError(
                f"{self.text!r} is no regular expression: {error}.",
                next_step="Write a backslash before characters such as ( [ * + ? .",
            ) from error

    def wants_stage(self, name: str) -> bool:
        """Whether a stage is wanted, by its whole name or the part behind the round."""
        return self.stage in ("", name, name.rpartition("/")[2])

    def wants(self, row: Row) -> bool:
        """Whether a row is wanted."""
        verdict = row.verdict == self.verdict or (
            self.verdict == "failing" and row.verdict not in ("", "pass")
        )
        return (
            self.wants_stage(row.stage)
            and (verdict or not self.verdict)
            and self.error.lower() in row.error.lower()
            and self.task in row.task
            and re.search(self.text, row.text) is not None
        )


def read_stages(directory: Path, wanted: Filter | None = None) -> Stages:
    """The stages of a run and its training examples, in the order in which they were finished; of rounds the
    first comes first.

    Raises RunError for a directory that is no run, a damaged file, and a stage that is wanted and not there.
    """
    if not (directory / "config.yaml").exists():
        raise RunError(
            f"{directory} is not a run: it has no config.yaml.", next_step="codestill runs lists runs."
        )
    files = sorted(_files(directory), key=lambda found: _order(directory, *found))
    wanted = wanted or Filter()
    chosen = [(name, path) for name, path in files if wanted.wants_stage(name)]
    if wanted.stage and not chosen:
        there = ", ".join(name for name, _ in files) or "none yet"
        raise RunError(f"{directory} has no stage {wanted.stage!r}.", next_step=f"It has: {there}.")
    return Stages(_read(name, path, wanted) for name, path in chosen)


def _files(directory: Path) -> Iterator[tuple[str, Path]]:
    """Names of stages and their files."""
    stages = directory / "stages"
    for path in stages.rglob("*.jsonl"):
        yield path.relative_to(stages).with_suffix("").as_posix(), path
    for path in (directory / f"{EXAMPLES}.jsonl", *directory.glob(f"*/{EXAMPLES}.jsonl")):
        if path.exists():
            yield path.relative_to(directory).with_suffix("").as_posix(), path


def _order(directory: Path, name: str, path: Path) -> tuple[bool, list[tuple[int, str]], float]:
    """Warm-up, rounds by number, what stands in no round: that is evaluated or trained last."""
    part = name.rpartition("/")[0]
    number = re.fullmatch(r"round-(\d+)(.*)", part)
    rank = (int(number[1]), number[2]) if number else (0, part)
    return not part, [rank], path.stat().st_mtime


def _read(name: str, path: Path, wanted: Filter) -> StageRows:
    marker = path.with_suffix(".json")
    if marker.exists():
        known = read_record(marker, Marker, redo(path))
        records = list(stored(path, _Record, known.done))
        count = known.count
    else:
        records = list(read_jsonl(path, _Record))
        count = len(records)
    rows = [_row(name, record.model_dump()) for record in records]
    return StageRows(name, Rows(row for row in rows if wanted.wants(row)), count)


def _row(stage: str, record: dict[str, Any]) -> Row:
    completion = record.get("completion")
    answer: dict[str, Any] = completion if is_object(completion) else {}
    attempt = record.get("attempt")
    before: dict[str, Any] = attempt if is_object(attempt) else {}
    executed = record.get("result") or (before.get("result") if not answer else None)
    result: dict[str, Any] = executed if is_object(executed) else {}
    source = answer or record if not before or answer else before["completion"]
    key = next((str(source[name]) for name in _KEYS if name in source), "")
    if "sample" in source:
        key = f"{key}#{source['sample']}"
    return Row(
        stage=stage,
        key=key,
        task=str(source.get("task_id", record.get("example_id", key))),
        verdict=str(result.get("verdict", "")),
        error=_error(result),
        text=_text(record, answer),
        before=str(before["completion"]["text"]) if before and answer else _repaired(attempt),
        prompt=str(record.get("prompt", "")) if "completion" in record else "",
    )


def _repaired(attempt: object) -> str:
    """The attempt that a training example holds beside its completion."""
    return attempt if isinstance(attempt, str) else ""


def _text(record: dict[str, Any], answer: dict[str, Any]) -> str:
    """What a model wrote; else what the record is about; else the record."""
    if answer:
        return str(answer["text"])
    for name in _TEXTS:
        if isinstance(record.get(name), str):
            return record[name]
    return json.dumps(record, indent=1, ensure_ascii=False)


def _error(result: dict[str, Any]) -> str:
    """``TypeError: message`` of the first test that failed, or what went wrong outside the tests."""
    for test in result.get("tests", ()):
        if test["verdict"] != "pass":
            said = ": ".join(filter(None, (test.get("error_type", ""), test.get("message", ""))))
            return _line(said or test.get("call", "") or test["verdict"])
    return _line(str(result.get("error", "")))


def _line(text: str, longest: int = 200) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
