"""Completions as they grow: the rows that are decoded, where each ends, and what its text is."""

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from codestill.files.serialize import seed_for
from codestill.models.codec import TextCodec
from codestill.models.completer import Decoding
from codestill.types import Completion, Request

_log = logging.getLogger(__name__)

CHECK_EVERY = 8
"""Tokens between two checks of a completion's text by the stop rule."""
_NAMED = 5

Finish = Literal["stop", "length"]


@dataclass(eq=False)
class Row:
    """A completion as it grows; it is equal to itself alone."""

    request: Request
    prompt: tuple[int, ...]
    room: int
    """Tokens that it may have at most."""
    decoding: Decoding
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    """The text of the first ``read`` tokens."""
    read: int = 0
    ended: bool = False
    check_every: int = CHECK_EVERY
    """Tokens between two checks of its text by the stop rule."""
    top: int | None = None
    """Likeliest tokens to list at every position; None for no list."""
    likeliest: list[list[tuple[int, float]]] = field(default_factory=list)
    """For each token (token, log-probability): itself, then the likeliest ones."""

    @cached_property
    def uniforms(self) -> NDArray[np.float64]:
        """Numbers [room] in [0, 1) from the row's own stream, one for each token.

        numpy's PCG64, not a torch generator: the latter keeps only 32 bits of a seed, so that two of 100,000
        rows would probably share a stream, and its streams differ between CPU and CUDA.
        """
        return np.random.default_rng(seed_for(self.decoding.seed, self.request.key)).random(self.room)

    def begin_anew(self) -> None:
        """Forget what was generated."""
        self.tokens, self.text, self.read, self.likeliest = [], "", 0, []


def rows_of(
    codec: TextCodec, requests: Iterable[Request], decoding: Decoding, limit: int
) -> tuple[list[Row], list[Request]]:
    """Longest prompt first, so memory runs out at once if at all; samples of a prompt stay together. Requests
    whose prompts leave no position free come apart."""
    encoded: dict[tuple[str, str | None], tuple[int, ...]] = {}
    rows: list[Row] = []
    too_long: list[Request] = []
    most = decoding.sampling.max_new_tokens
    for request in requests:
        asked = request.prompt, request.suffix
        if asked not in encoded:
            encoded[asked] = tuple(codec.request(request))
        prompt = encoded[asked]
        if len(prompt) < limit:
            rows.append(Row(request, prompt, min(most, limit - len(prompt)), decoding))
        else:
            too_long.append(request)
    if too_long:
        names = list(dict.fromkeys(request.task_id for request in too_long))
        _log.warning(
            "%d prompts fill all %d positions of the model, and their answers are empty: %s",
            len(names),
            limit,
            ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else ""),
        )
    order = {prompt: index for index, prompt in enumerate(dict.fromkeys(encoded.values()))}
    return sorted(rows, key=lambda row: (-len(row.prompt), order[row.prompt])), too_long


def ending(codec: TextCodec, row: Row, stop_ids: Collection[int]) -> Finish | None:
    """How the row ends with its newest token; None where it goes on."""
    if row.tokens[-1] in stop_ids:
        return "stop"
    full = len(row.tokens) >= row.room
    look = full or len(row.tokens) % row.check_every == 0
    stopped = row.decoding.stopped
    if stopped is not None and look and stopped(text_so_far(codec, row)):
        return "stop"
    return "length" if full else None


def text_so_far(codec: TextCodec, row: Row) -> str:
    """The row's text; only the tokens since the last check are decoded."""
    new = codec.decode([*row.prompt, *row.tokens[: row.read]], row.tokens[row.read :])
    if new.endswith("\ufffd"):  # perhaps a character whose last bytes are still to come
        return row.text + new
    row.text, row.read = row.text + new, len(row.tokens)
    return row.text


def completion_of(
    codec: TextCodec, row: Row, stop_ids: Collection[int], finish: Finish, *, ids: bool = False
) -> Completion:
    """The row's completion; with ``ids`` also all of its ids."""
    return Completion(
        task_id=row.request.task_id,
        sample=row.request.sample,
        text=text_of(codec, row, stop_ids),
        tokens=len(row.tokens),
        finish=finish,
        ids=tuple(row.tokens) if ids else (),
    )


def text_of(codec: TextCodec, row: Row, stop_ids: Collection[int]) -> str:
    """The row's text without the stop id."""
    answer = codec.answer if row.request.suffix is None else codec.decode
    return answer(row.prompt, row.tokens[:-1] if row.tokens[-1] in stop_ids else row.tokens)


def unanswered(request: Request) -> Completion:
    return Completion(task_id=request.task_id, sample=request.sample, text="", finish="prompt_too_long")
