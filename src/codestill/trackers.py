"""Observers of a run's events: progress bars, TensorBoard, Weights & Biases, or a class of the user's own."""

import inspect
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from codestill.errors import ConfigError
from codestill.pace import Pace
from codestill.plugins import is_plugin, load_plugin, suggestion
from codestill.run import Observer
from codestill.terminal import Terminal, printable
from codestill.types import Event

if TYPE_CHECKING:
    import wandb

_TRANSIENT = ("gates",)  # stages that keep no records: they get a bar, but no line once they are done


class ProgressBars:
    """On a terminal a bar per stage; elsewhere a line per finished stage, and one of the running stage every
    half minute. Both have the rate and the time left."""

    def __init__(self, console: Console | None = None, every: float = 30.0) -> None:
        """``every``: seconds between two lines of a stage that goes on."""
        self.console = console or Terminal(stderr=True)
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.stages: dict[str, tuple[Pace, TaskID]] = {}
        self.every, self.latest = every, ""
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._lines: threading.Thread | None = None
        self.bars.start()

    def __call__(self, event: Event) -> None:
        if event.kind == "message":
            self._print(f"{event.stage}: {event.message}")
        if event.kind == "progress":
            with self._lock:
                self._show(event)
                if self._lines is None and not self.console.is_terminal:
                    self._lines = threading.Thread(target=self._keep_telling, daemon=True)
                    self._lines.start()

    def _show(self, event: Event) -> None:
        if event.stage not in self.stages:
            if not event.total:  # a teacher's spending, outside any stage
                return
            task = self.bars.add_task(event.stage, total=event.total, note="")
            self.stages[event.stage] = Pace(), task
        pace, bar = self.stages[event.stage]
        pace.hear(event)
        self.latest = event.stage
        self.bars.update(bar, completed=pace.done, total=pace.total, note=pace.note())
        if pace.done == pace.total:
            self.bars.remove_task(bar)
            del self.stages[event.stage]
            if event.stage.rpartition("/")[2] not in _TRANSIENT:
                self._print(f"{event.stage}: {pace.total:,} done{pace.summary()}")

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _keep_telling(self) -> None:
        """Lines for a log; the stage heard of last is told of even when it is silent."""
        while not self._closed.wait(self.every):
            with self._lock:
                for name, (pace, _) in self.stages.items():
                    if pace.news or name == self.latest:
                        pace.news = False
                        note = pace.note()
                        self._print(f"{name}: {pace.done:,} of {pace.total:,} done{note and f', {note}'}")

    def close(self) -> None:
        self._closed.set()
        if self._lines is not None:
            self._lines.join()
        self.bars.stop()


class TensorBoard:
    """Scalars as ``stage/name`` in ``<run>/tensorboard``."""

    def __init__(self, directory: Path, config: dict[str, Any]) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise _missing("tensorboard", "track") from error
        self.writer_type, self.directory = SummaryWriter, directory / "tensorboard"
        self.writer: SummaryWriter | None = None

    def __call__(self, event: Event) -> None:
        if event.kind != "metrics":
            return
        if self.writer is None:  # not earlier: it creates the directory, which the run must find empty
            self.writer = self.writer_type(str(self.directory))
        for name, value in _numbers(event).items():
            self.writer.add_scalar(name, value, event.step)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


class WeightsAndBiases:
    """Metrics as ``stage/name`` over ``stage/step`` in a W&B run; ``WANDB_MODE=offline`` needs no account.

    Every command that continues a run starts another W&B run of the same name. The runs of a comparison, an
    arm and a seed each, are a group.
    """

    def __init__(self, directory: Path, config: dict[str, Any], group: Path | None = None) -> None:
        try:
            import wandb
        except ImportError as error:
            raise _missing("wandb", "wandb") from error
        self.wandb, self.directory, self.config, self.group = wandb, directory, config, group
        self.run: wandb.Run | None = None
        self.stages: set[str] = set()

    def __call__(self, event: Event) -> None:
        if event.kind != "metrics":
            return
        run = self.run or self._start()
        step = {} if event.step is None else {f"{event.stage}/step": event.step}
        if step and event.stage not in self.stages:
            self.stages.add(event.stage)
            run.define_metric(f"{event.stage}/*", step_metric=f"{event.stage}/step")
        run.log({**_numbers(event), **step})

    def _start(self) -> "wandb.Run":
        name = self.directory.relative_to(self.group).as_posix() if self.group else self.directory.name
        run = self.wandb.init(
            project="codestill",
            name=name,
            group=self.group.name if self.group else None,
            dir=str(self.directory),
            config=self.config,
        )
        self.run = run
        return run

    def close(self) -> None:
        if self.run is not None:
            self.run.finish()


