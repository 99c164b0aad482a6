"""Batched sampling in which a completion depends on its request and the seed, not on its batch.

One prefill per distinct prompt, whose keys and values its samples share (``codestill.models.shared``); rows
that end leave, and waiting requests take their places. Every row has its own random stream, from which its
uniform numbers come in advance, and samples tokens by inverse CDF: a batch can change nothing but float
rounding.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from codestill import matmul
from codestill.models.codec import TextCodec
from codestill.models.completer import Decoding
from codestill.models.decode import NO_LIMIT, PREFILL_TOKENS, Reading
from codestill.models.room import Estimate, available_bytes, stated
from codestill.models.rows import Finish, Row, completion_of, ending, rows_of, unanswered, uniforms
from codestill.models.settings import Placement, SamplingConfig
from codestill.models.shared import memory_for
from codestill.models.tokenizers import id_count
from codestill.types import Completion, Request

_log = logging.getLogger(__name__)

FREE_SHARE = 0.25
"""Share of a batch that must have ended before its rows leave and waiting requests take their places: fewer
cost less than copying the cache of the others would."""
LARGE = 50_000_000
"""Parameters from which on a step costs more than that copy: rows leave once a sixteenth has ended."""
LIKELIEST = 1024
"""Most likely tokens, among which a nucleus is looked for before the whole vocabulary is sorted."""
WORTH_SAYING = 5 * 10**8
"""Bytes of a batch from which on they are stated even though they fit."""
_LIMITS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length")


def position_limit(config: PreTrainedConfig) -> int | None:
    """Longest sequence that the model reads, prompt included; None without a limit."""
    text = config.get_text_config()
    named = (getattr(text, name, None) for name in _LIMITS)
    return next((limit for limit in named if isinstance(limit, int) and limit > 0), None)


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
    sampling, codec = decoding.sampling, codec or TextCodec(tokenizer)
    limit = position_limit(model.config) or NO_LIMIT
    waiting, too_long = rows_of(codec, requests, sampling.max_new_tokens, limit)
    for request in too_long:
        yield unanswered(request)
    finish = partial(ending, codec, stop_ids=stop_ids, stopped=decoding.stopped)
    was_training = model.training
    model.eval()
    try:
        with matmul.inference(model):
            batch = _Batch(model, tokenizer, decoding, waiting, batch_size, prefill_tokens)
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


class _Batch:
    """Rows that are decoded together, and their next tokens' logits."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        decoding: Decoding,
        rows: Sequence[Row],
        most: int,
        prefill_tokens: int,
    ) -> None:
        """For these rows, ``most`` at a time or as many as fit."""
        self.model, self.decoding, self.sampling = model, decoding, decoding.sampling
        self.ids = id_count(tokenizer)
        self.leave_share = 1 / 16 if model.num_parameters() >= LARGE else FREE_SHARE
        self.last_position = (position_limit(model.config) or NO_LIMIT) - 1
        pad = int(tokenizer.pad_token_id or 0)  # pyright: ignore[reportArgumentType]
        longest = max((len(row.prompt) + row.room for row in rows), default=0)
        self.empty_memory = partial(memory_for, model, pad, longest, prefill_tokens)
        self.tokens, self.limit = 0, sum(row.room for row in rows)
        self._clear()
        self.size = self._fitting(rows, most)

    def _clear(self) -> None:
        self.memory = self.empty_memory()
        if self.decoding.watcher is not None:
            self.memory.reading = Reading(self.decoding.watcher.read)
        self.rows: list[Row] = []
        self.joining = 0
        empty = torch.empty(0, device=self.model.device)
        self.logits_BV = self.position_B = self.uniforms_BN = self.next_B = empty

    def close(self) -> None:
        """Tell that nothing more is decoded."""
        if self.decoding.watcher is not None:
            self.decoding.watcher.ended()

    def _fitting(self, rows: Sequence[Row], most: int) -> int:
        """How many rows decode together; says so where it is worth knowing."""
        if not rows:
            return most
        estimate = Estimate(
            self.model,
            self.memory,
            samples=self.sampling.temperature > 0,
            new_tokens=max(row.room for row in rows),
        )
        wanted = min(most, len(rows))
        plan = estimate.fitting([row.prompt for row in rows], most, available_bytes(self.model.device))
        if plan.rows < wanted or plan.total >= WORTH_SAYING:
            self._say(stated(plan, wanted), warn=plan.rows < wanted)
        return plan.rows if plan.rows < wanted else most

    def _say(self, text: str, *, warn: bool) -> None:
        if self.decoding.watcher is not None:
            self.decoding.watcher.message(text)
        else:
            _log.log(logging.WARNING if warn else logging.INFO, "%s", text)

    def _tell(self) -> None:
        if self.decoding.watcher is not None:
            going = sum(not row.ended for row in self.rows)
            self.decoding.watcher.decoded(self.tokens, self.limit, going)

    @property
    def tried(self) -> int:
        """Rows that are in memory, or that memory was to take."""
        return min(self.size, len(self.rows) + self.joining)

    @property
    def takes_more(self) -> bool:
        """Whether it is time to fill free places: never few at once, for a prefill has its price."""
        if not self.rows:
            return True
        free = self.size - len(self.rows)
        return self.memory.takes_more and free >= self.size * FREE_SHARE

    def fill(self, waiting: list[Row]) -> list[Row]:
        """Prefill waiting rows' prompts if it is time, and decode them with the present ones. Returns those
        that still wait."""
        if not waiting or not self.takes_more:
            return waiting
        free = self.size - len(self.rows)
        rows = waiting[:free]
        self.joining = len(rows)
        logits_BV, position_B = self.memory.add([row.prompt for row in rows])
        uniforms_BN = uniforms(rows, self.sampling.max_new_tokens, self.decoding.seed).to(logits_BV.device)
        fresh = logits_BV, position_B, uniforms_BN
        if self.rows:
            here = self.logits_BV, self.position_B, self.uniforms_BN
            fresh = tuple(torch.cat(pair) for pair in zip(here, fresh, strict=True))
        self.rows, self.joining = [*self.rows, *rows], 0
        self.logits_BV, self.position_B, self.uniforms_BN = fresh
        return waiting[free:]

    def append(self, finish: Callable[["Row"], Finish | None]) -> list[tuple[Row, Finish]]:
        """Append a token to every row; returns the rows that end with it."""
        if not self.rows:
            return []
        drawn_B = None
        if self.sampling.temperature:
            last = self.uniforms_BN.shape[1] - 1
            places = [[min(len(row.tokens), last)] for row in self.rows]
            drawn_B = self.uniforms_BN.gather(1, torch.tensor(places, device=self.uniforms_BN.device))
            drawn_B = drawn_B.squeeze(1)
        self.next_B = pick(self.logits_BV[:, : self.ids], self.sampling, drawn_B)
        ended: list[tuple[Row, Finish]] = []
        for row, token in zip(self.rows, self.next_B.tolist(), strict=True):
            if row.ended:
                continue
            row.tokens.append(token)
            self.tokens += 1
            how = finish(row)
            if how is not None:
                row.ended = True
                ended.append((row, how))
        self._tell()
        return ended

    def advance(self) -> None:
        """Let the model read every row's newest token; rows that have ended leave once they are enough."""
        alive = [i for i, row in enumerate(self.rows) if not row.ended]
        if len(alive) <= (1 - self.leave_share) * len(self.rows):
            self.next_B = self.next_B[self._keep(alive)]
        if self.rows:
            # Rows that have ended stay within the model's positions.
            self.position_B = (self.position_B + 1).clamp(max=self.last_position)
            self.logits_BV = self.memory.step(self.next_B, self.position_B)

    def halve(self) -> list[Row]:
        """Out of memory: half as many rows from now on as were tried. Returns the rows that have not ended,
        which begin anew and come to the same tokens."""
        self.size = self.tried // 2
        owed = [row for row in self.rows if not row.ended]
        for row in owed:
            self.tokens -= len(row.tokens)
            row.tokens, row.text, row.read = [], "", 0
        self._clear()
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        self._say(f"out of memory: decoding {self.size} rows at a time from now on", warn=True)
        return owed

    def _keep(self, alive: list[int]) -> Tensor:
        """Drop all other rows."""
        alive_B = torch.tensor(alive, dtype=torch.long, device=self.position_B.device)
        self.rows = [self.rows[i] for i in alive]
        self.position_B, self.uniforms_BN = self.position_B[alive_B], self.uniforms_BN[alive_B]
        self.memory.keep(alive_B)
        return alive_B


