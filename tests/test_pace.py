"""Rates and the time left, and the lines that a log gets of a stage that goes on."""

import io
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from rich.console import Console
from tests.support.worlds import open_run

from codestill.config import RunConfig
from codestill.pace import TELL_SECONDS, Pace, duration
from codestill.progress import ProgressBars
from codestill.run import Run
from codestill.types import Attempt, Completion, Event, ExecutionResult, Request


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def rows(done: int, total: int) -> Event:
    return Event(stage="s", kind="progress", done=done, total=total)


def decoded(tokens: int, limit: int, in_progress: int) -> Event:
    counts: dict[str, float | int | str | None] = {
        "tokens": tokens,
        "token_limit": limit,
        "in_progress": in_progress,
    }
    return Event(stage="s", kind="progress", done=0, total=0, metrics=counts)


def reading(prompts: int, total: int) -> Event:
    counts: dict[str, float | int | str | None] = {"prompts_read": prompts, "prompts": total}
    return Event(stage="s", kind="progress", done=0, total=0, metrics=counts)


def test_items_alone_give_a_time_by_their_rate() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.hear(rows(10, 50))  # ten were kept from an earlier command
    assert pace.note() == ""
    clock.now = 20.0
    pace.hear(rows(20, 50))
    assert pace.seconds_left() == (60.0, False)
    assert pace.note() == "about 60 s left"
    pace.hear(rows(50, 50))
    assert pace.note() == ""


def test_tokens_give_a_bound_and_then_an_estimate() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.hear(rows(0, 100))
    pace.hear(decoded(0, 100 * 200, 100))
    clock.now = 10.0
    pace.hear(decoded(1000, 100 * 200, 100))
    assert pace.seconds_left() == (190.0, True)
    assert pace.note() == "at most 3 min for these, 100 in progress, 1,000 tokens, 100 tokens/s"
    # One end in a hundred is no mean length: it would say 99,000 tokens to come.
    pace.hear(rows(1, 100))
    pace.hear(decoded(1000, 100 * 200, 99))
    assert pace.seconds_left() == (190.0, True)
    clock.now = 30.0
    pace.hear(rows(40, 100))
    pace.hear(decoded(3000, 100 * 200, 60))
    # 3000 tokens over 40 ends are 75 tokens each: 60 times that is owed, at 100 a second.
    assert pace.seconds_left() == (45.0, False)
    # A limit says nothing of what the stage may still ask for.
    pace.hear(decoded(3000, 3100, 60))
    assert pace.seconds_left() == (45.0, False)
    assert pace.summary() == ", 3,000 tokens in 30 s"


def test_a_rate_survives_that_completions_begin_anew() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.hear(rows(0, 10))
    for second, tokens in ((10, 1000), (20, 2000), (30, 0), (40, 500)):
        clock.now = float(second)
        pace.hear(decoded(tokens, 10_000, 10))
    assert pace.seconds_left() == (190.0, True)
    assert "500 tokens, 50 tokens/s" in pace.note()


def test_prompts_that_are_read_are_told_until_tokens_come() -> None:
    pace = Pace(Clock())
    pace.hear(rows(0, 164))
    pace.hear(reading(40, 164))
    assert pace.note() == "reading prompts (40 of 164)"
    pace.hear(decoded(164, 10_000, 164))
    assert pace.note() == "164 in progress, 164 tokens"


def test_the_rate_is_that_of_the_last_minute() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.hear(rows(0, 10))
    for second in range(0, 300, 5):
        clock.now = float(second)
        pace.hear(decoded(second if second < 150 else 150 + 9 * (second - 150), 10**6, 10))
    assert "9 tokens/s" in pace.note()


def test_durations() -> None:
    assert [duration(s) for s in (4.4, 99, 240, 12_000)] == ["4 s", "99 s", "4 min", "3 h 20 min"]


class Telling(io.StringIO):
    """Output that says when it has a number of lines."""

    def __init__(self, lines: int) -> None:
        super().__init__()
        self.lines, self.there = lines, threading.Event()

    def write(self, text: str) -> int:
        size = super().write(text)
        if self.getvalue().count("\n") >= self.lines:
            self.there.set()
        return size


