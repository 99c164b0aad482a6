"""From trial runs on few tasks to what the whole job will take.

A stage's time is a line over the number of its items: loading, and the steps of a batch whatever its size,
then a time for each item. Two trial runs of different size give the line.
"""

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from codestill.compare import sharing
from codestill.errors import BudgetError
from codestill.files.usage import Expected, Forecast, StageForecast, exactly
from codestill.planning.sample import Sizes, sample, sizes
from codestill.planning.trial import EVALUATION, REST, Lap, Trial, try_out
from codestill.teachers.ledger import Budget
from codestill.teachers.session import TeacherUsage

TASKS = 16
"""Training tasks of the larger trial run; the smaller one has a quarter."""
_STEPS = (2, 6)
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
    runs of a comparison do, which keep those of two endpoints apart. Raises Failure for a config that cannot
    run.
    """
    whole = sizes(config)
    counts = sorted({min(whole.tasks, max(2, tasks // 4)), min(whole.tasks, tasks)})
    trials: list[Trial] = []
    parts: list[Sizes] = []
    with tempfile.TemporaryDirectory(prefix="codestill-plan-") as place:
        for number, count in enumerate(counts):
            tell(f"trial run on {count} of {whole.tasks:,} tasks")
            part = sample(config, count / whole.tasks, _STEPS[-len(counts) :][number])
            part = _keeping(part, answers / str(number), shared)
            trials.append(try_out(recipe or EVALUATION, part, Path(place) / str(number)))
            parts.append(sizes(part))
    return extrapolate(trials, parts, whole, config)


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


def together(forecasts: Mapping[str, tuple[Forecast, int]]) -> Forecast:
    """What several runs take one after the other: name -> the forecast of one, and how often it is run."""
    every = [one for one, times in forecasts.values() for _ in range(times)]
    costs = [one.money for one in every]
    return Forecast(
        measured_on=tuple(count for one, _ in forecasts.values() for count in one.measured_on),
        tasks=sum(one.tasks for one in every),
        stages=tuple(
            StageForecast(stage=name, items=exactly(times), seconds=_sum([one.seconds] * times))
            for name, (one, times) in forecasts.items()
        ),
        seconds=_sum([one.seconds for one in every]),
        calls=_sum([one.calls for one in every]),
        tokens=_sum([one.tokens for one in every]),
        money=None if None in costs else _sum([cost for cost in costs if cost is not None]),
        memory_bytes=max(one.memory_bytes for one in every),
        disk_bytes=sum(one.disk_bytes for one in every),
    )


def extrapolate(trials: Sequence[Trial], parts: Sequence[Sizes], whole: Sizes, config: Any) -> Forecast:
    """What the whole takes, from trials of parts of these sizes, the largest last."""
    largest, part = trials[-1], parts[-1]
    more = whole.tasks / part.tasks
    stages = [
        _stage([_lap(trial, lap.stage) for trial in trials], _amount(lap, part, whole, config))
        for lap in largest.laps
    ]
    calls, tokens = ([getattr(trial.used, name) for trial in trials] for name in ("calls", "tokens"))
    money = None if largest.used.money is None else largest.used.money * more
    spread = _counted(calls[-1] * more, calls[-1])
    rows = [part.tasks for part in parts]
    return Forecast(
        measured_on=tuple(rows),
        tasks=whole.tasks,
        stages=tuple(stages),
        seconds=_sum([stage.seconds for stage in stages]),
        calls=spread,
        tokens=_like(spread, tokens[-1] * more),
        money=None if money is None else _like(spread, money),
        memory_bytes=_line(
            rows, [trial.used.memory_bytes for trial in trials], _together(whole.tasks, config)
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
    return found[0] if found else Lap(stage=stage, items=0, tokens=0, seconds=0.0)


def _amount(lap: Lap, part: Sizes, whole: Sizes, config: Any) -> Expected:
    """How many items, or tokens of training, a stage of the whole run has."""
    name = lap.stage.rpartition("/")[2]
    if name == REST:
        return exactly(1)
    if lap.tokens:
        return _trained(lap, part, whole, config)
    evaluated = name.startswith("evaluate") or name == "gates"
    more = whole.evaluated / part.evaluated if evaluated else whole.tasks / part.tasks
    if evaluated or lap.items % part.tasks == 0:  # as many for every task
        return exactly(lap.items * more)
    return _counted(lap.items * more, lap.items)


def _trained(lap: Lap, part: Sizes, whole: Sizes, config: Any) -> Expected:
    """Tokens that the whole run trains on."""
    train = config.train
    if lap.stage.startswith("warm-up"):
        train = getattr(config.warm_up, "train", train)
    if train.max_steps is None:
        return _counted(lap.tokens * whole.tasks / part.tasks, lap.items)
    full = 0.9 * train.batch_tokens * train.accumulation  # padding takes the rest
    a_step = min(full, lap.tokens / lap.items * whole.tasks / part.tasks)
    exact = train.max_steps * a_step
    return Expected(mean=exact, low=0.9 * exact, high=1.1 * exact)


def _stage(laps: Sequence[Lap], amount: Expected) -> StageForecast:
    largest = laps[-1]
    measured = [lap.tokens or lap.items for lap in laps]
    seconds = [
        _line(measured, [lap.seconds for lap in laps], x) for x in (amount.mean, amount.low, amount.high)
    ]
    items = amount
    if largest.tokens:  # in steps
        per_step = largest.tokens / largest.items
        items = Expected(**{name: value / per_step for name, value in amount.model_dump().items()})
    return StageForecast(
        stage=largest.stage,
        items=items,
        seconds=Expected(mean=seconds[0], low=seconds[1] / _SPREAD, high=seconds[2] * _SPREAD),
    )


def _line(xs: Sequence[float], ys: Sequence[float], at: float) -> float:
    """The line through the first and the last point, which neither falls nor begins below zero."""
    span = xs[-1] - xs[0]
    slope = max(0.0, (ys[-1] - ys[0]) / span) if span > 0 else 0.0
    start = ys[-1] - slope * xs[-1]
    if start < 0:
        start, slope = 0.0, ys[-1] / xs[-1]
    return start + slope * at


def _counted(mean: float, seen: int) -> Expected:
    """An amount that was extrapolated from so many events (95%, as for a Poisson count)."""
    error = 1.96 / math.sqrt(max(seen, 1))
    return Expected(mean=mean, low=mean * max(0.0, 1 - error), high=mean * (1 + error))


def _like(spread: Expected, mean: float) -> Expected:
    """An amount that varies as another one does."""
    share = mean / spread.mean if spread.mean else 0.0
    return Expected(mean=mean, low=spread.low * share, high=spread.high * share)


def _sum(parts: Sequence[Expected]) -> Expected:
    return Expected(**{name: sum(getattr(part, name) for part in parts) for name in ("mean", "low", "high")})


def _together(tasks: int, config: Any) -> int:
    """Rows that are in memory at a time: no more than are decoded together."""
    return min(tasks, config.execution.decode_batch)
