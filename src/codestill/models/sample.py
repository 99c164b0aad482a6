"""Batched sampling in which a completion depends on its request and the seed, not on its batch."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from functools import partial

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from codestill import matmul
from codestill.models.batch import Batch, position_limit
from codestill.models.codec import TextCodec
from codestill.models.completer import Decoding
from codestill.models.decode import NO_LIMIT, PREFILL_TOKENS
from codestill.models.rows import completion_of, ending, rows_of, unanswered
from codestill.models.settings import Placement
from codestill.types import Completion, Request


@torch.inference_mode()
def complete(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Iterable[Request],
    decoding: Decoding,
    *,
    stop_ids: Collection[int],
    batch_size: int = Placement().decode_batch,
    prefill_tokens: int = PREFILL_TOKENS,
    codec: TextCodec | None = None,
) -> Iterator[Completion]:
    """Yield one Completion per request as each ends, longest prompts first; ``text`` is not yet cut.

    A completion ends on an id of ``stop_ids``, when ``decoding.stopped(text)`` holds (checked every
    ``CHECK_EVERY`` tokens and at the end), after ``max_new_tokens``, or at the model's position limit.
    A prompt that leaves no position free is not cut: its answer is empty, ``prompt_too_long``, and a warning
    names it. ``Completion.tokens`` counts every generated token, the stop id included. ``codec`` gives the
    ids of a prompt and the text of an answer (default: as text goes on).
    """
    codec = codec or TextCodec(tokenizer)
    limit = position_limit(model.config) or NO_LIMIT
    waiting, too_long = rows_of(codec, requests, decoding, limit)
    for request in too_long:
        yield unanswered(request)
    finish = partial(ending, codec, stop_ids=stop_ids)
    was_training = model.training
    model.eval()
    try:
        with matmul.inference(model):
            batch = Batch(
                model,
                tokenizer,
                longest=max((len(row.prompt) + row.room for row in waiting), default=0),
                size=batch_size,
                prefill_tokens=prefill_tokens,
                watcher=decoding.watcher,
                limit=sum(row.room for row in waiting),
            )
            batch.fit(waiting)
            with closing(batch) as running:
                while waiting or running.rows:
                    ended = None
                    try:
                        running.advance()
                        waiting = running.fill(waiting)
                        ended = running.append(finish)
                    except torch.OutOfMemoryError:
                        if running.tried == 1:
                            raise
                    if ended is None:  # outside the handler, whose traceback holds what is to be freed
                        waiting = [*running.halve(), *waiting]
                        continue
                    for row, how in ended:
                        yield completion_of(codec, row, stop_ids, how, ids=decoding.ids)
    finally:
        model.train(was_training)
