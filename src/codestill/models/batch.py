"""Rows that are decoded together: each joins when there is a place, ends as its own request says, and leaves.

One prefill per distinct prompt, whose keys and values its samples share (``codestill.models.shared``). Every
row has its own settings and its own random stream, and samples tokens by inverse CDF: what else is in the
batch can change nothing but float rounding.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from codestill.models.completer import Watcher
from codestill.models.decode import NO_LIMIT, PREFILL_TOKENS, Reading
from codestill.models.pick import pick
from codestill.models.room import USABLE, Estimate, available_bytes, stated
from codestill.models.rows import Finish, Row
from codestill.models.settings import SamplingConfig
from codestill.models.shared import memory_for
from codestill.models.tokenizers import id_count

_log = logging.getLogger(__name__)

FREE_SHARE = 0.25
"""Share of a batch that must have ended before its rows leave and waiting requests take their places: fewer
cost less than copying the cache of the others would."""
LARGE = 50_000_000
"""Parameters from which on a step costs more than that copy: rows leave once a sixteenth has ended."""
WORTH_SAYING = 5 * 10**8
"""Bytes of a batch from which on they are stated even though they fit."""
_LIMITS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length")


def position_limit(config: PreTrainedConfig) -> int | None:
    """Longest sequence that the model reads, prompt included; None without a limit."""
    text = config.get_text_config()
    named = (getattr(text, name, None) for name in _LIMITS)
    return next((limit for limit in named if isinstance(limit, int) and limit > 0), None)


class Batch:
    """Rows that are decoded together, and their next tokens' logits.

    A step is :meth:`advance`, then :meth:`fill` or :meth:`join`, then :meth:`append`; all of them within
    ``torch.inference_mode()``, in one thread, with the model in evaluation mode.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        longest: int,
        size: int,
        prefill_tokens: int = PREFILL_TOKENS,
        watcher: Watcher | None = None,
        limit: int = 0,
    ) -> None:
        """``size`` rows at a time, each of ``longest`` tokens at most, its prompt included. ``watcher`` is
        told how it goes, and that ``limit`` tokens can be generated in all."""
        self.model, self.size, self.watcher, self.limit = model, size, watcher, limit
        self.ids = id_count(tokenizer)
        self.leave_share = 1 / 16 if model.num_parameters() >= LARGE else FREE_SHARE
        self.last_position = (position_limit(model.config) or NO_LIMIT) - 1
        pad = int(tokenizer.pad_token_id or 0)  # pyright: ignore[reportArgumentType]
        self.empty_memory = partial(memory_for, model, pad, longest, prefill_tokens)
        self.tokens = 0
        self.clear()

    def clear(self) -> None:
        """Drop all rows."""
        self.memory = self.empty_memory()
        if self.watcher is not None:
            self.memory.reading = Reading(self.watcher.read)
        self.rows: list[Row] = []
        self.joining = 0
        empty = torch.empty(0, device=self.model.device)
        self.logits_BV = self.position_B = self.next_B = empty

    def close(self) -> None:
        """Tell that nothing more is decoded."""
        if self.watcher is not None:
            self.watcher.ended()

    def fit(self, rows: Sequence[Row]) -> None:
        """Lower ``size`` to as many of these rows as memory holds; says so where it is worth knowing."""
        if not rows:
            return
        wanted = min(self.size, len(rows))
        plan = self._estimate(rows).fitting([row.prompt for row in rows], self.size, self._available())
        if plan.rows < wanted or plan.total >= WORTH_SAYING:
            self._say(stated(plan, wanted), warn=plan.rows < wanted)
        self.size = plan.rows if plan.rows < wanted else self.size

    def affordable(self, rows: Sequence[Row]) -> int:
        """How many of these, the first ones, can join now: there are places, and memory holds them beside the
        present rows with all the tokens that these may still get. An empty batch takes one in any case."""
        rows = rows[: max(0, self.size - len(self.rows))]
        if not rows:
            return 0
        estimate = self._estimate(rows)
        promised = (
            sum(row.room - len(row.tokens) for row in self.rows if not row.ended) * estimate.token_bytes
        )
        free = self._available() - promised
        plan = estimate.fitting([row.prompt for row in rows], len(rows), free)
        return plan.rows if not self.rows or plan.total <= USABLE * free else 0

    def _estimate(self, rows: Sequence[Row]) -> Estimate:
        return Estimate(
            self.model,
            self.memory,
            samples=any(row.decoding.sampling.temperature > 0 for row in rows),
            new_tokens=max(row.room for row in rows),
        )

    def _available(self) -> int:
        return available_bytes(self.model.device)

    def _say(self, text: str, *, warn: bool) -> None:
        if self.watcher is not None:
            self.watcher.message(text)
        else:
            _log.log(logging.WARNING if warn else logging.INFO, "%s", text)

    def _tell(self) -> None:
        if self.watcher is not None:
            self.watcher.decoded(self.tokens, self.limit, self.going)

    @property
    def going(self) -> int:
        """Rows that have not ended."""
        return sum(not row.ended for row in self.rows)

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
        self.join(waiting[:free])
        return waiting[free:]

    def join(self, rows: Sequence[Row]) -> None:
        """Prefill these rows' prompts, and decode them with the present ones."""
        self.joining = len(rows)
        fresh = self.memory.add([row.prompt for row in rows])
        if self.rows:
            here = self.logits_BV, self.position_B
            fresh = tuple(torch.cat(pair) for pair in zip(here, fresh, strict=True))
        self.rows, self.joining = [*self.rows, *rows], 0
        self.logits_BV, self.position_B = fresh

    def append(self, finish: Callable[[Row], Finish | None]) -> list[tuple[Row, Finish]]:
        """Append a token to every row; returns the rows that end with it."""
        if not self.rows:
            return []
        logits_BV = self.logits_BV[:, : self.ids]
        self.next_B = self._picked(logits_BV)
        self._list(logits_BV)
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

    def _picked(self, logits_BV: Tensor) -> Tensor:
        """Every row's next token [B]; rows that are sampled alike are picked together."""
        alike: dict[tuple[float, float], list[int]] = {}
        for place, row in enumerate(self.rows):
            sampling = row.decoding.sampling
            alike.setdefault((sampling.temperature, sampling.top_p), []).append(place)
        if len(alike) == 1:
            return self._pick(logits_BV, self.rows)
        next_B = torch.empty(len(self.rows), dtype=torch.long, device=logits_BV.device)
        for places in alike.values():
            at = torch.tensor(places, device=logits_BV.device)
            next_B[at] = self._pick(logits_BV[at], [self.rows[place] for place in places])
        return next_B

    def _pick(self, logits_BV: Tensor, rows: Sequence[Row]) -> Tensor:
        sampling: SamplingConfig = rows[0].decoding.sampling
        if not sampling.temperature:
            return pick(logits_BV, sampling, None)
        drawn = [row.uniforms[min(len(row.tokens), row.room - 1)] for row in rows]
        return pick(logits_BV, sampling, torch.tensor(drawn, dtype=torch.float64, device=logits_BV.device))

    def _list(self, logits_BV: Tensor) -> None:
        """Keep the likeliest tokens of the rows that are asked for them."""
        places = [i for i, row in enumerate(self.rows) if row.top is not None and not row.ended]
        if not places:
            return
        at = torch.tensor(places, device=logits_BV.device)
        lists = likeliest(logits_BV[at], self.next_B[at], max(self.rows[i].top or 0 for i in places))
        for place, listed in zip(places, lists, strict=True):
            row = self.rows[place]
            row.likeliest.append(listed[: 1 + (row.top or 0)])

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
            row.begin_anew()
        self.clear()
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        self._say(f"out of memory: decoding {self.size} rows at a time from now on", warn=True)
        return owed

    def _keep(self, alive: list[int]) -> Tensor:
        """Drop all other rows."""
        alive_B = torch.tensor(alive, dtype=torch.long, device=self.position_B.device)
        self.rows = [self.rows[i] for i in alive]
        self.position_B = self.position_B[alive_B]
        self.memory.keep(alive_B)
        return alive_B


def likeliest(logits_NV: Tensor, chosen_N: Tensor, top: int) -> list[list[tuple[int, float]]]:
    """For each row of logits (token, log-probability): the chosen token, then the ``top`` likeliest, by
    falling probability. They are the model's own, before temperature and nucleus."""
    log_p_NV = logits_NV.float().log_softmax(dim=-1)
    own_N = log_p_NV.gather(1, chosen_N[:, None])[:, 0].tolist()
    values_NK, ids_NK = log_p_NV.topk(min(top, log_p_NV.shape[1]), dim=-1)
    chosen = zip(chosen_N.tolist(), own_N, strict=True)
    return [
        [first, *zip(ids, values, strict=True)]
        for first, ids, values in zip(chosen, ids_NK.tolist(), values_NK.tolist(), strict=True)
    ]
