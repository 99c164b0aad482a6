"""Observers of a run's events: progress bars, TensorBoard, Weights & Biases."""

import sys
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from codestill.errors import ConfigError
from codestill.run import Observer
from codestill.types import Event

TrackerName = Literal["tensorboard", "wandb"]
_PASSING = ("gates",)  # stages that keep nothing: they have a bar, and no line tells of them afterwards


class ProgressBars:
    """A bar per stage on a terminal, with tokens per second and the time left; a line per stage elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.stages: dict[str, TaskID] = {}
        self.bars.start()

    def __call__(self, event: Event) -> None:
        if event.kind == "message":
            self.console.print(f"{event.stage}: {event.message}", markup=False, highlight=False)
        if event.kind != "progress":
            return
        if not event.total:
            self._spend(event)
            return
        if event.stage not in self.stages:
            self.stages[event.stage] = self.bars.add_task(event.stage, total=event.total, note="")
        rate = event.metrics.get("tokens_per_second")
        bar = self.stages[event.stage]
        self.bars.update(bar, completed=event.done, total=event.total)
        if rate:
            self.bars.update(bar, note=f"{rate:,} tokens/s")
        if event.done == event.total:
            self.bars.remove_task(self.stages.pop(event.stage))
            if event.stage.rpartition("/")[2] not in _PASSING:
                self.console.print(f"{event.stage}: {event.total:,} done", markup=False, highlight=False)

    def _spend(self, event: Event) -> None:
        """What the run's teacher was asked so far, beside the bar of the stage that asks."""
        if event.stage in self.stages:
            spent = event.metrics
            note = f"teacher: {spent['teacher_calls']:,} calls, {spent['teacher_tokens']:,} tokens"
            money = f", {spent['teacher_money']:.4f}" if spent["teacher_money"] else ""
            self.bars.update(self.stages[event.stage], note=note + money)

    def close(self) -> None:
        self.bars.stop()


class TensorBoard:
    """Scalars as ``stage/name`` in ``<run>/tensorboard``."""

    def __init__(self, directory: Path) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise _missing("tensorboard", "track") from error
        self.writer_type, self.directory = SummaryWriter, directory / "tensorboard"
        self.writer: SummaryWriter | None = None

    def __call__(self, event: Event) -> None:
        if event.kind != "metrics":
            return
        if self.writer is None:  # not before: it makes the directory, which the run must find empty
            self.writer = self.writer_type(str(self.directory))
        for name, value in _numbers(event).items():
            self.writer.add_scalar(name, value, event.step)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


class WeightsAndBiases:
    """Metrics as ``stage/name`` in a W&B run; ``WANDB_MODE=offline`` needs no account.

    A command that continues a run makes a W&B run of its own, of the same name.
    """

    def __init__(self, directory: Path, config: dict[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise _missing("wandb", "wandb") from error
        self.wandb, self.directory, self.config = wandb, directory, config
        self.run: wandb.Run | None = None

    def __call__(self, event: Event) -> None:
        if event.kind != "metrics":
            return
        if self.run is None:
            self.run = self.wandb.init(
                project="codestill", name=self.directory.name, dir=str(self.directory), config=self.config
            )
        step = {} if event.step is None else {f"{event.stage}/step": event.step}
        self.wandb.log({**_numbers(event), **step})

    def close(self) -> None:
        if self.run is not None:
            self.run.finish()


def open_trackers(names: tuple[TrackerName, ...], directory: Path, config: dict[str, Any]) -> list[Observer]:
    """The observers named in a run's config. Raises ConfigError when a package is not installed."""
    made: list[Observer] = []
    for name in names:
        made.append(TensorBoard(directory) if name == "tensorboard" else WeightsAndBiases(directory, config))
    return made


def close_trackers(observers: list[Observer]) -> None:
    """Let every observer write what it still holds."""
    for observer in observers:
        close = getattr(observer, "close", None)
        if close:
            try:
                close()
            except Exception as error:  # a tracker must not fail a finished run
                print(f"{type(observer).__name__} could not be closed: {error}", file=sys.stderr)


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
