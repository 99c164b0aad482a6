"""What trials on few tasks say of the whole job."""

from pathlib import Path
from typing import Any

import pytest

from codestill.errors import BudgetError
from codestill.files.usage import Expected, Forecast, Used
from codestill.planning.forecast import _keeping, extrapolate, require_affordable, together
from codestill.planning.sample import Sizes
from codestill.planning.trial import REST, Clock, Lap, Trial
from codestill.recipes import load_recipe
from codestill.teachers import ApiTeacherConfig
from codestill.teachers.ledger import Budget
from codestill.types import Event

WHOLE = Sizes(tasks=400, evaluated=300)
PARTS = [Sizes(tasks=4, evaluated=3), Sizes(tasks=16, evaluated=12)]


def config(**train: Any) -> Any:
    """Of sft, with these training settings."""
    return load_recipe("sft").Config.model_validate({"train": train, "student": "pocket-0.1m"})


def used(calls: int, **changes: Any) -> Used:
    amounts = {
        "seconds": 1.0,
        "tokens": 100 * calls,
        "money": None,
        "memory_bytes": 10**9,
        "disk_bytes": 10**6,
    }
    return Used.model_validate(amounts | {"calls": calls} | changes)


def trial(part: Sizes, *laps: Lap, **changes: Any) -> Trial:
    return Trial(laps=laps, used=used(part.tasks, **changes))


def lap(stage: str, items: int, seconds: float, tokens: int = 0) -> Lap:
    return Lap(stage=stage, items=items, tokens=tokens, seconds=seconds)


def expected(laps: Any, settings: Any = None, **changes: Any) -> Forecast:
    """From two trials, in each of which the stages take what ``laps(part)`` says."""
    trials = [trial(part, *laps(part), **changes) for part in PARTS]
    return extrapolate(trials, PARTS, WHOLE, settings or config())


def test_a_stages_time_is_a_start_and_a_time_for_each_item() -> None:
    found = expected(lambda part: [lap("answers", part.tasks, 5 + 0.1 * part.tasks)])
    (stage,) = found.stages
    assert stage.items == Expected(mean=400, low=400, high=400)
    assert stage.seconds.mean == pytest.approx(5 + 0.1 * 400)
    assert stage.seconds.low < stage.seconds.mean < stage.seconds.high
    assert (found.calls.mean, found.tokens.mean, found.measured_on, found.tasks) == (
        400,
        40_000,
        (4, 16),
        400,
    )


@pytest.mark.parametrize("stage", ["gates", "evaluate-student", "round-2/evaluate-student-greedy"])
def test_an_evaluation_grows_with_its_own_tasks(stage: str) -> None:
    found = expected(lambda part: [lap(stage, 2 * part.evaluated, 0.5 * part.evaluated)])
    assert found.stages[0].items.mean == 600 and found.stages[0].seconds.mean == pytest.approx(150)


def test_what_only_some_tasks_need_has_a_range() -> None:
    found = expected(lambda part: [lap("refinements", {4: 1, 16: 9}[part.tasks], 1.0 * part.tasks)])
    (stage,) = found.stages
    assert stage.items.mean == 9 * 25 and stage.items.low == pytest.approx(225 * (1 - 1.96 / 3))
    few = expected(lambda part: [lap("refinements", 1, 1.0)])
    assert few.stages[0].items.low == 0  # of one event nothing is known


