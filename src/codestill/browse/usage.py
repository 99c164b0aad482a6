"""What a run was forecast to take, and what it took, as tables."""

from collections.abc import Callable
from pathlib import Path

from codestill.files.usage import Expected, Forecast, Used, exactly, read_forecast, read_usage
from codestill.pace import duration
from codestill.tables import Table

RIGHT = frozenset({"items", "time", "range", "forecast", "taken", "ratio"})


def forecast_table(expected: Forecast) -> Table:
    """A row per stage, and the sums below."""
    measured = " and ".join(str(count) for count in expected.measured_on[:2])
    trials = f"from trials on {measured} of {expected.tasks:,} tasks"
    lines = [
        f"{name}: {text(amount.mean)}" + (f" ({limits})" if (limits := _range(amount, text)) else "")
        for name, amount, _, text in _amounts(expected)
        if amount.mean
    ]
    return Table(
        ("stage", "items", "time", "range"),
        tuple(
            (
                stage.stage,
                f"{stage.items.mean:,.0f}",
                duration(stage.seconds.mean),
                _range(stage.seconds, duration),
            )
            for stage in expected.stages
        ),
        RIGHT,
        below=(*lines, trials),
    )


def usage_table(directory: Path) -> Table | None:
    """What was forecast of a run or comparison beside what it took; None unless both are known. Raises
    RunError for a damaged file."""
    expected, used = read_forecast(directory), read_usage(directory)
    if expected is None or used is None:
        return None
    return Table(
        ("", "forecast", "range", "taken", "ratio"),
        tuple(
            (name, text(amount.mean), _range(amount, text), text(taken), f"{taken / amount.mean:.2f}")
            for name, amount, taken, text in _amounts(expected, used)
            if amount.mean and taken is not None
        ),
        RIGHT,
    )


def _amounts(
    expected: Forecast, used: Used | None = None
) -> list[tuple[str, Expected, float | None, Callable[[float], str]]]:
    """Name of an amount, what was expected, what was taken, and how it is written."""
    nothing = Expected(mean=0, low=0, high=0)
    return [
        ("time", expected.seconds, used and used.seconds, duration),
        ("answers of the teacher", expected.calls, used and used.calls, "{:,.0f}".format),
        ("its tokens", expected.tokens, used and used.tokens, "{:,.0f}".format),
        ("money", expected.money or nothing, used and used.money, "{:,.2f}".format),
        ("memory", exactly(expected.memory_bytes), used and used.memory_bytes, _size),
        ("disk", exactly(expected.disk_bytes), used and used.disk_bytes, _size),
    ]


def _range(amount: Expected, text: Callable[[float], str]) -> str:
    return "" if amount.low == amount.high else f"{text(amount.low)} to {text(amount.high)}"


def _size(size: float) -> str:
    """``3.1 GB``, ``25 MB``."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
