"""What trials on few tasks say of the whole job."""

import platform
from pathlib import Path
from typing import Any

import pytest

from codestill.errors import BudgetError
from codestill.files.serialize import write_jsonl
from codestill.files.usage import Expected, Forecast, Used, forget_peak, peak_bytes
from codestill.planning.forecast import _keeping, extrapolate, forecast, require_affordable, together
from codestill.planning.sample import Sizes, sample, sizes
from codestill.planning.trial import REST, Clock, Lap, TooFew, Trial, try_out, with_calls
from codestill.recipes import load_recipe
from codestill.teachers import ApiTeacherConfig
from codestill.teachers.ledger import Budget
from codestill.types import Call, Event

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


def lap(stage: str, items: int, seconds: float, **more: Any) -> Lap:
    return Lap(stage=stage, items=items, seconds=seconds, **more)


def asked(part: Sizes, seconds: float, **more: Any) -> Lap:
    """A call for each task, of 100 tokens."""
    calls = {"calls": part.tasks, "call_tokens": 100 * part.tasks}
    return lap("answers", part.tasks, seconds, **calls, **more)


def expected(laps: Any, settings: Any = None, **changes: Any) -> Forecast:
    """From two trials, in each of which the stages take what ``laps(part)`` says."""
    trials = [trial(part, *laps(part), **changes) for part in PARTS]
    return extrapolate(trials, PARTS, WHOLE, settings or config())


def test_a_stages_time_is_a_start_once_one_for_every_batch_and_a_time_for_each_item() -> None:
    """Models are loaded in 20 s; 400 rows are decoded, 192 at a time."""
    found = expected(lambda part: [asked(part, 25 + 0.1 * part.tasks, start=20.0)])
    (stage,) = found.stages
    assert stage.items == Expected(mean=400, low=400, high=400)
    assert stage.seconds.mean == pytest.approx(20 + 5 * 400 / 192 + 0.1 * 400)
    assert stage.seconds.low < stage.seconds.mean < stage.seconds.high
    calls = (found.calls.mean, found.tokens.mean, found.measured_on, found.tasks)
    assert calls == (400, 40_000, (4, 16), 400)


def test_an_endpoint_answers_as_many_at_a_time_as_are_asked() -> None:
    """Four or sixteen, a batch takes five seconds, and of eight at a time 400 make fifty."""
    teacher = {"type": "api", "base_url": "http://localhost:1/v1", "model": "m", "concurrency": 8}
    settings = config().model_copy(update={"teacher": ApiTeacherConfig.model_validate(teacher)})
    (stage,) = expected(lambda part: [lap("answers", part.tasks, 5.0)], settings).stages
    assert stage.seconds.mean == pytest.approx(50 * 5)
    (own,) = expected(lambda part: [lap("attempts", part.tasks, 5.0)], settings).stages
    assert own.seconds.mean == pytest.approx(5 * 400 / 192)


@pytest.mark.parametrize("stage", ["gates", "evaluate-student", "round-2/evaluate-student-greedy"])
def test_an_evaluation_grows_with_its_own_tasks(stage: str) -> None:
    found = expected(lambda part: [lap(stage, 2 * part.evaluated, 0.5 * part.evaluated)])
    assert found.stages[0].items.mean == 600 and found.stages[0].seconds.mean == pytest.approx(150)


def test_what_only_some_tasks_need_has_a_range() -> None:
    found = expected(lambda part: [lap("refinements", {4: 1, 16: 9}[part.tasks], 1.0 * part.tasks)])
    (stage,) = found.stages
    assert stage.items.mean == 9 * 25 and stage.items.low == pytest.approx(225 * (1 - 1.96 / 3))
    assert stage.items.high == pytest.approx(225 * (1 + 1.96 / 3))
    few = expected(lambda part: [lap("refinements", 1, 1.0)])
    assert few.stages[0].items.low == 0  # of one event nothing is known


def seen(counts: dict[int, int], saturates: tuple[str, ...]) -> Expected:
    """Of a stage that had so many items on four and on sixteen tasks, what 400 tasks are expected to have."""
    trials = [trial(part, lap("wave-1/solved", counts[part.tasks], 1.0)) for part in PARTS]
    (stage,) = extrapolate(trials, PARTS, WHOLE, config(), saturates).stages
    return stage.items


