"""One text at a time, by any program that says what may follow: what a small machine does with a model."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch
from numpy.typing import NDArray

from codestill.models.codec import TextCodec
from codestill.models.completer import Decoding
from codestill.models.pick import pick
from codestill.models.rows import completion_of, ending, rows_of, unanswered
from codestill.types import Completion, Request


class Reader(Protocol):
    """A program that reads a text token by token."""

    def begin(self) -> None:
        """Forget what was read: a new text begins."""
        ...

    def read(self, ids: Sequence[int], keep: int = 1) -> NDArray[Any]:
        """Read tokens that follow those read before: logits [keep, V] after each of the last ``keep``."""
        ...


def complete_alone(
    reader: Reader,
    codec: TextCodec,
    requests: Iterable[Request],
    decoding: Decoding,
    *,
    ids: int,
    stop_ids: Collection[int],
    limit: int,
) -> Iterator[Completion]:
    """Yield one Completion per request, longest prompts first, as :func:`codestill.models.sample.complete`
    does: the same stop rules, and the same random stream of each request. ``ids``: how many the tokenizer
    has; ``limit``: positions."""
    waiting, too_long = rows_of(codec, requests, decoding, limit)
    yield from map(unanswered, too_long)
    done, most = 0, sum(row.room for row in waiting)
    tell: Callable[[int, int, int], None] = decoding.watcher.decoded if decoding.watcher else _no_one
    try:
        for number, row in enumerate(waiting):
            drawn_N = torch.from_numpy(row.uniforms) if decoding.sampling.temperature else None
            reader.begin()
            new: Sequence[int] = row.prompt
            how = None
            while how is None:
                logits_1V = torch.from_numpy(reader.read(new))[:, :ids]
                drawn_1 = None if drawn_N is None else drawn_N[len(row.tokens)][None]
                new = pick(logits_1V, decoding.sampling, drawn_1).tolist()
                row.tokens += new
                done += 1
                tell(done, most, len(waiting) - number)
                how = ending(codec, row, stop_ids)
            yield completion_of(codec, row, stop_ids, how)
    finally:
        if decoding.watcher is not None:
            decoding.watcher.ended()


def _no_one(*_: int) -> None: ...
