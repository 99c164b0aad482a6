"""Completions as they grow: the rows that are decoded, where each ends, and what its text is."""

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from codestill.files.serialize import seed_for
from codestill.models.codec import TextCodec
from codestill.types import Completion, Request

_log = logging.getLogger(__name__)

CHECK_EVERY = 8
"""Tokens between two checks of a completion's text by the stop rule."""
_NAMED = 5

Finish = Literal["stop", "length"]


@dataclass
class Row:
    """A completion as it grows."""

    request: Request
    prompt: tuple[int, ...]
    room: int
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    """The text of the first ``read`` tokens."""
    read: int = 0
    ended: bool = False


def rows_of(
    codec: TextCodec, requests: Iterable[Request], max_new_tokens: int, limit: int
) -> tuple[list[Row], list[Request]]:
    """Longest prompt first, so memory runs out at once if at all; samples of a prompt stay together. Requests
    whose prompts leave no position free come apart."""
    encoded: dict[tuple[str, str | None], tuple[int, ...]] = {}
    rows: list[Row] = []
    too_long: list[Request] = []
    for request in requests:
        asked = request.prompt, request.suffix
        if asked not in encoded:
            encoded[asked] = tuple(codec.request(request))
        prompt = encoded[asked]
        if len(prompt) < limit:
            rows.append(Row(request, prompt, min(max_new_tokens, limit - len(prompt))))
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


def uniforms(rows: list[Row], count: int, seed: int) -> Tensor:
    """Uniform numbers [B, count] in [0, 1), each row's from its own stream.

    numpy's PCG64, not a torch generator: the latter keeps only 32 bits of a seed, so that two of 100,000
    rows would probably share a stream, and its streams differ between CPU and CUDA.
    """
    streams = [np.random.default_rng(seed_for(seed, row.request.key)).random(count) for row in rows]
    return torch.from_numpy(np.stack(streams))


def ending(
    codec: TextCodec, row: Row, stop_ids: Collection[int], stopped: Callable[[str], bool] | None
) -> Finish | None:
    if row.tokens[-1] in stop_ids:
        return "stop"
    full = len(row.tokens) >= row.room
    look = full or len(row.tokens) % CHECK_EVERY == 0
    if stopped is not None and look and stopped(_text_so_far(codec, row)):
        return "stop"
    return "length" if full else None


def _text_so_far(codec: TextCodec, row: Row) -> str:
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