def test_what_was_found_before_is_not_sought_again() -> None:
    """Of 200 kinds of modules n tasks need 200 n / (16 + n): 40 and 100, and 192 in the end."""
    found = seen({4: 40, 16: 100}, ("wave-*/solved",))
    assert found.mean == pytest.approx(200 * 400 / 416) and found.low == 100 and found.high > 2500
    for counts in ({4: 25, 16: 101}, {4: 0, 16: 3}, {4: 20, 16: 100}):  # each as much as the last, or more
        whole = seen(counts, ("wave-*/solved",))
        assert whole.mean == pytest.approx(counts[16] * 25, rel=0.02) and whole.low < whole.mean < whole.high
    assert seen({4: 90, 16: 90}, ("wave-*/solved",)).mean == pytest.approx(90)  # nothing new
    for others in ((), ("solved",), ("wave-*/growth",)):
        assert seen({4: 40, 16: 101}, others).mean == 101 * 25


def test_a_recipe_says_which_stages_saturate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of its 100 tasks it takes 50."""

    def try_out(recipe: str, part: Any, directory: Path) -> Trial:
        count = sizes(part).tasks
        return trial(
            sizes(part), lap("wave-1/solved", {4: 40, 16: 100}[count], 1.0), lap("direct", count, 1.0)
        )

    monkeypatch.setitem(forecast.__globals__, "try_out", try_out)
    few = {"source": "pocket-easy", "split": "train", "count": 8}
    settings = {
        "tasks": {"source": "pocket", "split": "train", "count": 100},
        "count": 50,
        "library": {"seeds": few},
        "evaluate": {"tasks": {"source": "pocket", "count": 8}},
    }
    config = load_recipe("amr_evol").Config.model_validate(settings)
    solved, direct = forecast("amr_evol", config, tmp_path).stages
    assert solved.items.mean == pytest.approx(200 * 50 / 66) and direct.items.mean == 50


def test_calls_grow_with_what_they_are_for() -> None:
    """Two for each task, and one for each of 200 kinds of modules."""

    def laps(part: Sizes) -> list[Lap]:
        kinds = {4: 40, 16: 100}[part.tasks]
        return [
            lap("direct", part.tasks, 1.0, calls=2 * part.tasks, call_tokens=30 * part.tasks, money=0.5),
            lap("wave-1/solved", kinds, 1.0, calls=kinds, call_tokens=7 * kinds, money=0.25),
        ]

    trials = [trial(part, *laps(part), money=0.75) for part in PARTS]
    found = extrapolate(trials, PARTS, WHOLE, config(), ("wave-*/solved",))
    kinds = 200 * 400 / 416
    assert found.calls.mean == pytest.approx(800 + kinds) and found.calls.low == pytest.approx(900)
    assert found.tokens.mean == pytest.approx(30 * 400 + 7 * kinds)
    assert found.money is not None
    assert found.money.mean == pytest.approx(0.5 * 25 + 0.25 * kinds / 100)


def test_a_stages_calls_are_those_of_the_ledger(tmp_path: Path) -> None:
    def call(stage: str, cost: float | None) -> Call:
        return Call.model_validate(
            {
                "key": "k",
                "stage": stage,
                "model": "m",
                "prompt_tokens": 5,
                "completion_tokens": 2,
                "cost": cost,
            }
            | {"seconds": 0.1}
        )

    calls = [call("direct", 0.5), call("direct", 0.25), call("judge", None)]
    write_jsonl(tmp_path / "ledger.jsonl", calls)
    direct, rest, judge = with_calls((lap("direct", 2, 1.0), lap(REST, 1, 1.0)), tmp_path)
    assert (direct.calls, direct.call_tokens, direct.money) == (2, 14, 0.75)
    assert (rest.calls, rest.money) == (0, 0.0)
    assert (judge.stage, judge.items, judge.calls, judge.money) == ("judge", 1, 1, None)


def trained(steps: int, tokens: int, rate: float, beside: float = 3.0) -> Lap:
    """So many steps, each of so many tokens, and seconds beside them."""
    every = steps * tokens
    return Lap(stage="train", items=steps, tokens=every, rate=rate, seconds=beside + every / rate)


def test_a_fixed_number_of_steps_is_measured_by_a_few() -> None:
    """Steps of 300 and 900 tokens take 0.4 and 0.8 s, and a full one, of 950 tokens, 0.8 s and a bit."""
    settings = config(max_steps=100, batch_tokens=1000, accumulation=1)
    laps = {4: trained(2, 300, 750), 16: trained(6, 900, 1125)}
    (stage,) = expected(lambda part: [laps[part.tasks]], settings).stages
    assert stage.items == Expected(mean=100, low=100, high=100)
    assert stage.seconds.mean == pytest.approx(3 + 100 * (0.8 + 50 * 0.4 / 600))


def test_epochs_train_on_as_many_tokens_as_there_are_tasks() -> None:
    """Three passes, each of them a step in both trials; the whole has 25 times the larger one's rows."""
    settings = config(epochs=3, batch_tokens=1000, accumulation=2)
    laps = {4: trained(3, 95, 190), 16: trained(3, 380, 190)}
    (stage,) = expected(lambda part: [laps[part.tasks]], settings).stages
    assert stage.items.mean == pytest.approx(3 * 380 * 25 / 1900)
    assert stage.seconds.mean == pytest.approx(3 + 3 * 380 * 25 / 190)
    few = expected(lambda part: [laps[part.tasks]], config(epochs=3, batch_tokens=100_000)).stages
    assert few[0].items.mean == 3  # at least one in each pass


