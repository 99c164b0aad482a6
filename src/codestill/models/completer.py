"""What completes prompts: a student, a teacher, an endpoint. Nothing here imports torch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
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
        """After every step of a call: the tokens generated so far, the most that there can be, and the
        completions that are being generated."""
        ...

    def read(self, prompts: int, total: int) -> None:
        """Before the first and after every pass over prompts: those that have been read, of those that are
        being read."""
        ...

    def ended(self) -> None:
        """After the last step of a call."""
        ...


@dataclass(frozen=True)
class Decoding:
    """How requests are completed."""

    sampling: SamplingConfig
    stopped: Callable[[str], bool] | None = None
    """Whether a text is complete as far as it is generated; None where the model alone ends it."""
    seed: int = 0
    """Each request's samples depend on this and on its key alone, not on its batch."""
    choices: tuple[str, ...] = ()
    """Words to choose from in place of a text: a completer that can says how probable it is that its answer
    begins with each (``Completion.probabilities``). One that cannot answers with text."""
    stop: str = ""
    """Name of the stop rule that ``stopped`` applies, if it applies one."""
    ids: bool = False
    """Also give the ids of the tokens (``Completion.ids``), which local weights alone have."""
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


def begun(token: str, choices: Sequence[str]) -> int | None:
    """Which choice a token begins, whatever its case and the space before it; None where it begins none, or
    several."""
    word = token.strip().lower()
    found = [place for place, choice in enumerate(choices) if word and choice.lower().startswith(word)]
    return found[0] if len(found) == 1 else None


def shares(first: Iterable[tuple[str, float]], choices: Sequence[str]) -> tuple[float, ...]:
    """Probability of each choice, from those of an answer's first tokens; empty where none begins one."""
    found = [(begun(token, choices), probability) for token, probability in first]
    if all(choice is None for choice, _ in found):
        return ()
    return tuple(sum(p for choice, p in found if choice == number) for number in range(len(choices)))
