"""How a stage goes: what is counted, how fast it is, and how long it still takes."""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from codestill.types import Event

LATENCY = "measuring latency"
"""Named as a stage: a model's latency and memory are measured."""
TELL_SECONDS = 0.5
"""Seconds between two counts that are told."""
FEW = 0.05
"""Share of the completions of which as many must have ended before their mean length is worth estimating: by
one that is done and 160 that go on, hours would be left."""
_WINDOW = 60.0
"""Seconds over which a rate is measured."""


@dataclass
class Watch:
    """Tells how the work of a stage goes; nothing is stored."""

    tell: Callable[..., None]
    """Called with counts by name."""
    message: Callable[[str], None]
    """Called with something to know, once."""
    last: float = -math.inf
    """When counts were told last, by the monotonic clock."""
    before: int = 0
    """Tokens of the stage's earlier calls, which have ended."""
    now: int = 0
    """Tokens of the call that is going on."""
    rows: int = 0
    """Completions that are being generated."""
    reading: bool = False
    """Whether what was told last is that prompts are read."""

    def decoded(self, tokens: int, limit: int, rows: int) -> None:
        """A call's tokens so far, the most that there can be, and completions that are being generated; told
        now and then, and where none is: these may be the last."""
        self.now, self.rows = tokens, rows
        if self._is_time(self.reading or not rows):
            self.reading = False
            self.tell(tokens=self.before + tokens, token_limit=self.before + limit, in_progress=rows)

    def read(self, prompts: int, total: int) -> None:
        """Prompts read so far, of those that are being read; told at their beginning, and now and then."""
        if self._is_time(not prompts):
            self.reading = True
            self.tell(prompts_read=prompts, prompts=total, in_progress=self.rows)

    def ended(self) -> None:
        """The call has ended, and another may follow; always told."""
        self.before, self.now, self.rows = self.before + self.now, 0, 0
        self.reading = False
        self.last = time.monotonic()
        self.tell(tokens=self.before, token_limit=self.before, in_progress=0)

    def _is_time(self, must: bool) -> bool:
        now = time.monotonic()
        if not must and now < self.last + TELL_SECONDS:
            return False
        self.last = now
        return True


class Pace:
    """A stage's counts, rate and time left, from its progress events.

    Of generated text the tokens count. The mean length of a completion is estimated by all tokens so far,
    those of unfinished completions included, over the number of finished ones: the maximum-likelihood
    estimate where long lengths are still unknown and an end is equally likely at every token. Until a
    completion has ended there is an upper bound alone, from ``max_new_tokens``: of the completions that were
    asked for so far, for a stage may ask for others once it has these.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.started = now()
        self.done = self.total = self.first = 0
        self.tokens = self.limit = self.rows = self.given_rate = 0
        self.spent = self.reading = self.so_far = ""
        self.news = False
        """Whether something was heard since this was last set to False."""
        self._seen: deque[tuple[float, int, int]] = deque()

    def hear(self, event: Event) -> None:
        """Take in a progress event; one without a total tells more of what is going on."""
        metrics = event.metrics
        if event.total:
            if not self.total:
                self.first = event.done or 0
            self.done, self.total = event.done or 0, event.total
        if "tokens" in metrics:
            tokens = int(metrics["tokens"] or 0)
            if tokens < self.tokens:  # some begin anew: what was generated before says nothing of the rate
                self._seen.clear()
            self.tokens = tokens
        self.limit = int(metrics.get("token_limit") or self.limit)
        if "in_progress" in metrics:
            self.rows, self.reading = int(metrics["in_progress"] or 0), ""
        if "prompts_read" in metrics:
            self.reading = f"reading prompts ({metrics['prompts_read']:,} of {metrics['prompts']:,})"
        self.given_rate = int(metrics.get("tokens_per_second") or 0)
        if "passed" in metrics and self.done:
            self.so_far = f"{float(metrics['passed'] or 0) / self.done:.1%} pass so far"
        if "teacher_calls" in metrics:
            money = float(metrics["teacher_money"] or 0)
            self.spent = f"teacher: {metrics['teacher_calls']:,} calls, {metrics['teacher_tokens']:,} tokens"
            self.spent += f", {money:.4f}" if money else ""
        self.news = True
        self._seen.append((self.now(), self.done, self.tokens))
        while len(self._seen) > 2 and self._seen[1][0] < self._seen[-1][0] - _WINDOW:
            self._seen.popleft()

    def learn(self, event: Event) -> None:
        """Take in what a training step has logged."""
        if (loss := event.metrics.get("loss")) is not None:
            self.so_far, self.news = f"loss {float(loss):.3f}", True

    def _rate(self, of: int) -> float:
        """Items (1) or tokens (2) per second of late; 0 while unknown."""
        (then, *_), amounts = self._seen[0], [seen[of] for seen in (self._seen[0], self._seen[-1])]
        seconds = self.now() - then
        return (amounts[1] - amounts[0]) / seconds if seconds > 0 else 0.0

    def seconds_left(self) -> tuple[float, bool] | None:
        """An estimate of the stage's, and False; or an upper bound of the completions asked for so far, and
        True; None while nothing is known."""
        ended, owed = self.done - self.first, self.total - self.done
        if not self.tokens:
            rate = self._rate(1)
            return (owed / rate, False) if rate > 0 else None
        rate = self._rate(2)
        if rate <= 0:
            return None
        bound = (self.limit - self.tokens) / rate if self.limit > self.tokens else None
        if ended >= FEW * (self.total - self.first) or (ended and bound is None):
            return self.tokens * owed / ended / rate, False
        return None if bound is None else (bound, True)

    def note(self) -> str:
        """``about 4 min left, 127 in progress, 12,345 tokens, 310 tokens/s, 41.0% pass so far``, as far as it
        is known."""
        rate = self.given_rate or round(self._rate(2))
        parts = [
            self._time_left(),
            f"{self.rows:,} in progress" if self.rows else "",
            self.reading,
            f"{self.tokens:,} tokens" if self.tokens else "",
            f"{rate:,} tokens/s" if rate else "",
            self.so_far,
            self.spent,
        ]
        return ", ".join(part for part in parts if part)

    def _time_left(self) -> str:
        if (left := self.seconds_left()) is None or self.done >= self.total:
            return ""
        seconds, bound = left
        return f"at most {duration(seconds)} for these" if bound else f"about {duration(seconds)} left"

    def summary(self) -> str:
        """``, 18,204 tokens in 4 min``: what a line of a finished stage ends with; empty without tokens."""
        return f", {self.tokens:,} tokens in {duration(self.now() - self.started)}" if self.tokens else ""


def duration(seconds: float) -> str:
    """``40 s``, ``4 min``, ``3 h 20 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