def test_the_end_is_the_same_whatever_the_size() -> None:
    found = expected(lambda part: [lap(REST, 1, 4.0)])
    assert found.stages[0].seconds.mean == pytest.approx(4)


def test_noise_never_makes_time_run_backwards() -> None:
    shorter = expected(lambda part: [lap("gates", part.evaluated, {3: 9.0, 12: 8.0}[part.evaluated])])
    assert shorter.stages[0].seconds.mean == pytest.approx(8)
    steep = expected(lambda part: [lap("answers", part.tasks, {4: 0.1, 16: 8.0}[part.tasks])])
    assert steep.stages[0].seconds.mean == pytest.approx(8 * 400 / 16)


def test_memory_grows_with_the_rows_that_are_decoded_together() -> None:
    def laps(part: Sizes) -> list[Lap]:
        """The first trial's stage begins with less."""
        base = {4: 6, 16: 10}[part.tasks] * 10**8
        return [lap("answers", part.tasks, 1.0, base_bytes=base, peak_bytes=base + part.tasks * 10**7)]

    assert expected(laps).memory_bytes == pytest.approx(10**9 + 192 * 10**7)


def test_memory_grows_with_a_batch_until_it_is_full() -> None:
    settings = config(max_steps=100, batch_tokens=1000, accumulation=2)

    def laps(part: Sizes) -> list[Lap]:
        step = trained(2, 100 * part.tasks, 1000)
        gates = lap("gates", part.tasks, 1.0, peak_bytes=10**9 * (part.tasks == 16))
        return [step.model_copy(update={"peak_bytes": 10**9 + 10**6 * part.tasks * 50}), gates]

    assert expected(laps, settings).memory_bytes == pytest.approx(10**9 + 950 * 10**6)


def test_money_is_unknown_without_prices_and_a_budget_is_kept() -> None:
    assert expected(lambda part: [asked(part, 1.0)]).money is None
    costly = expected(lambda part: [asked(part, 1.0, money=0.4)], money=0.4)
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
    one = expected(lambda part: [asked(part, 5.0)])
    both = together({"a": [one], "b": [one, one]})
    assert both.seconds.mean == pytest.approx(3 * one.seconds.mean) and both.calls.mean == 1200
    assert [(stage.stage, stage.items.mean) for stage in both.stages] == [("a", 1), ("b", 2)]
    assert both.memory_bytes == one.memory_bytes