Opener = Callable[[Path, dict[str, Any]], Observer]
"""Makes an observer, given the run's directory and its config as plain data. It gets every :class:`Event`;
``close()``, where it has that method, is called at the end of the command."""

TRACKERS: Mapping[str, Opener] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}
"""The trackers that have a name; any other is a class of the user's own, ``module:Class``."""


def _known_tracker(name: str) -> str:
    """Raises ValueError for a name that stands for nothing, ConfigError for a class that is no tracker."""
    _opener(name)
    return name


if TYPE_CHECKING:
    TrackerName = str
else:
    # The Literal is for --help, which lists its choices.
    TrackerName = Annotated[Literal[tuple(TRACKERS)] | str, AfterValidator(_known_tracker)]


def open_trackers(
    names: Sequence[TrackerName], directory: Path, config: dict[str, Any], group: Path | None = None
) -> list[Observer]:
    """The observers that a run's config names, in that order; ``group`` is the directory of the comparison
    that the run belongs to.

    Raises ConfigError where a package is not installed, or a class of the user's own is missing or raises.
    """
    return [_open(name, directory, config, group) for name in names]


def _open(name: TrackerName, directory: Path, config: dict[str, Any], group: Path | None) -> Observer:
    try:
        grouped = partial(WeightsAndBiases, group=group) if name == "wandb" else _opener(name)
        tracker = grouped(directory, config)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"the tracker {name} cannot be opened: {type(error).__name__}: {error}",
            next_step="Correct what it needs, or drop it from execution.trackers.",
        ) from error
    if not callable(tracker):
        raise _not_a_tracker(name, f"a {type(tracker).__name__} cannot be called with an event")
    return tracker


def _opener(name: str) -> Opener:
    if name in TRACKERS:
        return TRACKERS[name]
    known = f"known are {' and '.join(TRACKERS)}, or module:Class of your own"
    if not is_plugin(name):
        raise ValueError(f"no tracker {name!r}. {suggestion(name, TRACKERS, '')} {known}".replace("  ", " "))
    opener: Any = load_plugin(name, "tracker")
    _require_opener(name, opener)
    return opener


def _require_opener(name: str, opener: object) -> None:
    """Raises ConfigError for what cannot make an observer, as far as can be seen without calling it."""
    if not callable(opener):
        raise _not_a_tracker(name, "it is neither a class nor a function")
    try:
        inspect.signature(opener).bind(Path(), {})
    except TypeError as error:
        raise _not_a_tracker(name, f"it does not take (directory, config): {error}") from error
    except ValueError:  # compiled code may have no signature: the call will tell
        return
    if isinstance(opener, type) and not any("__call__" in vars(base) for base in opener.__mro__):
        raise _not_a_tracker(name, "its instances cannot be called: it has no __call__(event)")


def _not_a_tracker(name: str, reason: str) -> ConfigError:
    return ConfigError(
        f"{name} is not a tracker: {reason}.",
        next_step="A tracker is a class with __init__(directory, config) and __call__(event); close() is "
        "optional. docs/extending.md has an example.",
    )


def close_trackers(observers: list[Observer]) -> None:
    """Close every observer that can be closed; one that fails is named on standard error."""
    for observer in observers:
        close = getattr(observer, "close", None)
        if close:
            try:
                close()
            except Exception as error:  # a tracker must not fail a finished run
                name = type(observer).__name__
                print(printable(f"{name} could not be closed: {error}"), file=sys.stderr)


def _numbers(event: Event) -> dict[str, float]:
    return {
        f"{event.stage}/{name}": float(value)
        for name, value in event.metrics.items()
        if isinstance(value, int | float)
    }


def _missing(package: str, extra: str) -> ConfigError:
    return ConfigError(
        f"the tracker {package} is not installed.",
        next_step=f"Install it with: pip install 'codestill[{extra}]', or drop it from execution.trackers.",
    )
