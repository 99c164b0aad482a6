"""Decoding in which a prompt's keys and values are held once for all of its samples.

At each step they are read once for the whole group, which is what decoding waits for. The attention is our
own: it takes the place of the model's where that comes from transformers' interface, and whether it gives the
same is tried with each model.
"""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import AttentionInterface, DynamicCache, PreTrainedConfig, PreTrainedModel

from codestill.models.cohorts import Cohort, ReadPrompts
from codestill.models.decode import Memory, OwnPrompts, Prompt, forward_last

SHARED = "codestill_shared_prompts"
_HARMLESS = {"dropout", "sliding_window", "position_ids", "use_cache", "output_attentions", "cache_position"}


def memory_for(model: PreTrainedModel, pad: int, longest: int) -> Memory:
    """The best that the model allows for sequences of at most ``longest`` tokens."""
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    fits = window is None or longest <= window
    return SharedPrompts(model, pad) if fits and can_share(model) else OwnPrompts(model, pad)


class SharedPrompts:
    """Rows in cohorts, within which each prompt is held once."""

    takes_more = True

    def __init__(self, model: PreTrainedModel, pad: int) -> None:
        self.model, self.pad = model, pad
        self.rest = _Rest()

    @property
    def prompts(self) -> list[Prompt]:
        """Those of the rows that are here."""
        return [prompt for cohort in self.rest.cohorts for prompt in cohort.read.prompts]

    def add(self, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """As :class:`Memory` says; a prompt that is here is not read again."""
        owed = dict.fromkeys(prompts)
        parts: list[ReadPrompts] = []
        for cohort in self.rest.cohorts:
            if held := [i for i, prompt in enumerate(cohort.read.prompts) if prompt in owed]:
                parts.append(cohort.read.chosen(held))
                owed = {prompt: None for prompt in owed if prompt not in parts[-1].prompts}
        if owed:
            parts.append(ReadPrompts.of(self.model, list(owed), self.pad))
        read = ReadPrompts.joined(parts)
        index = {prompt: i for i, prompt in enumerate(read.prompts)}
        group_B = torch.tensor([index[prompt] for prompt in prompts], device=self.model.device)
        self.rest.cohorts.append(Cohort(read, group_B))
        return read.logits_GV[group_B], read.last_G[group_B]

    def keep(self, alive: Tensor) -> None:
        """Let all rows go but these, given in order."""
        kept = []
        for some, cohort in self.rest.slices():
            chosen = alive[(alive >= some.start) & (alive < some.stop)] - some.start
            if len(chosen) and len(chosen) < len(cohort):
                cohort.keep(chosen)
            if len(chosen):
                kept.append(cohort)
        self.rest.cohorts = kept

    def step(self, tokens_B: Tensor, positions_B: Tensor) -> Tensor:
        """As :class:`Memory` says."""
        with _our_attention(self.model.config):
            logits_BV, _ = forward_last(
                self.model, tokens_B[:, None], None, positions_B[:, None], self.rest, shared_prompts=self
            )
        return logits_BV

    def attend(self, layer: int, query_BHRD: Tensor) -> Tensor:
        """As :class:`Cohort` says, for all rows."""
        found = [cohort.attend(layer, query_BHRD[some]) for some, cohort in self.rest.slices()]
        return torch.cat(found) if len(found) > 1 else found[0]


class _Rest(DynamicCache):
    """The batch's rows in order, cohort after cohort, as the cache that a model writes to."""

    def __init__(self) -> None:
        super().__init__()
        self.cohorts: list[Cohort] = []

    def slices(self) -> list[tuple[slice, Cohort]]:
        """Each cohort, and which of the rows it has."""
        ends = itertools.accumulate(map(len, self.cohorts), initial=0)
        return [(slice(*pair), one) for pair, one in zip(itertools.pairwise(ends), self.cohorts, strict=True)]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Take in every row's newest token, which is given back."""
        for some, cohort in self.slices():
            cohort.later.add(layer_idx, key_states[some], value_states[some])
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Of the oldest rows, after the prompt: models ask, though they are told every position."""
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
    """What transformers calls for a layer's attention. Raises NotImplementedError for what is unknown."""
    strange = [name for name, setting in others.items() if setting is not None and name not in _HARMLESS]
    if shared_prompts is None or strange:
        raise NotImplementedError(f"attention with {strange}")
    B, heads, _, D = query.shape
    scaled = query * (D**-0.5 if scaling is None else scaling)
    H = key.shape[1]
    found = shared_prompts.attend(module.layer_idx, scaled.view(B, H, heads // H, D))
    return found.reshape(B, 1, heads, D), None


AttentionInterface.register(SHARED, _attend)


@contextlib.contextmanager
def _our_attention(config: PreTrainedConfig) -> Iterator[None]:
    before = config._attn_implementation
    config._attn_implementation = SHARED
    try:
        yield
    finally:
        config._attn_implementation = before


_tried: "WeakKeyDictionary[PreTrainedModel, bool]" = WeakKeyDictionary()


@torch.inference_mode()
def can_share(model: PreTrainedModel) -> bool:
    """Whether :class:`SharedPrompts` gives the model's logits: tried once, with two short prompts."""
    if model not in _tried:
        try:
            _tried[model] = _agrees(model)
        except Exception:  # whatever a model's own code makes of what it does not know
            _tried[model] = False
    return _tried[model]


def _agrees(model: PreTrainedModel) -> bool:
    top = model.config.get_text_config().vocab_size - 1
    prompts: list[Prompt] = [tuple(min(top, 3 * i + 1) for i in range(7)), (min(top, 2), min(top, 5))]
    rows = [prompts[i] for i in (0, 1, 0)]
    found = []
    for memory in (OwnPrompts(model, 0), SharedPrompts(model, 0)):
        _, last_B = memory.add(rows)
        tokens = torch.tensor([[1, 2, 3], [4, 0, 1]], device=model.device).clamp(max=top)
        steps = [memory.step(tokens_B, last_B + 1 + number) for number, tokens_B in enumerate(tokens)]
        memory.keep(torch.tensor([0, 2], device=model.device))
        steps.append(memory.step(tokens[0, :2], last_B[[0, 2]] + 3))
        found.append(torch.cat(steps).float())
    own, shared = found
    tolerance = 1e-4 if model.dtype == torch.float32 else 5e-2
    return bool((own - shared).abs().max() <= tolerance * own.abs().max())
