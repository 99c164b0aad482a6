"""Decoding in which all samples of a prompt share its keys and values.

Each step reads them once for the whole group, and reading them is what decoding waits for. The attention is
our own: it replaces a model's where that comes from transformers' attention interface, and each model is
first tested for equal results.
"""

import contextlib
import itertools
import logging
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor
from transformers import AttentionInterface, DynamicCache, PreTrainedConfig, PreTrainedModel

from codestill.errors import ModelError
from codestill.models.cohorts import Cohort, ReadPrompts
from codestill.models.decode import (
    PREFILL_TOKENS,
    Memory,
    OwnPrompts,
    Prompt,
    Reading,
    WholeTexts,
    bytes_per_token,
    forward_last,
)

_log = logging.getLogger(__name__)

SHARED = "codestill_shared_prompts"
WORTH_A_COHORT = 16 * 2**20
"""Bytes of padding that a step would read in vain, from which on a cohort of their own costs rows less."""
_HARMLESS = {"dropout", "sliding_window", "position_ids", "use_cache", "output_attentions", "cache_position"}


def memory_for(
    model: PreTrainedModel, pad: int, longest: int, prefill_tokens: int = PREFILL_TOKENS
) -> Memory:
    """The best memory that the model supports for sequences of at most ``longest`` tokens; it reads about
    ``prefill_tokens`` of prompts in one pass."""
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    fits = window is None or longest <= window
    if fits and can_share(model):
        return SharedPrompts(model, pad, prefill_tokens)
    return OwnPrompts(model, pad, prefill_tokens) if can_cache(model) else _slowly(model, prefill_tokens)


def alike(prompts: Sequence[Prompt], worth: int) -> list[slice]:
    """Where to divide prompts, so that each division saves ``worth`` tokens of padding or more. They come the
    longest first; others are not divided."""
    lengths = [len(prompt) for prompt in prompts]
    if lengths != sorted(lengths, reverse=True):
        return [slice(0, len(prompts))]
    first = [0, *(i for i in range(1, len(prompts)) if prompts[i] != prompts[i - 1]), len(prompts)]
    whole, divided = [(0, len(first) - 1)], []  # ranges of distinct prompts
    while whole:
        start, end = whole.pop()
        longest = lengths[first[start]]
        saved = [(longest - lengths[first[i]]) * (end - i) for i in range(start, end)]
        cut = max(range(end - start), key=saved.__getitem__)
        if saved[cut] >= max(1, worth):
            whole += [(start, start + cut), (start + cut, end)]
        else:
            divided.append(slice(first[start], first[end]))
    return sorted(divided, key=lambda rows: rows.start)


