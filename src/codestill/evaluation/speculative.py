"""Speculative decoding: a small model drafts tokens, and a large one, the target, reads them in one pass.

The text is distributed as the target's own, whatever the draft is (Leviathan et al. 2023, arXiv:2211.17192,
Algorithm 1; Chen et al. 2023, arXiv:2302.01318, Algorithm 2); how many tokens a pass gives depends on how
near the draft is. One text at a time, for measurement: it is no server.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer

from codestill.losses.divergences import divergence, temper, widen
from codestill.models.decode import takes
from codestill.models.rows import Finish, Row
from codestill.types import DraftTimes

CHUNK = 64
"""Positions whose whole distributions are compared at once."""
TIMED_TEXT = 64
"""Tokens before those that a timed pass reads."""
WARM_UP, REPEATS = 2, 7


class Reader(Protocol):
    """A model that reads texts."""

    def after(self, ids: Sequence[int], last: int) -> Tensor:
        """Logits [last, V] after each of the last tokens of a text; V are the tokenizer's ids alone."""
        ...


class ModelReader:
    """Reads a text by what is new in it: keys and values of the beginning that it shares with the text before
    are kept. A model whose cache cannot be cut (a sliding window, a state) reads every text whole."""

    def __init__(self, model: PreTrainedModel, ids: int) -> None:
        """``ids``: how many the tokenizer has; rows of the logits beyond them are padding."""
        self.model, self.ids = model.eval(), ids
        self.held: list[int] = []
        # With its config a cache has the layers that the model needs, and only plain ones can be cut.
        layers = DynamicCache(config=model.config).layers
        self.cuts = all(type(layer) is DynamicLayer for layer in layers)
        self.cuts = self.cuts and takes(type(model), "past_key_values")
        self.cache: Any = None

    @torch.inference_mode()
    def after(self, ids: Sequence[int], last: int) -> Tensor:
        """See :class:`Reader`."""
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self.held, ids, strict=False)))
        kept = min(shared, len(ids) - last) if self.cuts else 0
        if kept:
            for layer in self.cache.layers:
                layer.keys, layer.values = layer.keys[:, :, :kept], layer.values[:, :, :kept]
        elif self.cuts:
            self.cache = DynamicCache(config=self.model.config)
        kind, device = type(self.model), self.model.device
        more: dict[str, Any] = {"past_key_values": self.cache} if self.cuts else {}
        if takes(kind, "position_ids"):
            more["position_ids"] = torch.arange(kept, len(ids), device=device)[None]
        if takes(kind, "logits_to_keep"):
            more["logits_to_keep"] = last
        new_1T = torch.tensor([list(ids[kept:])], device=device)
        logits_1TV = self.model(input_ids=new_1T, use_cache=self.cuts, **more).logits
        self.held = list(ids)
        return logits_1TV[0, -last:, : self.ids]


@dataclass(frozen=True)
class Speculated:
    """How a text was decoded."""

    passes: int
    """Of the target over drafted tokens."""
    finish: Finish


def speculate(
    target: Reader,
    draft: Reader,
    row: Row,
    length: int,
    temperature: float,
    uniforms: Iterator[float],
    finish: Callable[[Row], Finish | None],
) -> Speculated:
    """Decode one row, whose tokens are appended to it, with drafts of ``length`` tokens; with drafts of none
    it is decoding by the target alone.

    ``uniforms`` are independent numbers in [0, 1). ``finish`` says after each token whether the text ends
    with it; what a pass gave beyond that is dropped. A draft is shorter where the row has less room.
    """
    passes = 0
    while True:
        passes += 1
        text = [*row.prompt, *row.tokens]
        most = min(length, row.room - len(row.tokens) - 1)
        for token in one_pass(target, draft, text, most, temperature, uniforms):
            row.tokens.append(token)
            how = finish(row)
            if how is not None:
                return Speculated(passes, how)


def one_pass(
    target: Reader,
    draft: Reader,
    text: Sequence[int],
    length: int,
    temperature: float,
    uniforms: Iterator[float],
) -> list[int]:
    """The tokens that one pass of the target gives: those of the draft that it accepts, and its own."""
    drafted: list[int] = []
    proposed: list[Tensor] = []
    for _ in range(length):
        q_V = distribution(draft.after([*text, *drafted], 1), temperature)[0]
        drafted.append(draw(q_V, next(uniforms)))
        proposed.append(q_V)
    p_NV = distribution(target.after([*text, *drafted], length + 1), temperature)
    for place, (token, q_V, p_V) in enumerate(zip(drafted, proposed, p_NV, strict=False)):
        if next(uniforms) * float(q_V[token]) >= float(p_V[token]):  # accepted with min(1, p / q)
            return [*drafted[:place], draw(residual(p_V, q_V), next(uniforms))]
    return [*drafted, draw(p_NV[-1], next(uniforms))]


def distribution(logits_NV: Tensor, temperature: float) -> Tensor:
    """Probabilities [N, V] at a sampling temperature, in float32 or better; at 0 all is on the most likely
    token, the first of equal ones."""
    if temperature == 0:
        likeliest_N1 = logits_NV.max(dim=-1, keepdim=True).indices
        return torch.zeros_like(widen(logits_NV)).scatter_(1, likeliest_N1, 1.0)
    return temper(widen(logits_NV), temperature).softmax(dim=-1)