def pick(logits_BV: Tensor, sampling: SamplingConfig, uniform_B: Tensor | None) -> Tensor:
    """Token ids [B]: the most likely one, or the one where a row's uniform number falls in its CDF.

    Nucleus sampling (Holtzman et al. 2020) orders tokens by falling probability and ends the CDF after the
    token that reaches ``top_p``.
    """
    if uniform_B is None:
        return logits_BV.max(dim=-1).indices  # the first of equal ones; argmax takes five times as long
    probabilities_BV = (logits_BV.float() / sampling.temperature).softmax(dim=-1)
    if sampling.top_p < 1:
        return _nucleus(probabilities_BV, sampling.top_p, uniform_B)
    cdf_BV = probabilities_BV.cumsum(dim=-1, dtype=torch.float64)
    cdf_BV = cdf_BV / cdf_BV[:, -1:]  # ends at exactly 1, above every uniform number
    found_B1 = torch.searchsorted(cdf_BV, uniform_B[:, None], right=True)
    return found_B1.clamp(max=cdf_BV.shape[1] - 1).squeeze(1)


def _nucleus(probabilities_BV: Tensor, top_p: float, uniform_B: Tensor) -> Tensor:
    """Token ids [B]. A large vocabulary is sorted only for rows whose nucleus is not among the likeliest
    tokens: which way a row goes depends on that row alone, and both give the same token."""
    total_B1 = probabilities_BV.sum(dim=-1, keepdim=True, dtype=torch.float64)
    if probabilities_BV.shape[1] <= 2 * LIKELIEST:
        return _walk(*probabilities_BV.sort(dim=-1, descending=True, stable=True), total_B1, top_p, uniform_B)
    likeliest_BK, ids_BK = probabilities_BV.topk(LIKELIEST, dim=-1)
    # Equal ones in the order of their ids, as by a stable sort of all.
    ids_BK, by_id = ids_BK.sort(dim=-1)
    likeliest_BK, by_size = likeliest_BK.gather(1, by_id).sort(dim=-1, descending=True, stable=True)
    picked_B = _walk(likeliest_BK, ids_BK.gather(1, by_size), total_B1, top_p, uniform_B)
    # Of tokens equal to the last, some may be missing: the nucleus must end before.
    above_BK = likeliest_BK.masked_fill(likeliest_BK <= likeliest_BK[:, -1:], 0)
    wide = (above_BK.sum(dim=-1, dtype=torch.float64) < top_p * total_B1[:, 0]).nonzero()[:, 0]
    if len(wide):
        ordered = probabilities_BV[wide].sort(dim=-1, descending=True, stable=True)
        picked_B[wide] = _walk(*ordered, total_B1[wide], top_p, uniform_B[wide])
    return picked_B


def _walk(ordered_BV: Tensor, ids_BV: Tensor, total_B1: Tensor, top_p: float, uniform_B: Tensor) -> Tensor:
    """The token where the uniform number falls among the nucleus, the likeliest first."""
    cdf_BV = ordered_BV.cumsum(dim=-1, dtype=torch.float64) / total_B1
    last_B1 = (cdf_BV < top_p).sum(dim=-1, keepdim=True).clamp(max=cdf_BV.shape[1] - 1)
    mass_B1 = cdf_BV.gather(1, last_B1)
    found_B1 = torch.searchsorted(cdf_BV, uniform_B[:, None] * mass_B1, right=True)
    return ids_BV.gather(1, torch.minimum(found_B1, last_B1)).squeeze(1)
