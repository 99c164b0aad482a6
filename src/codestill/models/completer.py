"""What completes prompts: a student, a teacher, an endpoint. Nothing here imports torch."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from codestill.models.settings import SamplingConfig
from codestill.types import ChatForm, Completion, Request


class Watcher(Protocol):
    """Who is told how decoding goes."""

    def message(self, text: str, /) -> None:
        """Something to know, once."""
        ...

    def decoded(self, tokens: int, limit: int, rows: int) -> None:
        """After every step: the tokens generated so far, the most that there can be, and the completions that
        are being generated."""
        ...


@dataclass(frozen=True)
class Decoding:
    """How requests are completed."""

    sampling: SamplingConfig
    stopped: Callable[[str], bool] | None = None
    """Whether a text is complete as far as it is generated; None where the model alone ends it."""
    seed: int = 0
    """Each request's samples depend on this and on its key alone, not on its batch."""
    watcher: Watcher | None = field(default=None, compare=False)


class Asked(Protocol):
    """What reads prompts."""

    @property
    def form(self) -> ChatForm | None:
        """The chat template in which a prompt is a message that it answers; None where it continues text."""
        ...


@runtime_checkable
class Completer(Asked, Protocol):
    """A model that answers with text."""

    @property
    def name(self) -> str:
        """Its name in tables and in the ledger."""
        ...

    def complete(self, requests: Iterable[Request], decoding: Decoding) -> Iterator[Completion]:
        """Yield one Completion per request as it arrives, in any order; ``text`` is not yet cut."""
        ...