def test_a_fixed_number_of_steps_is_measured_by_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two and six steps of 900 tokens at 1,000 tokens a second, and 3 s before the first."""
    settings = config(max_steps=100, batch_tokens=1000, accumulation=1)

    def laps(part: Sizes) -> list[Lap]:
        steps = {4: 2, 16: 6}[part.tasks]
        return [lap("train", steps, 3 + 0.9 * steps, tokens=900 * steps)]

    (stage,) = expected(laps, settings).stages
    assert stage.items.mean == pytest.approx(100) and stage.seconds.mean == pytest.approx(3 + 90)


def test_epochs_train_on_as_many_tokens_as_there_are_tasks() -> None:
    laps = lambda part: [lap("train", 1 + part.tasks // 8, 2 + part.tasks, tokens=100 * part.tasks)]  # noqa: E731
    (stage,) = expected(laps, config(epochs=3)).stages
    assert stage.seconds.mean == pytest.approx(2 + 400)
    assert stage.items.mean == pytest.approx(3 * 25)


def test_the_end_is_the_same_whatever_the_size() -> None:
    found = expected(lambda part: [lap(REST, 1, 4.0)])
    assert found.stages[0].seconds.mean == pytest.approx(4)


def test_noise_never_makes_time_run_backwards() -> None:
    shorter = expected(lambda part: [lap("answers", part.tasks, {4: 9.0, 16: 8.0}[part.tasks])])
    assert shorter.stages[0].seconds.mean == pytest.approx(8)
    steep = expected(lambda part: [lap("answers", part.tasks, {4: 0.1, 16: 8.0}[part.tasks])])
    assert steep.stages[0].seconds.mean == pytest.approx(8 * 400 / 16)


def test_memory_grows_with_the_rows_that_are_decoded_together() -> None:
    part_bytes = {4: 1_040_000_000, 16: 1_160_000_000}
    trials = [trial(part, memory_bytes=part_bytes[part.tasks]) for part in PARTS]
    found = extrapolate(trials, PARTS, WHOLE, config())
    assert found.memory_bytes == pytest.approx(10**9 + 192 * 10**7)


def test_money_is_unknown_without_prices_and_a_budget_is_kept() -> None:
    laps = lambda part: [lap("answers", part.tasks, 1.0)]  # noqa: E731
    assert expected(laps).money is None
    costly = expected(laps, money=0.4)
    assert costly.money is not None and costly.money.mean == pytest.approx(10)
    require_affordable(costly, Budget(money=11, calls=400, tokens=40_000))
    for budget in (Budget(money=9.9), Budget(calls=399), Budget(tokens=39_999)):
        with pytest.raises(BudgetError, match="expected to take"):
            require_affordable(costly, budget)


@pytest.mark.parametrize("shared", [False, True])
def test_answers_of_an_endpoint_are_kept_where_the_run_looks(shared: bool) -> None:
    teacher = {"type": "api", "base_url": "http://localhost:1/v1", "model": "m"}
    settings = config().model_copy(update={"teacher": ApiTeacherConfig.model_validate(teacher)})
    kept = _keeping(settings, Path("trial"), shared).teacher_usage.answers
    assert (kept.parent if shared else kept) == Path("trial")  # a comparison's are apart by endpoint


def test_several_runs_add_up() -> None:
    one = expected(lambda part: [lap("answers", part.tasks, 5.0)])
    both = together({"a": (one, 1), "b": (one, 2)})
    assert both.seconds.mean == pytest.approx(3 * one.seconds.mean) and both.calls.mean == 1200
    assert [(stage.stage, stage.items.mean) for stage in both.stages] == [("a", 1), ("b", 2)]
    assert both.memory_bytes == one.memory_bytes


def test_a_clock_gives_every_second_to_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("codestill.planning.trial.time.monotonic", lambda: now)
    clock = Clock()
    for at, stage, total, tokens in ((3.0, "answers", 8, 0), (5.0, "answers", 8, 0), (6.0, "train", 2, 70)):
        now = at
        metrics: dict[str, float | int | str | None] = {"trained_tokens": tokens} if tokens else {}
        clock(Event(stage=stage, kind="progress", done=1, total=total, metrics=metrics))
    clock(Event(stage="answers", kind="progress", done=0, total=0, metrics={"teacher_calls": 3}))
    now = 10.0
    assert clock.laps() == (lap("answers", 8, 5.0), lap("train", 2, 1.0, tokens=70), lap(REST, 1, 4.0))
