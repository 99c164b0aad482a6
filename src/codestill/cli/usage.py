"""What a job was forecast to take, and what it took, as the commands print it."""

from pathlib import Path

from rich.table import Table

from codestill.cli.console import console
from codestill.files.usage import Expected, Forecast, read_forecast, read_usage
from codestill.pace import duration


def print_forecast(expected: Forecast) -> None:
    """A row per stage, then the sums."""
    table = Table("stage", box=None, pad_edge=False)
    for name in ("items", "time", "range"):
        table.add_column(name, justify="right")
    for stage in expected.stages:
        seconds = stage.seconds
        limits = f"{duration(seconds.low)} to {duration(seconds.high)}"
        table.add_row(stage.stage, f"{stage.items.mean:,.0f}", duration(seconds.mean), limits)
    console.print(table)
    for line in lines(expected):
        console.print(line, highlight=False, soft_wrap=True)


def lines(expected: Forecast) -> list[str]:
    """The sums as sentences."""
    seconds = expected.seconds
    limits = f"[{duration(seconds.low)}, {duration(seconds.high)}]"
    teacher = f"{_amount(expected.calls)} calls, {_amount(expected.tokens)} tokens"
    if expected.money is not None and expected.money.mean:
        teacher += f", {_amount(expected.money, '.2f')} in money"
    measured = " and ".join(str(count) for count in expected.measured_on)
    return [
        f"time: {duration(seconds.mean)} {limits}, from trials on {measured} of {expected.tasks:,} tasks",
        f"teacher: {teacher}" if expected.calls.mean else "teacher: not asked",
        f"memory: {_size(expected.memory_bytes)}; disk: {_size(expected.disk_bytes)}",
    ]


def print_usage(directory: Path) -> None:
    """What a run took beside what was forecast; nothing where nothing was."""
    expected, used = read_forecast(directory), read_usage(directory)
    if expected is None or used is None:
        return
    pairs = {
        "time": (duration(expected.seconds.mean), duration(used.seconds)),
        "calls": (f"{expected.calls.mean:,.0f}", f"{used.calls:,}"),
        "tokens": (f"{expected.tokens.mean:,.0f}", f"{used.tokens:,}"),
        "memory": (_size(expected.memory_bytes), _size(used.memory_bytes)),
        "disk": (_size(expected.disk_bytes), _size(used.disk_bytes)),
    }
    said = "; ".join(f"{name} {before}, took {after}" for name, (before, after) in pairs.items())
    console.print(f"forecast: {said}", highlight=False, soft_wrap=True)


def _amount(value: Expected, form: str = ",.0f") -> str:
    if value.low == value.high:
        return f"{value.mean:{form}}"
    return f"{value.mean:{form}} [{value.low:{form}}, {value.high:{form}}]"


def _size(size: float) -> str:
    """``3.1 GB``, ``25 MB``."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