class SharedPrompts:
    """Rows in cohorts, each of which holds each of its prompts once."""

    takes_more = True

    def __init__(self, model: PreTrainedModel, pad: int, prefill_tokens: int = PREFILL_TOKENS) -> None:
        self.model, self.pad, self.prefill_tokens = model, pad, prefill_tokens
        self.rest, self.reading = _Rest(), Reading()

    @property
    def prompts(self) -> list[Prompt]:
        """The prompts of the present rows."""
        return [prompt for cohort in self.rest.cohorts for prompt in cohort.read.prompts]

    def add(self, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """See :class:`Memory`; a prompt that is already present is not prefilled again. Prompts of very
        different lengths do not join one cohort, whose prompts are all read to the length of its longest."""
        self.reading.begin(len(set(prompts) - set(self.prompts)))
        tokens = WORTH_A_COHORT // max(1, bytes_per_token(self.model))
        parts = [self._add(prompts[rows]) for rows in alike(prompts, tokens)]
        return torch.cat([logits_BV for logits_BV, _ in parts]), torch.cat([last_B for _, last_B in parts])

    def _add(self, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        owed = dict.fromkeys(prompts)
        parts: list[ReadPrompts] = []
        for cohort in self.rest.cohorts:
            if held := [i for i, prompt in enumerate(cohort.read.prompts) if prompt in owed]:
                parts.append(cohort.read.chosen(held))
                owed = {prompt: None for prompt in owed if prompt not in parts[-1].prompts}
        if owed:
            parts.append(ReadPrompts.of(self.model, list(owed), self.pad, self.prefill_tokens, self.reading))
        read = ReadPrompts.joined(parts)
        index = {prompt: i for i, prompt in enumerate(read.prompts)}
        group_B = torch.tensor([index[prompt] for prompt in prompts], device=self.model.device)
        self.rest.cohorts.append(Cohort(read, group_B))
        return read.logits_GV[group_B], read.last_G[group_B]

    def keep(self, alive: Tensor) -> None:
        """Drop all rows but these, whose indices ascend."""
        kept = []
        for rows, cohort in self.rest.slices():
            chosen = alive[(alive >= rows.start) & (alive < rows.stop)] - rows.start
            if len(chosen) and len(chosen) < len(cohort):
                cohort.keep(chosen)
            if len(chosen):
                kept.append(cohort)
        self.rest.cohorts = kept

    def step(self, tokens_B: Tensor, positions_B: Tensor) -> Tensor:
        """See :class:`Memory`."""
        with _our_attention(self.model.config):
            logits_BV, _ = forward_last(
                self.model, tokens_B[:, None], None, positions_B[:, None], self.rest, shared_prompts=self
            )
        return logits_BV

    def attend(self, layer: int, query_BHRD: Tensor) -> Tensor:
        """See :class:`Cohort`; here for all rows."""
        outputs = [cohort.attend(layer, query_BHRD[rows]) for rows, cohort in self.rest.slices()]
        return torch.cat(outputs) if len(outputs) > 1 else outputs[0]


class _Rest(DynamicCache):
    """The batch's rows in order, cohort by cohort, as the cache that a model writes to."""

    def __init__(self) -> None:
        super().__init__()
        self.cohorts: list[Cohort] = []

    def slices(self) -> list[tuple[slice, Cohort]]:
        """Each cohort, with the slice of the rows that it holds."""
        ends = itertools.pairwise(itertools.accumulate(map(len, self.cohorts), initial=0))
        return [(slice(*pair), cohort) for pair, cohort in zip(ends, self.cohorts, strict=True)]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append every row's newest token; returns only that."""
        for rows, cohort in self.slices():
            cohort.later.add(layer_idx, key_states[rows], value_states[rows])
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens of the oldest rows after their prompts: models query it, though they get every position."""
        return self.cohorts[0].later.length


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    shared_prompts: SharedPrompts | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """A layer's attention, called by transformers. Raises NotImplementedError for an unknown argument."""
    unknown = [name for name, setting in others.items() if setting is not None and name not in _HARMLESS]
    if shared_prompts is None or unknown:
        raise NotImplementedError(f"attention with {unknown}")
    B, heads, _, D = query.shape
    scaled = query * (D**-0.5 if scaling is None else scaling)
    H = key.shape[1]
    output = shared_prompts.attend(module.layer_idx, scaled.view(B, H, heads // H, D))
    return output.reshape(B, 1, heads, D), None


AttentionInterface.register(SHARED, _attend)


@contextlib.contextmanager
def _our_attention(config: PreTrainedConfig) -> Iterator[None]:
    before = config._attn_implementation
    config._attn_implementation = SHARED
    try:
        yield
    finally:
        config._attn_implementation = before


_tried: "dict[type, WeakKeyDictionary[PreTrainedModel, bool]]" = {
    SharedPrompts: WeakKeyDictionary(),
    OwnPrompts: WeakKeyDictionary(),
}


def can_share(model: PreTrainedModel) -> bool:
    """Whether :class:`SharedPrompts` gives the model's own logits: tested once, with two short prompts."""
    return _agrees(model, SharedPrompts)


def can_cache(model: PreTrainedModel) -> bool:
    """The same of :class:`OwnPrompts`: False for state-space models and others without keys and values."""
    return _agrees(model, OwnPrompts)


_slow: "WeakSet[PreTrainedModel]" = WeakSet()


@torch.inference_mode()
def _slowly(model: PreTrainedModel, prefill_tokens: int) -> WholeTexts:
    """Warns once. Raises ModelError for a model that fails even so."""
    kind, memory = model.config.model_type, WholeTexts(model, prefill_tokens)
    if model not in _slow:
        try:
            _few_steps(memory)
        except (AttributeError, IndexError, KeyError, NotImplementedError, TypeError, ValueError) as error:
            raise ModelError(
                f"A model of type {kind} cannot be sampled from: it fails on two short texts "
                f"({type(error).__name__}: {error}).",
                next_step="Choose a model that transformers runs here, or serve it and use its endpoint.",
            ) from error
        _slow.add(model)
        _log.warning(
            "Models of type %s keep no keys and values that can be shared out: every token takes a pass over "
            "the whole text, which is slow.",
            kind,
        )
    return WholeTexts(model, prefill_tokens)


@torch.inference_mode()
def _agrees(model: PreTrainedModel, kind: "type[SharedPrompts | OwnPrompts]") -> bool:
    tried = _tried[kind]
    if model not in tried:
        try:
            plain, own = _few_steps(WholeTexts(model)), _few_steps(kind(model, 0))
            tolerance = 1e-4 if model.dtype == torch.float32 else 5e-2
            tried[model] = bool((plain - own).abs().max() <= tolerance * plain.abs().max())
        except Exception:  # whatever a model's own code raises
            tried[model] = False
    return tried[model]


def _few_steps(memory: Any) -> Tensor:
    """Logits of a few steps, in which a row leaves."""
    model = memory.model
    top = model.config.get_text_config().vocab_size - 1
    prompts: list[Prompt] = [tuple(min(top, 3 * i + 1) for i in range(7)), (min(top, 2), min(top, 5))]
    logits, last_B = memory.add([prompts[i] for i in (0, 1, 0)])
    tokens = torch.tensor([[1, 2, 3], [4, 0, 1]], device=model.device).clamp(max=top)
    steps = [logits] + [memory.step(tokens_B, last_B + 1 + number) for number, tokens_B in enumerate(tokens)]
    memory.keep(torch.tensor([0, 2], device=model.device))
    steps.append(memory.step(tokens[0, :2], last_B[[0, 2]] + 3))
    return torch.cat(steps).float()
