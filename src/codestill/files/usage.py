"""What a run was forecast to take, and what it took."""

import contextlib
import platform
from pathlib import Path

from pydantic import NonNegativeFloat, NonNegativeInt

from codestill.files.run_files import FORECAST, SESSIONS, read_ledger
from codestill.files.serialize import read_jsonl, read_record
from codestill.types import Record

_LOG = "Delete the file: no result depends on it."


class Session(Record):
    """A process that worked on a run and ended by itself; one that is killed leaves none."""

    seconds: NonNegativeFloat
    peak_bytes: NonNegativeInt
    """The most memory that the process has held so far."""


class Expected(Record):
    """An amount with the range in which it is expected."""

    mean: NonNegativeFloat
    low: NonNegativeFloat
    high: NonNegativeFloat


def exactly(amount: float) -> Expected:
    """An amount that has no range."""
    return Expected(mean=amount, low=amount, high=amount)


class StageForecast(Record):
    """A stage of a run."""

    stage: str
    items: Expected
    """Tasks, answers or training steps."""
    seconds: Expected


class Forecast(Record):
    """What a run is expected to take, from small trial runs of the same recipe on the same data."""

    measured_on: tuple[int, ...]
    """Training tasks of each trial run."""
    tasks: int
    """Training tasks of the run."""
    stages: tuple[StageForecast, ...]
    seconds: Expected
    calls: Expected
    """Answers of the teacher."""
    tokens: Expected
    """Of the teacher's prompts and answers."""
    money: Expected | None
    """None where the prices are unknown."""
    memory_bytes: NonNegativeFloat
    """The most that the process holds at a time."""
    disk_bytes: NonNegativeFloat


class Used(Record):
    """What a run has taken so far."""

    seconds: float
    """Of all its processes that ended by themselves."""
    calls: int
    tokens: int
    money: float | None
    memory_bytes: int
    disk_bytes: int


def this_session(seconds: float) -> Session:
    """This process, which has worked so long on a run."""
    return Session(seconds=seconds, peak_bytes=peak_bytes())


def peak_bytes() -> int:
    """The most memory that this process has held."""
    if platform.system() == "Linux":  # not getrusage: that of a child begins with its parent's
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        memory = psutil.Process().memory_info()
        return getattr(memory, "peak_wset", memory.rss)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # of macOS: in bytes


def forget_peak() -> None:
    """From now on, :func:`peak_bytes` is of what comes; where the system can (Linux)."""
    if platform.system() == "Linux":
        with contextlib.suppress(OSError):  # a container may forbid it
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def read_forecast(directory: Path) -> Forecast | None:
    """What was forecast of a run; None where nothing was. Raises RunError for a damaged file."""
    path = directory / FORECAST
    return read_record(path, Forecast, _LOG) if path.exists() else None


def read_sessions(directory: Path) -> list[Session]:
    """The processes that worked on a run and ended by themselves. Raises RunError for a damaged file."""
    path = directory / SESSIONS
    return list(read_jsonl(path, Session, next_step=_LOG)) if path.exists() else []


def read_usage(directory: Path) -> Used | None:
    """What a run, or a comparison with its runs, has taken; None where no process has ended by itself. Raises
    RunError for a damaged file.
    """
    sessions = read_sessions(directory)
    if not sessions:
        return None
    calls = [call for ledger in sorted(directory.rglob("ledger.jsonl")) for call in read_ledger(ledger)]
    costs = [call.cost for call in calls]
    return Used(
        seconds=sum(session.seconds for session in sessions),
        calls=len(calls),
        tokens=sum(call.prompt_tokens + call.completion_tokens for call in calls),
        money=None if None in costs else sum(cost or 0.0 for cost in costs),
        memory_bytes=max(session.peak_bytes for session in sessions),
        disk_bytes=size_of(directory),
    )


def size_of(directory: Path) -> int:
    """Bytes of all files below a directory."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
