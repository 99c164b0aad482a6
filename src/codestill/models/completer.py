"""What completes prompts: a student, a teacher, an endpoint. Nothing here imports torch."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from codestill.models.settings import SamplingConfig
from codestill.types import ChatForm, Completion, Request


@dataclass(frozen=True)
class Decoding:
    """How requests are completed."""

    sampling: SamplingConfig
    stopped: Callable[[str], bool] | None = None
    """Whether a text is complete as far as it is generated; None where the model alone ends it."""
    seed: int = 0
    """Each request's samples depend on this and on its key alone, not on its batch."""


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
