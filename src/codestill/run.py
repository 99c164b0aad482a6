"""The run directory: stages that resume, a log, and every file name.

    config.yaml  environment.json  about.json  metrics.jsonl  ledger.jsonl  accounting.json  funnel.json
    sessions.jsonl  forecast.json
    stages/[round-1/]attempts.jsonl + attempts.json   records, and whether they are complete
    checkpoints/  student/  adapter/  tasks/<set>.jsonl  samples/<name>.jsonl  results/<name>.json
    report.html  report.md

A run directory belongs to one config. Any process may be killed at any moment: the same command
continues, produces no finished record again, and ends with the same bytes. Every file that is read back is
sealed (:mod:`codestill.files.seal`): a byte that has changed since it was written is noticed, and named.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from pydantic import BaseModel

from codestill.environment import environment
from codestill.errors import ConfigError, Failure, RunError, StageMismatch
from codestill.files.run_files import (
    NO_LOG,
    SESSIONS,
    About,
    Marker,
    about,
    identity,
    read_accounting,
    read_config,
    read_funnels,
    read_stage,
    redo,
    require_free,
    require_same,
    stored,
    withdraw,
    write_funnels,
)
from codestill.files.run_files import slug as slug
from codestill.files.seal import seal_text
from codestill.files.serialize import (
    Appender,
    append_jsonl,
    cut_torn_line,
    encodable,
    fingerprint,
    lock,
    read_jsonl,
    read_record,
    sealed_lines,
    sweep,
    write_atomic,
    write_jsonl,
    write_object,
)
from codestill.files.strict_yaml import dump_yaml
from codestill.files.usage import this_session
from codestill.pace import Watch
from codestill.terminal import printable
from codestill.types import Attempt, Event

Observer = Callable[[Event], None]
SYNC_SECONDS = 1.0


class Keyed(Protocol):
    """An item or record, identified within its stage by ``key``."""

    @property
    def key(self) -> str: ...


R = TypeVar("R", bound=BaseModel)
I = TypeVar("I", bound=Keyed)  # noqa: E741


class Run:
    """An open run directory, or one round of it."""

    def __init__(
        self, directory: Path, config: dict[str, Any], observers: Sequence[Observer], prefix: str = ""
    ):
        self.directory = directory
        self.config = config
        self.prefix = prefix
        self.seed = int(config.get("seed", 0))
        self.fingerprint = fingerprint(identity(config))
        self._observers = list(observers)
        self._lock: IO[str] | None = None
        self._began: float | None = None

    @classmethod
    def open(cls, directory: Path, config: BaseModel, observers: Sequence[Observer] = ()) -> "Run":
        """Start or continue the run in ``directory``.

        Raises ConfigMismatch, naming the fields that differ, when it belongs to another config;
        RunError when it is not a run directory or cannot be written, or when another process is
        using it; ConfigError when the config holds a number that is not finite.
        """
        try:
            run = cls(directory, config.model_dump(mode="json"), observers)
        except TypeError as error:
            raise ConfigError(
                f"a value of the config cannot be stored: {error}.", next_step="Give finite numbers."
            ) from error
        try:
            run._start(about(config))
        except BaseException as error:
            run.close()
            if isinstance(error, OSError):
                raise RunError(
                    f"{directory} cannot be a run directory: {error.strerror}.",
                    next_step="Choose a writable directory.",
                ) from error
            raise
        return run

    def _start(self, about: About) -> None:
        saved = self.directory / "config.yaml"
        require_free(self.directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        sweep(self.directory)
        if saved.exists():
            require_same(self.directory, identity(read_config(self.directory)[0]), identity(self.config))
        else:
            write_object(self.directory / "environment.json", environment())
            write_object(self.directory / "about.json", about)
            text = dump_yaml(self.config)
            write_atomic(saved, seal_text(encodable(text)))
        for log in (self.metrics_path, self.directory / SESSIONS):
            cut_torn_line(log)
        self._began = time.monotonic()

    def close(self) -> None:
        """Release the directory, so that another process may open it; what this one took is recorded."""
        if self._lock:
            if self._began is not None and self.directory.is_dir():
                append_jsonl(self.directory / SESSIONS, [this_session(time.monotonic() - self._began)])
            self._lock.close()
            self._lock = None

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure and withdraw(self.directory):
            self._began = None
        self.close()

    def rounds(self, count: int) -> Iterator["Run"]:
        """The rounds of an iterative recipe: views of this run with stages of their own."""
        for number in range(1, count + 1):
            yield self.part(f"round-{number}")

    def part(self, name: str) -> "Run":
        """A view of this run whose stages, student and metrics are named below ``name``."""
        view = Run(self.directory, self.config, (), prefix=f"{self.prefix}{name}/")
        view._observers = self._observers  # shared: an observer dropped in one part stays dropped
        return view

    @property
    def metrics_path(self) -> Path:
        return self.directory / "metrics.jsonl"

    @property
    def ledger_path(self) -> Path:
        """Calls to teachers, over all rounds."""
        return self.directory / "ledger.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.directory / "checkpoints" / self.prefix

    @property
    def student_directory(self) -> Path:
        return self.directory / self.prefix / "student"

    @property
    def adapter_directory(self) -> Path:
        """What was trained of the student, where that was an adapter."""
        return self.directory / self.prefix / "adapter"

    def tasks_path(self, name: str) -> Path:
        return self.directory / "tasks" / f"{slug(name)}.jsonl"

    def samples_path(self, name: str) -> Path:
        return self.directory / "samples" / self.prefix / f"{slug(name)}.jsonl"

    def result_path(self, name: str) -> Path:
        return self.directory / "results" / self.prefix / f"{slug(name)}.json"

    @property
    def answers_directory(self) -> Path:
        """Kept answers of the teacher, over all rounds."""
        return self.directory / "answers"

    @property
    def logits_directory(self) -> Path:
        """This run's or round's own cache of the teacher's logits."""
        return self.directory / "logits" / self.prefix

    @property
    def library_directory(self) -> Path:
        """The function library of AMR-Evol."""
        return self.directory / self.prefix / "library"

    @property
    def bundle_directory(self) -> Path:
        """What is published of a pocket model: weights and model card."""
        return self.directory / "bundle"

    def named(self, name: str) -> str:
        """A name within this part that is unique in the run: of a stage, an example, a task."""
        return f"{self.prefix}{name}"

    def file(self, name: str) -> Path:
        """Where :meth:`write` puts a file of this run or round."""
        return self.directory / self.prefix / name

    def write(self, name: str, content: str | BaseModel | Sequence[BaseModel]) -> Path:
        """Write a file of this run or round, whole or not at all: text, a record as JSON, or records as
        JSONL."""
        path = self.file(name)
        if isinstance(content, str):
            write_atomic(path, content)
        elif isinstance(content, BaseModel):
            write_object(path, content)
        else:
            write_jsonl(path, content)
        return path

    # stages

    def stage(
        self, name: str, record: type[R], items: Sequence[I], produce: Callable[[Sequence[I]], Iterable[R]]
    ) -> list[R]:
        """One record per item, in the items' order, each produced once however often the run is killed.

        ``produce`` gets the items that still lack a record and yields theirs in any order; a record
        has its item's key. Raises StageMismatch when the stage's file was made from other items,
        RunError when it is damaged, Failure when records are missing in the end, ValueError when two
        items share a key or a record belongs to no item.
        """
        path = self.directory / "stages" / self.prefix / f"{name}.jsonl"
        marker = path.with_suffix(".json")
        order = {item.key: index for index, item in enumerate(items)}
        if len(order) < len(items):
            raise ValueError(f"stage {name}: items share a key")
        stamp = fingerprint([self.fingerprint, record.__name__, list(items)])
        known = self._known_stage(path, marker, stamp)
        produced: dict[str, R] = {}
        if known is not None and (path.exists() or not known.done):
            if not known.done:
                cut_torn_line(path)
            kept = stored(path, record, known.done) if path.exists() else ()
            produced = {_key(entry): entry for entry in kept if _key(entry) in order}
            if known.done and len(produced) == len(order):
                return [produced[key] for key in order]
        else:
            write_object(marker, Marker(fingerprint=stamp, count=len(items), done=False))
        owed = [item for item in items if item.key not in produced]
        if owed:
            self.progress(name, len(produced), len(order))
        self._collect(name, path, order, produced, produce(owed) if owed else ())
        if missing := len(order) - len(produced):
            raise Failure(
                f"stage {self.named(name)}: of {len(order)} records {missing} are missing.",
                next_step="Run the same command again: what was produced is kept.",
            )
        ordered = [produced[key] for key in order]
        # Arrival order depends on interruptions; the finished file must not.
        write_jsonl(path, ordered)
        write_object(marker, Marker(fingerprint=stamp, count=len(items), done=True))
        return ordered

    def read(self, name: str, record: type[R]) -> list[R]:
        """The records that a stage's file holds so far; empty when the stage never started."""
        return read_stage(self.directory, f"{self.prefix}{name}", record)

    def _known_stage(self, path: Path, marker: Path, stamp: str) -> "Marker | None":
        if not marker.exists():
            if path.exists():
                raise StageMismatch(
                    f"{path} has no {marker.name} beside it, which says what it was made from.",
                    next_step=f"Delete {path.name} to make it again, or use another run directory.",
                )
            return None
        known = read_record(marker, Marker, redo(path))
        if known.fingerprint != stamp:
            raise StageMismatch(
                f"{path} was made from other items than this run now has.",
                next_step=f"Delete {path.name} and {marker.name} to make it again, or use another directory.",
            )
        return known

    def _collect(
        self, name: str, path: Path, order: dict[str, int], produced: dict[str, R], records: Iterable[R]
    ) -> None:
        synced, passed = time.monotonic(), sum(map(_passes, produced.values()))
        with Appender(path) as file:
            for entry in records:
                key = _key(entry)
                if key not in order:
                    raise ValueError(f"stage {name}: a record for {key!r}, which is not one of its items")
                if key in produced:
                    continue
                file.write(entry)
                if time.monotonic() - synced > SYNC_SECONDS:
                    file.sync()
                    synced = time.monotonic()
                produced[key] = entry
                passed += _passes(entry)
                told = {"passed": passed} if isinstance(entry, Attempt) else {}
                self.progress(name, len(produced), len(order), **told)

    def log(
        self, stage: str, metrics: Mapping[str, float | int | str | None], step: int | None = None
    ) -> None:
        """Record metrics in ``metrics.jsonl`` and pass them to the observers."""
        self._emit(Event(stage=self.prefix + stage, step=step, metrics=dict(metrics)), keep=True)

    def message(self, stage: str, text: str) -> None:
        """Record a message for the reader in ``metrics.jsonl`` and pass it to the observers."""
        self._emit(Event(stage=self.prefix + stage, kind="message", message=text), keep=True)

    def account(self, **numbers: float | int | str) -> None:
        """Record what the run has consumed, in ``accounting.json``."""
        named = {self.prefix + name: value for name, value in numbers.items()}
        write_object(self.directory / "accounting.json", self.accounting | named)

    @property
    def accounting(self) -> dict[str, float | int | str]:
        """Everything recorded so far; a key starts with the name of its round or part."""
        return read_accounting(self.directory)

    def funnel(self, steps: dict[str, int]) -> None:
        """Record how many things each step left, named in plain words and in the order of the steps, for the
        report: ``{"tasks": 60, "solved by the teacher": 52, "rows": 52}``. Later calls add steps,
        or count one anew."""
        known, part = read_funnels(self.directory), self.prefix.rstrip("/")
        known[part] = known.get(part, {}) | steps
        write_funnels(self.directory, known)

    def progress(self, stage: str, done: int, total: int, **metrics: float | int | str | None) -> None:
        """Report a stage's progress to the observers; nothing is stored."""
        event = Event(stage=self.prefix + stage, kind="progress", done=done, total=total, metrics=metrics)
        self._emit(event, keep=False)

    def watch(self, stage: str) -> Watch:
        """What tells the observers how the work of a stage goes on between its records."""
        return Watch(partial(self.progress, stage, 0, 0), partial(self.say, stage))

    def say(self, stage: str, text: str) -> None:
        """Pass a message to the observers that depends on the machine, or the moment: it is not kept."""
        self._emit(Event(stage=self.prefix + stage, kind="message", message=text), keep=False)

    def rewind(self, step: int, stages: Sequence[str]) -> None:
        """Drop the metrics of ``stages`` logged after ``step``: a resumed training logs them again."""
        if not self.metrics_path.exists():
            return
        names = {self.prefix + stage for stage in stages}
        events = read_jsonl(self.metrics_path, Event, next_step=NO_LOG)
        kept = [event for event in events if event.stage not in names or (event.step or 0) <= step]
        write_atomic(self.metrics_path, sealed_lines(kept, whole=False))

    def _emit(self, event: Event, *, keep: bool) -> None:
        if keep:
            append_jsonl(self.metrics_path, [event], sync=False)
        for observer in list(self._observers):
            try:
                observer(event)
            except Exception as error:  # an observer must never stop a run
                self._observers.remove(observer)
                name = type(observer).__name__
                print(printable(f"{name} failed and is ignored from now on: {error}"), file=sys.stderr)

    def _take_lock(self) -> None:
        self._lock = (self.directory / ".lock").open("w")
        try:
            lock(self._lock)
        except OSError as error:
            self.close()
            raise RunError(
                f"Another process is using {self.directory}.",
                next_step="Wait for it to finish, or use another run directory.",
            ) from error


def _passes(record: object) -> bool:
    return isinstance(record, Attempt) and record.result.passed


def _key(record: Any) -> str:
    return record.key