def test_a_clock_gives_every_second_to_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("codestill.planning.trial.peak_bytes", lambda: 7)
    monkeypatch.setattr("codestill.planning.trial.time.monotonic", lambda: now)
    clock = Clock()
    for at, stage, total, tokens in ((3.0, "answers", 8, 0), (5.0, "answers", 8, 0), (6.0, "train", 2, 70)):
        now = at
        metrics: dict[str, float | int | str | None] = (
            {"trained_tokens": tokens, "tokens_per_second": 100} if tokens else {}
        )
        clock(Event(stage=stage, kind="progress", done=0, total=total, metrics=metrics))
    clock(Event(stage="answers", kind="progress", done=0, total=0, metrics={"teacher_calls": 3}))
    now = 10.0
    answers, train, rest = clock.laps()
    assert answers == lap("answers", 8, 5.0, start=3.0, peak_bytes=7, base_bytes=7)
    assert train == lap("train", 2, 1.0, start=1.0, tokens=70, rate=100, peak_bytes=7, base_bytes=7)
    assert rest == lap(REST, 1, 4.0, peak_bytes=7)


@pytest.mark.skipif(platform.system() != "Linux", reason="elsewhere the peak cannot be forgotten")
def test_the_peak_of_a_stage_is_its_own() -> None:
    held = bytearray(b"1") * 200_000_000
    before = peak_bytes()
    del held
    forget_peak()
    assert peak_bytes() < before - 100_000_000


def tried(monkeypatch: pytest.MonkeyPatch, needs: int) -> list[int]:
    """Trials that come to nothing on fewer tasks than that; the tasks that each of them was on."""
    counts: list[int] = []

    def try_out(recipe: str, part: Any, directory: Path) -> Trial:
        counts.append(sizes(part).tasks)
        if counts[-1] < needs:
            raise TooFew("the teacher solved none", next_step="")
        return trial(sizes(part), lap("answers", counts[-1], 1.0))

    monkeypatch.setitem(forecast.__globals__, "try_out", try_out)
    return counts


POCKET: dict[str, Any] = {
    "student": "pocket-0.1m",
    "teacher": "pocket",
    "examples": {"tasks": {"source": "pocket", "split": "train", "count": 1000}, "answers": "teacher"},
    "evaluate": {"tasks": {"source": "pocket", "split": "test", "count": 30}},
}


@pytest.mark.parametrize(
    ("needs", "expected", "measured"),
    [(0, [4, 16], (4, 16)), (5, [4, 16, 64], (16, 64)), (40, [4, 16, 64], (64,))],
)
def test_a_trial_that_comes_to_nothing_is_made_on_more_tasks(
    needs: int,
    expected: list[int],
    measured: tuple[int, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = tried(monkeypatch, needs)
    found = forecast("sft", load_recipe("sft").Config.model_validate(POCKET), tmp_path)
    assert found.measured_on == measured and counts == expected


@pytest.mark.parametrize(("tasks", "expected"), [(28, [3, 12, 14]), (9, [2, 4]), (2, [2])])
def test_a_trial_is_on_half_of_the_tasks_at_most(
    tasks: int, expected: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = tried(monkeypatch, 1000)
    examples = POCKET["examples"]
    few = POCKET | {"examples": examples | {"tasks": examples["tasks"] | {"count": tasks}}}
    with pytest.raises(TooFew) as raised:
        forecast("sft", load_recipe("sft").Config.model_validate(few), tmp_path)
    assert counts == expected and f"{expected[-1]} of {tasks} tasks" in raised.value.next_step


def test_a_teacher_that_solves_too_little_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = tried(monkeypatch, 1000)
    with pytest.raises(TooFew, match="solved none"):
        forecast("sft", load_recipe("sft").Config.model_validate(POCKET), tmp_path)
    assert counts == [4, 16, 64]


def test_what_a_trial_says_names_no_directory_that_is_gone(tmp_path: Path) -> None:
    settings = POCKET | {"teacher": "pocket-base-0.1m", "train": {"max_steps": 1}}
    part = sample(load_recipe("sft").Config.model_validate(settings), 0.002, 1)
    with pytest.raises(TooFew) as raised:
        try_out("sft", part, tmp_path / "0")
    assert "solved none of the 2 training tasks" in raised.value.message
    assert (
        "--examples.unsolved reference" in raised.value.message and str(tmp_path) not in raised.value.message
    )