def residual(p_V: Tensor, q_V: Tensor) -> Tensor:
    """What a token is drawn from where a drafted one was rejected: max(0, p - q), not normalised (Leviathan
    et al., section 2.3)."""
    left_V = (p_V - q_V).clamp(min=0)
    return left_V if left_V.any() else p_V  # nothing is left by rounding alone


def draw(weights_V: Tensor, uniform: float) -> int:
    """The token where a number in [0, 1) falls in the CDF of weights, which need not sum to 1."""
    cdf_V = weights_V.cumsum(dim=0, dtype=torch.float64)
    found = int(torch.searchsorted(cdf_V, uniform * cdf_V[-1], right=True))
    return min(found, int(weights_V.nonzero()[-1]))


@torch.inference_mode()
def acceptances(
    target: Reader, draft: Reader, prompt: Sequence[int], tokens: Sequence[int], temperature: float
) -> tuple[list[float], list[float]]:
    """For every token of a text of the target's: how probable it is that a token drafted in its place is
    accepted, and that this token, if it was drafted, was accepted.

    The first is sum over v of min(p(v), q(v)) = 1 - TV(p, q) (Leviathan et al., theorem 3.5 and corollary
    3.6). The second is min(1, q / p) of the token: speculative decoding gives token v by an accepted draft
    with probability min(p(v), q(v)), and in all with p(v). At temperature 0 both are 1 where the draft finds
    the same token most likely, else 0.
    """
    read = [*prompt, *tokens[:-1]]
    p_TV, q_TV = target.after(read, len(tokens)), draft.after(read, len(tokens))
    q_TV = q_TV.to(p_TV.device)
    ids_T1 = torch.tensor(tokens, device=p_TV.device)[:, None]
    if temperature == 0:
        agrees_T = (q_TV.max(dim=-1).indices == ids_T1[:, 0]).double()
        return agrees_T.tolist(), agrees_T.tolist()
    accepted: list[float] = []
    given: list[float] = []
    for p_NV, q_NV, ids_N1 in zip(*(x.split(CHUNK) for x in (p_TV, q_TV, ids_T1)), strict=True):
        apart_N = divergence("total_variation", q_NV, p_NV, temperature)
        accepted += (1 - apart_N).clamp(0, 1).tolist()
        log_p_N1, log_q_N1 = (
            temper(widen(x_NV), temperature).log_softmax(dim=-1).gather(1, ids_N1) for x_NV in (p_NV, q_NV)
        )
        given += (log_q_N1 - log_p_N1).clamp(max=0).exp()[:, 0].tolist()
    return accepted, given


def independent_tokens(acceptance: float, length: int) -> float:
    """Expected tokens per target pass with drafts of ``length`` tokens, each of which is accepted with the
    same probability, whatever happened to the others (Leviathan et al., eq. 1)."""
    return float(length + 1 if acceptance == 1 else (1 - acceptance ** (length + 1)) / (1 - acceptance))


def expected_passes(given: Sequence[float], length: int) -> float:
    """Expected passes of the target in which speculative decoding writes a text, given the text.

    ``given[i]``: the probability that token i, if drafted, was accepted (the second of :func:`acceptances`).
    Given what is written, a pass that starts at token i ends with token i + n with probability
    given[i] ... given[i + n - 1] (1 - given[i + n]), and with i + length if all before were accepted; so the
    expectation from each token on follows from those after it, exactly. Over texts of the target, tokens by
    expected passes are the tokens per pass of speculative decoding in the long run: where tokens are hard to
    draft, more passes start, which a mean over all positions would not count.
    """
    count = len(given)
    ahead = [0.0] * (count + length + 1)  # expected passes from each token on; none beyond the end
    for start in reversed(range(count)):
        reached, passes = 1.0, 1.0
        for place in range(start, min(start + length, count)):
            passes += reached * (1 - given[place]) * ahead[place + 1]
            reached *= given[place]
        ahead[start] = passes + reached * ahead[start + length + 1]
    return ahead[0]


def pass_milliseconds(target: ModelReader, draft: ModelReader, positions: int, longest: int) -> DraftTimes:
    """Median times of the draft's pass over one token and of the target's over 1 to ``longest + 1``, in turn,
    so that a busy machine is busy for all. ``positions``: longest text that both read."""
    generator = torch.Generator().manual_seed(0)
    size = min(TIMED_TEXT + longest + 1, positions)
    text: list[int] = torch.randint(target.ids, (size,), generator=generator).tolist()
    before = size - longest - 1
    passes = [(draft, 1), *((target, tokens) for tokens in range(1, longest + 2))]
    taken: list[list[float]] = [[] for _ in passes]
    for _ in range(WARM_UP + REPEATS):
        for times, (reader, tokens) in zip(taken, passes, strict=True):
            reader.after(text[: before + tokens], tokens)  # the beginning is held
            begun = time.perf_counter()
            float(reader.after(text[: before + tokens], tokens)[-1, 0])  # waits for a device
            times.append(1e3 * (time.perf_counter() - begun))
    first, *others = (statistics.median(times[WARM_UP:]) for times in taken)
    return DraftTimes(
        draft=first, target=tuple(others), device=target.model.device.type, threads=torch.get_num_threads()
    )
