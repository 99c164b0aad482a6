"""From trial runs on few tasks to what the whole job will take.

A stage's time is a line over the number of its items: loading once, the steps of a batch whatever its size,
for every batch, and a time for each item. Two trial runs of different size give the line.
"""

import itertools
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from codestill.compare import sharing
from codestill.errors import BudgetError
from codestill.files.usage import Expected, Forecast, StageForecast, exactly
from codestill.pace import LATENCY
from codestill.planning.sample import Sizes, sample, sizes
from codestill.planning.trial import EVALUATION, REST, Lap, TooFew, Trial, try_out
from codestill.recipes import load_recipe
from codestill.tasks.preflight import preflight
from codestill.teachers.ledger import Budget
from codestill.teachers.session import TeacherUsage
from codestill.train import TrainConfig

TASKS = 16
"""Training tasks of the larger trial run; the smaller one has a quarter. They have four times as many where
that comes to nothing."""
_STEPS = (2, 6)
_FILLED = 0.95
"""Of a batch's budget, the share that rows of similar length fill."""
_SPREAD = 1.3
"""By how much, as a factor, times may differ on a machine that also does other things."""


def forecast(
    recipe: str | None,
    config: Any,
    answers: Path,
    tasks: int = TASKS,
    tell: Callable[[str], None] = lambda line: None,
    shared: bool = False,
) -> Forecast:
    """What a run of a recipe with this config, or an evaluation, will take, by two trial runs.

    ``answers``: where each trial keeps its teacher's answers, in a directory of its own; ``shared``: as the
    runs of a comparison do, which keep those of two endpoints apart. Raises TaskError for tasks that cannot
    be used together, Failure for a config that cannot run.
    """
    if recipe is not None:
        preflight(config)
    whole = sizes(config)
    trials: list[Trial] = []
    parts: list[Sizes] = []
    most = min(max(2, whole.tasks // 2), 4 * tasks)  # a trial of more would be the job itself
    largest = min(tasks, most)
    count = max(2, largest // 4)
    with tempfile.TemporaryDirectory(prefix="codestill-plan-") as place:
        for number in itertools.count():
            tell(f"trial run on {count} of {whole.tasks:,} tasks")
            last = bool(trials) or count >= most
            part = sample(config, count / whole.tasks, _STEPS[last])
            part = _keeping(part, answers / str(number), shared)
            try:
                trials.append(try_out(recipe or EVALUATION, part, Path(place) / str(number)))
                parts.append(sizes(part))
            except TooFew as error:
                if count >= most:
                    raise TooFew(
                        error.message,
                        next_step=f"{count} of {whole.tasks:,} tasks were tried. Correct the settings, or "
                        "run it without a plan: a larger trial would be most of the job.",
                    ) from error
                largest = most
            else:
                if last:
                    break
            count = min(largest, 4 * count)
    saturates = getattr(load_recipe(recipe), "SATURATES", ()) if recipe else ()
    return extrapolate(trials, parts, whole, config, saturates)


@contextmanager
def answers_of_trials(directory: Path) -> Iterator[Path]:
    """Where trials keep their teacher's answers; in the end they are in ``directory``, where the run finds
    them and asks for none again."""
    with tempfile.TemporaryDirectory(prefix="codestill-plan-") as place:
        try:
            yield Path(place)
        finally:
            for trial in sorted(Path(place).iterdir()):
                shutil.copytree(trial, directory, dirs_exist_ok=True)


def together(forecasts: Mapping[str, Sequence[Forecast]]) -> Forecast:
    """What several runs take one after the other: name -> the forecast of each run of that name."""
    every = [one for runs in forecasts.values() for one in runs]
    costs = [one.money for one in every]
    return Forecast(
        measured_on=tuple(count for runs in forecasts.values() for count in runs[0].measured_on),
        tasks=sum(one.tasks for one in every),
        stages=tuple(
            StageForecast(stage=name, items=exactly(len(runs)), seconds=_sum([one.seconds for one in runs]))
            for name, runs in forecasts.items()
        ),
        seconds=_sum([one.seconds for one in every]),
        calls=_sum([one.calls for one in every]),
        tokens=_sum([one.tokens for one in every]),
        money=None if None in costs else _sum([cost for cost in costs if cost is not None]),
        memory_bytes=max(one.memory_bytes for one in every),
        disk_bytes=sum(one.disk_bytes for one in every),
    )


def extrapolate(
    trials: Sequence[Trial],
    parts: Sequence[Sizes],
    whole: Sizes,
    config: Any,
    saturates: Sequence[str] = (),
) -> Forecast:
    """What the whole takes, from trials of parts of these sizes, the largest last. ``saturates``: patterns of
    stages to which each task adds less than the one before."""
    largest, part = trials[-1], parts[-1]
    more = whole.tasks / part.tasks
    laps_of = [[_lap(trial, lap.stage) for trial in trials] for lap in largest.laps]
    stages = [
        _training(laps, more, _settings(laps[-1], config))
        if laps[-1].tokens
        else _stage(
            laps,
            _amount(laps, parts, whole, any(fnmatch(laps[-1].stage, name) for name in saturates)),
            _at_a_time(laps[-1].stage, config),
        )
        for laps in laps_of
    ]
    rows = [part.tasks for part in parts]
    priced = largest.used.money is not None
    asked = [(lap, stage.items) for lap, stage in zip(largest.laps, stages, strict=True) if lap.calls]
    return Forecast(
        measured_on=tuple(rows),
        tasks=whole.tasks,
        stages=tuple(stages),
        seconds=_sum([stage.seconds for stage in stages]),
        calls=_sum([_for_items(lap.calls, lap, items) for lap, items in asked]),
        tokens=_sum([_for_items(lap.call_tokens, lap, items) for lap, items in asked]),
        money=_sum([_for_items(lap.money or 0.0, lap, items) for lap, items in asked]) if priced else None,
        memory_bytes=max(
            _memory(laps, stage.items.mean, more, config) for laps, stage in zip(laps_of, stages, strict=True)
        ),
        disk_bytes=_line(rows, [trial.used.disk_bytes for trial in trials], whole.tasks),
    )


def require_affordable(expected: Forecast, budget: Budget) -> None:
    """Raises BudgetError where a run is expected to exceed its budget."""
    for name in ("calls", "tokens", "money"):
        limit, amount = getattr(budget, name), getattr(expected, name)
        if limit is not None and amount is not None and amount.mean > limit:
            raise BudgetError(
                f"the run is expected to take {amount.mean:,.6g} {name} [{amount.low:,.6g}, "
                f"{amount.high:,.6g}], and the budget is {limit:,.6g}.",
                next_step="Raise the budget, or take fewer tasks.",
            )


def _keeping(config: Any, answers: Path, shared: bool) -> Any:
    """The config of a trial that keeps its teacher's answers there, without the run's budget."""
    usage = getattr(config, "teacher_usage", None)
    if not isinstance(usage, TeacherUsage):
        return config
    alone = usage.model_copy(update={"answers": None if shared else answers, "budget": Budget()})
    return sharing(config.model_copy(update={"teacher_usage": alone}), answers)


def _lap(trial: Trial, stage: str) -> Lap:
    found = [lap for lap in trial.laps if lap.stage == stage]
    return found[0] if found else Lap(stage=stage, items=0)


def _amount(laps: Sequence[Lap], parts: Sequence[Sizes], whole: Sizes, saturates: bool) -> Expected:
    """How many items a stage of the whole run has."""
    name, seen = laps[-1].stage.rpartition("/")[2], laps[-1].items
    if name in (REST, LATENCY):
        return exactly(1)
    evaluated = name.startswith("evaluate") or name == "gates"
    if evaluated:
        return exactly(seen * whole.evaluated / parts[-1].evaluated)
    more = whole.tasks / parts[-1].tasks
    if saturates:
        return _saturating([lap.items for lap in laps], [part.tasks for part in parts], whole.tasks)
    return exactly(seen * more) if seen % parts[-1].tasks == 0 else _counted(seen * more, seen)


def _saturating(counts: Sequence[int], rows: Sequence[int], whole: int) -> Expected:
    """An amount to which each task adds less than the one before, as what was found is not sought again:
    A n / (K + n) for n tasks (Clench 1979, of species in samples), through the first and the last trial."""
    last, more, grown = counts[-1], whole / rows[-1], rows[-1] / rows[0]
    linear = _counted(last * more, last)
    times = last / counts[0] if counts[0] else grown
    if times >= grown:
        return linear
    half = rows[-1] * max(0.0, times - 1) / (grown - times)
    mean = last * more * (half + rows[-1]) / (half + whole)
    return Expected(mean=mean, low=float(last), high=max(mean, linear.high))


def _for_items(amount: float, lap: Lap, items: Expected) -> Expected:
    """What a stage takes of something for so many items, of which it took an amount for the lap's."""
    share = amount / lap.items
    return Expected(mean=items.mean * share, low=items.low * share, high=items.high * share)


def _at_a_time(stage: str, config: Any) -> float:
    """How many of a stage's items are worked on together: each such lot has a start of its own."""
    name = stage.rpartition("/")[2]
    if name in (REST, LATENCY, "gates"):
        return math.inf
    if name.startswith(("evaluate", "attempts")):
        return config.execution.decode_batch
    return getattr(getattr(config, "teacher", None), "concurrency", config.execution.decode_batch)


def _stage(laps: Sequence[Lap], amount: Expected, at_a_time: float) -> StageForecast:
    items, seconds = [lap.items for lap in laps], [lap.seconds - lap.start for lap in laps]
    start = min(lap.start for lap in laps)
    whole = [
        start + _line(items, seconds, count, lots=max(1.0, count / at_a_time))
        for count in (amount.mean, amount.low, amount.high)
    ]
    return StageForecast(stage=laps[-1].stage, items=amount, seconds=_around(*whole))


def _settings(lap: Lap, config: Any) -> TrainConfig:
    """Of the training that a stage is."""
    warms_up = lap.stage.startswith("warm-up")
    return getattr(config.warm_up, "train", config.train) if warms_up else config.train


def _training(laps: Sequence[Lap], more: float, train: TrainConfig) -> StageForecast:
    """A step's time is a line over its tokens, and what comes before, between and after steps stays."""
    largest = laps[-1]
    tokens = [_in_a_step(lap) for lap in laps]
    full = _full(tokens[-1], more, train)
    if train.max_steps is None:
        steps = _counted(max(train.epochs, largest.tokens * more / full), largest.items)
    else:
        steps = exactly(train.max_steps)
    step = _line(tokens, [amount / max(lap.rate, 1) for lap, amount in zip(laps, tokens, strict=True)], full)
    beside = max(0.0, largest.seconds - largest.tokens / max(largest.rate, 1))
    seconds = [beside + count * step for count in (steps.mean, steps.low, steps.high)]
    return StageForecast(stage=largest.stage, items=steps, seconds=_around(*seconds))


def _in_a_step(lap: Lap) -> float:
    return lap.tokens / max(lap.items, 1)


def _full(seen: float, more: float, train: TrainConfig) -> float:
    """Tokens in a step of the whole run: as many more as there are rows, until its batches are full."""
    return max(seen, min(_FILLED * train.batch_tokens * train.accumulation, seen * more))


def _memory(laps: Sequence[Lap], items: float, more: float, config: Any) -> float:
    """The most that a stage of the whole run holds: it grows with what is computed at a time."""
    held = [float(lap.peak_bytes) for lap in laps]
    if laps[-1].tokens:
        train = _settings(laps[-1], config)
        batches = [_in_a_step(lap) / train.accumulation for lap in laps]
        return _line(batches, held, _full(_in_a_step(laps[-1]), more, train) / train.accumulation)
    at_a_time = _at_a_time(laps[-1].stage, config)
    if math.isinf(at_a_time):
        return held[-1]
    grown = [float(lap.peak_bytes - lap.base_bytes) for lap in laps]
    return laps[-1].base_bytes + _line([lap.items for lap in laps], grown, min(items, at_a_time))


def _around(mean: float, low: float, high: float) -> Expected:
    """Seconds, on a machine that may be faster or slower than it was."""
    return Expected(mean=mean, low=low / _SPREAD, high=high * _SPREAD)


def _line(xs: Sequence[float], ys: Sequence[float], at: float, lots: float = 1.0) -> float:
    """The line through the first and the last point, which neither falls nor begins below zero; with so many
    starts."""
    span = xs[-1] - xs[0]
    slope = max(0.0, (ys[-1] - ys[0]) / span) if span > 0 else 0.0
    start = ys[-1] - slope * xs[-1]
    if start < 0:
        start, slope = 0.0, ys[-1] / xs[-1]
    return lots * start + slope * at


def _counted(mean: float, seen: int) -> Expected:
    """An amount that was extrapolated from so many events (95%, as for a Poisson count)."""
    error = 1.96 / math.sqrt(max(seen, 1))
    return Expected(mean=mean, low=mean * max(0.0, 1 - error), high=mean * (1 + error))


def _sum(parts: Sequence[Expected]) -> Expected:
    return Expected(**{name: sum(getattr(part, name) for part in parts) for name in ("mean", "low", "high")})
