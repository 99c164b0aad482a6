"""An answer while the engine works on it, and what it tells whoever waits for it."""

import asyncio
import time
from dataclasses import dataclass, field

from codestill.models.rows import Finish, Row
from codestill.serve.stops import Stops

Listed = list[tuple[int, float]]
"""(token, log-probability) at a position: the token that stands there, then the likeliest ones."""


@dataclass(frozen=True)
class Answer:
    """A finished answer."""

    text: str
    """Up to where it was to stop."""
    finish: Finish
    tokens: tuple[int, ...]
    """All that were generated, the one that ended it included."""
    likeliest: tuple[Listed, ...]
    """Those listed at each position, where they were asked for."""
    word: str
    """The stop string that ended it; empty where it was none."""
    ended_by_token: bool
    """Whether its last token is one that ends answers."""
    queue_seconds: float
    """From the request to its place in the batch."""
    prompt_seconds: float
    """From there to its first token."""
    seconds: float
    """From its first token to its last."""


@dataclass(frozen=True)
class Part:
    """What has been added to an answer."""

    text: str
    tokens: tuple[int, ...]
    likeliest: tuple[Listed, ...]


class Overdue(Exception):
    """A request's time ended before it had a place in the batch."""


Event = Part | Answer | Exception


@dataclass(eq=False, kw_only=True)
class Job(Row):
    """A row that somebody waits for."""

    events: "asyncio.Queue[tuple[Job, Event]]"
    """Shared by the jobs of a request."""
    loop: asyncio.AbstractEventLoop
    stops: Stops = field(default_factory=Stops)
    streams: bool = False
    """Whether parts are told as they come."""
    opening: str = ""
    """Text that the answer begins with and that is not generated."""
    deadline: float = float("inf")
    """By the monotonic clock: when it ends with what there is."""
    line_seconds: float | None = None
    """Time from the first token after which it ends, once a line is complete."""
    cancelled: bool = False
    """Set by whoever waited and does no longer."""
    begun: float = field(default_factory=time.monotonic)
    joined: float = 0.0
    first: float = 0.0
    shown: int = 0
    """Characters that have been told."""
    told: int = 0
    """Tokens that have been told."""

    def part(self) -> Part | None:
        """What can be told of its text so far, and was not; None where that is nothing."""
        text = self.opening + self.text
        end = max(self.stops.safe(text), self.shown)
        if end == self.shown:
            return None
        part = Part(text[self.shown : end], *self.untold(self.read))
        self.shown = end
        return part

    def untold(self, end: int) -> tuple[tuple[int, ...], tuple[Listed, ...]]:
        """Tokens up to ``end`` that were not told, and what is listed of them."""
        start, self.told = self.told, max(end, self.told)
        return tuple(self.tokens[start:end]), tuple(self.likeliest[start:end])