def test_a_log_gets_lines_of_a_stage_that_goes_on() -> None:
    out = Telling(5)
    bars = ProgressBars(Console(file=out, width=40), every=0.02)
    bars(Event(stage="left", kind="progress", done=1, total=9))
    bars(rows(3, 164))
    bars(decoded(12_345, 10**6, 127))
    assert out.there.wait(30), "no line although time went by"
    bars.close()
    lines = out.getvalue().splitlines()
    told = [line for line in lines if line.startswith("s: 3 of 164 done, ")]
    assert any("127 in progress, 12,345 tokens" in line for line in told)
    # A stage that is not heard of any more is told of once; the latest goes on, silent as it is.
    assert sum(line.startswith("left: ") for line in lines) == 1
    before = out.getvalue()
    time.sleep(0.1)
    assert out.getvalue() == before  # it is closed


def test_a_terminal_gets_no_such_lines() -> None:
    out = io.StringIO()
    bars = ProgressBars(Console(file=out, force_terminal=True, width=100), every=0.01)
    bars(rows(3, 164))
    bars(decoded(12_345, 10**6, 127))
    bars.bars.refresh()
    time.sleep(0.1)
    bars(reading(40, 164))
    bars.bars.refresh()
    bars.close()
    shown = " ".join(out.getvalue().split())  # a narrow terminal wraps it, and nothing is lost
    assert "127 in progress, 12,345 tokens" in shown
    assert "127 in progress, reading prompts (40 of 164), 12,345 tokens" in shown
    assert "3 of 164" not in out.getvalue()


def test_a_watch_tells_now_and_then_and_sums_what_a_stage_asks(tmp_path: Path) -> None:
    heard: list[Event] = []
    with Run.open(tmp_path / "run", RunConfig(), [heard.append]) as run:
        watch = run.part("round-1").watch("answers")
        for tokens in range(1, 2000):
            watch.decoded(tokens, 5000, 7)
        watch.decoded(2000, 5000, 0)  # all that were together have ended; others wait
        watch.read(0, 3)
        watch.read(2, 3)
        watch.read(3, 3)
        watch.decoded(2001, 5000, 3)
        watch.ended()
        watch.message("3 GB")
        watch.last = -TELL_SECONDS
        watch.decoded(50, 100, 1)
    assert heard[-2].message == "3 GB"
    assert {event.stage for event in heard} == {"round-1/answers"}
    counts = [event.metrics for event in heard if event.kind == "progress"]
    assert len(counts) < 100
    assert counts[-5] == {"tokens": 2000, "token_limit": 5000, "in_progress": 0}
    assert counts[-4] == {"prompts_read": 0, "prompts": 3, "in_progress": 0}  # at once: a pass may be long
    assert counts[-3] == {"tokens": 2001, "token_limit": 5000, "in_progress": 3}
    assert counts[-2] == {"tokens": 2001, "token_limit": 2001, "in_progress": 0}
    assert counts[-1] == {"tokens": 2051, "token_limit": 2101, "in_progress": 1}
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_loss_and_what_passes_so_far_are_told() -> None:
    out = io.StringIO()
    bars = ProgressBars(Console(file=out, force_terminal=True, width=120), every=60.0)
    bars(Event(stage="train", kind="progress", done=3, total=9))
    bars(Event(stage="train", step=3, metrics={"loss": 1.23456, "cross_entropy": 2.0}))
    bars(Event(stage="validation", step=3, metrics={"loss": 9.0}))  # of no stage that goes on
    bars(Event(stage="train", kind="progress", done=4, total=9))
    bars(Event(stage="s", kind="progress", done=8, total=40, metrics={"passed": 2}))
    bars.bars.refresh()
    bars.close()
    assert "loss 1.235" in out.getvalue() and "25.0% pass so far" in out.getvalue()
    assert "9.0" not in out.getvalue()


def test_a_stage_of_attempts_tells_how_many_passed(tmp_path: Path) -> None:
    """Those that an earlier process left count, too."""

    class Stops(Exception):
        pass

    def attempts(items: Sequence[Request], stop: bool) -> Iterator[Attempt]:
        for number, item in enumerate(items):
            if stop and number == 3:
                raise Stops
            verdict = "pass" if item.key in ("a#0", "b#0", "e#0") else "wrong"
            result = ExecutionResult.model_validate({"verdict": verdict})
            yield Attempt(completion=Completion(task_id=item.task_id, sample=0, text=""), result=result)

    asked = [Request(task_id=name, prompt="") for name in "abcdef"]
    heard: list[Event] = []
    with pytest.raises(Stops), open_run(tmp_path) as run:
        run.stage("s", Attempt, asked, lambda items: attempts(items, stop=True))
    with open_run(tmp_path, heard.append) as run:
        run.stage("s", Attempt, asked, lambda items: attempts(items, stop=False))
    counts = [(event.done, event.metrics["passed"]) for event in heard if "passed" in event.metrics]
    assert counts == [(4, 2), (5, 3), (6, 3)]
