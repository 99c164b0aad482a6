"""How far a run is, for who waits: bars on a terminal or in a notebook, lines in a log."""

import threading
import time
import warnings
from abc import ABC, abstractmethod
from collections import deque
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress
from rich.table import Column

from codestill.pace import LATENCY, Pace
from codestill.terminal import Terminal, printable
from codestill.types import Event

# Of tqdm, which other packages bring along, in a notebook without ipywidgets: nothing here needs its bars.
warnings.filterwarnings("ignore", "IProgress not found")

_TRANSIENT = ("gates", LATENCY)  # stages that keep no records: they get a bar, but no line once they are done


class Progress(ABC):
    """An observer that shows the rate of each stage, its loss or pass@1 so far and the time left, and a line
    once it is finished."""

    def __init__(self) -> None:
        self.stages: dict[str, Pace] = {}
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            if event.kind == "message":
                self._say(f"{event.stage}: {event.message}")
            if event.kind == "progress":
                self._hear(event)
            if event.kind == "metrics" and event.stage in self.stages:
                self.stages[event.stage].learn(event)

    def _hear(self, event: Event) -> None:
        if event.stage not in self.stages:
            if not event.total:  # a teacher's spending, outside any stage
                return
            self.stages[event.stage] = Pace()
        pace = self.stages[event.stage]
        pace.hear(event)
        if pace.done < pace.total:
            self._goes_on(event.stage, pace)
            return
        del self.stages[event.stage]
        self._ends(event.stage)
        if event.stage.rpartition("/")[2] not in _TRANSIENT:
            self._say(f"{event.stage}: {pace.total:,} done{pace.summary()}")

    @abstractmethod
    def _say(self, line: str) -> None:
        """Show a line that stays."""

    @abstractmethod
    def _goes_on(self, stage: str, pace: Pace) -> None:
        """Show how far a stage is."""

    @abstractmethod
    def _ends(self, stage: str) -> None:
        """Show a stage no more."""

    @abstractmethod
    def close(self) -> None:
        """Nothing more will be told."""


class ProgressBars(Progress):
    """On a terminal a bar per stage; elsewhere a line per finished stage, and one of the running stage every
    half minute."""

    def __init__(self, console: Console | None = None, every: float = 30.0) -> None:
        """``every``: seconds between two lines of a stage that goes on."""
        super().__init__()
        self.console = console or Terminal(stderr=True)
        self.bars = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20, table_column=Column(no_wrap=True)),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            # On a narrow terminal the note is wrapped, and nothing is cut.
            TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=False)),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.tasks: dict[str, TaskID] = {}
        self.every, self.latest = every, ""
        self._closed = threading.Event()
        self._lines: threading.Thread | None = None
        self.bars.start()

    def _goes_on(self, stage: str, pace: Pace) -> None:
        self.latest = stage
        if stage not in self.tasks:
            self.tasks[stage] = self.bars.add_task(stage, total=pace.total, note="")
        self.bars.update(self.tasks[stage], completed=pace.done, total=pace.total, note=pace.note())
        if self._lines is None and not self.console.is_terminal:
            self._lines = threading.Thread(target=self._keep_telling, daemon=True)
            self._lines.start()

    def _ends(self, stage: str) -> None:
        if stage in self.tasks:
            self.bars.remove_task(self.tasks.pop(stage))
            self.bars.refresh()  # before a line is printed above what is shown

    def _say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _keep_telling(self) -> None:
        """Lines for a log; the stage heard of last is told of even when it is silent."""
        while not self._closed.wait(self.every):
            with self._lock:
                for name, pace in self.stages.items():
                    if pace.news or name == self.latest:
                        pace.news = False
                        self._say(f"{name}: {_counts(pace)}")

    def close(self) -> None:
        self._closed.set()
        if self._lines is not None:
            self._lines.join()
        self.bars.stop()


class NotebookProgress(Progress):
    """In a notebook: one output of a cell, which is rewritten in place. A notebook that is saved holds the
    last of it."""

    def __init__(self, every: float = 0.2) -> None:
        """``every``: seconds between two updates of a stage that goes on."""
        super().__init__()
        self.every, self._next = every, 0.0
        self.lines: deque[str] = deque(maxlen=_LINES)
        self._output: Any = None

    def _say(self, line: str) -> None:
        self.lines.append(line)
        self._show()

    def _goes_on(self, stage: str, pace: Pace) -> None:
        if time.monotonic() >= self._next:
            self._show()

    def _ends(self, stage: str) -> None:
        pass  # the line that stays is shown without the bar

    def _show(self) -> None:
        from IPython.display import display  # only a notebook gets here, which has it

        running = [f"{name}: {_bar(pace)} {_counts(pace)}" for name, pace in self.stages.items()]
        shown = {"text/plain": printable("\n".join([*self.lines, *running]))}
        if self._output is None:
            self._output = display(shown, raw=True, display_id=True)
        else:
            self._output.update(shown, raw=True)
        self._next = time.monotonic() + self.every

    def close(self) -> None:
        with self._lock:
            if self._output is not None:
                self._show()


_LINES = 100
"""Lines that a cell keeps."""
_WIDTH = 30


def _bar(pace: Pace) -> str:
    full = _WIDTH * pace.done // pace.total
    return "█" * full + "░" * (_WIDTH - full)


def _counts(pace: Pace) -> str:
    note = pace.note()
    return f"{pace.done:,} of {pace.total:,} done{note and f', {note}'}"


def progress_bars() -> Progress:
    """What suits the place: bars on a terminal or in a notebook, lines elsewhere."""
    return NotebookProgress() if Terminal().is_jupyter else ProgressBars()
