"""Decoding in which a prompt's keys and values are held once for all of its samples.

At each step they are read once for the whole group, which is what decoding waits for. The attention is our
own: it takes the place of the model's where that comes from transformers' interface, and whether it gives the
same is tried with each model.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import AttentionInterface, DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from codestill.models.decode import (
    Memory,
    OwnPrompts,
    Prompt,
    RoomyLayer,
    forward_last,
    longer,
    prefill,
    unused_columns,
)

SHARED = "codestill_shared_prompts"
_HARMLESS = {"dropout", "sliding_window", "position_ids", "use_cache", "output_attentions", "cache_position"}


def memory_for(model: PreTrainedModel, pad: int, longest: int) -> Memory:
    """The best that the model allows for sequences of at most ``longest`` tokens."""
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    fits = window is None or longest <= window
    return SharedPrompts(model, pad) if fits and can_share(model) else OwnPrompts(model, pad)


class SharedPrompts:
    """Each of G prompts is held once, padded on the left to P tokens; of each of B rows, what came after."""

    takes_more = True

    def __init__(self, model: PreTrainedModel, pad: int) -> None:
        self.model, self.pad = model, pad
        self.prompts: list[Prompt] = []
        self.keys_GHPD: list[Tensor] = []
        """Of each layer; and the values."""
        self.values_GHPD: list[Tensor] = []
        self.logits_GV = self.last_G = self.mask_GP = torch.empty(0)
        self.bias_G11P = torch.empty(0)
        self.group_B = torch.empty(0, dtype=torch.long, device=model.device)
        self.rest = _Rest()

    def add(self, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """As :class:`Memory` says; a prompt that is here is not read again."""
        known = set(self.prompts)
        if new := [prompt for prompt in dict.fromkeys(prompts) if prompt not in known]:
            self._prefill(new)
        index = {prompt: i for i, prompt in enumerate(self.prompts)}
        chosen_B = torch.tensor([index[prompt] for prompt in prompts], device=self.model.device)
        self.rest.join([RoomyLayer.empty(keys, len(prompts)) for keys in self.keys_GHPD], len(prompts))
        self._seat(torch.cat([self.group_B, chosen_B]))
        return self.logits_GV[chosen_B], self.last_G[chosen_B]

    def _prefill(self, new: list[Prompt]) -> None:
        logits_PV, cache, mask_GP, last_P = prefill(self.model, new, self.pad)
        if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers):
            raise NotImplementedError("a cache of another kind")
        keys, values = ([getattr(layer, name) for layer in cache.layers] for name in ("keys", "values"))
        if not self.prompts:
            self.keys_GHPD, self.values_GHPD = keys, values
            self.logits_GV, self.last_G, self.mask_GP = logits_PV, last_P, mask_GP.bool()
        else:
            length = max(mask_GP.shape[1], self.mask_GP.shape[1])

            def joined(ours: Tensor, theirs: Tensor, dimension: int) -> Tensor:
                return torch.cat([longer(x, length, dimension) for x in (ours, theirs)])

            self.keys_GHPD = [joined(*pair, 2) for pair in zip(self.keys_GHPD, keys, strict=True)]
            self.values_GHPD = [joined(*pair, 2) for pair in zip(self.values_GHPD, values, strict=True)]
            self.mask_GP = joined(self.mask_GP, mask_GP.bool(), 1)
            self.logits_GV = torch.cat([self.logits_GV, logits_PV])
            self.last_G = torch.cat([self.last_G, last_P])
        self.prompts += new

    def keep(self, alive: Tensor) -> None:
        """Let all other rows go, the prompts that only they had, and the columns that only those needed."""
        group_B = self.group_B[alive]
        left_G, group_B = group_B.unique(return_inverse=True)
        if len(left_G) < len(self.prompts):
            self.prompts = [self.prompts[i] for i in left_G.tolist()]
            self.logits_GV, self.last_G = self.logits_GV[left_G], self.last_G[left_G]
            self.mask_GP = self.mask_GP[left_G]
            unused = unused_columns(self.mask_GP)
            self.mask_GP = self.mask_GP[:, unused:]
            self.keys_GHPD = [keys[left_G, :, unused:] for keys in self.keys_GHPD]
            self.values_GHPD = [values[left_G, :, unused:] for values in self.values_GHPD]
        self.rest.keep(alive)
        self._seat(group_B)

    def _seat(self, group_B: Tensor) -> None:
        """Give every row a place among those of its prompt."""
        self.group_B = group_B
        groups = group_B.tolist()
        taken = [0] * len(self.prompts)
        seats = []
        for group in groups:
            seats.append(taken[group])
            taken[group] += 1
        self.seats = max(taken, default=0)
        self.seat_B = torch.tensor(seats, dtype=torch.long, device=group_B.device)
        self.bias_G11P = _bias(self.mask_GP, self.logits_GV.dtype)

    def step(self, tokens_B: Tensor, positions_B: Tensor) -> Tensor:
        """As :class:`Memory` says."""
        with _attention(self.model.config, SHARED):
            logits_BV, _ = forward_last(
                self.model, tokens_B[:, None], None, positions_B[:, None], self.rest, shared_prompts=self
            )
        return logits_BV

    def attend(self, layer: int, query_BHRD: Tensor) -> Tensor:
        """Attention of each row's newest token to its prompt and to what came after: [B, H, R, D].

        The R query heads that share a head of keys stand together; queries are scaled already."""
        rows = self.group_B, slice(None), self.seat_B
        keys_GHPD, values_GHPD = self.keys_GHPD[layer], self.values_GHPD[layer]
        G, H, P, D = keys_GHPD.shape
        R = query_BHRD.shape[2]
        query_GHNRD = query_BHRD.new_zeros(G, H, self.seats, R, D)
        query_GHNRD[rows] = query_BHRD
        of_prompt = query_GHNRD.view(G, H, -1, D) @ keys_GHPD.transpose(2, 3) + self.bias_G11P
        rests = list(self.rest.of(layer))
        longest = max(keys.shape[2] for _, keys, _ in rests)
        scores = query_BHRD.new_full((*query_BHRD.shape[:3], P + longest), -torch.inf)
        scores[..., :P] = of_prompt.view(G, H, self.seats, R, P)[rows]
        for some, keys, _ in rests:
            scores[some, ..., P : P + keys.shape[2]] = query_BHRD[some] @ keys.transpose(2, 3)
        weights = scores.softmax(dim=-1, dtype=torch.float32).to(query_BHRD.dtype)
        weights_GHNRP = weights.new_zeros(G, H, self.seats, R, P)
        weights_GHNRP[rows] = weights[..., :P]
        found = (weights_GHNRP.view(G, H, -1, P) @ values_GHPD).view(G, H, self.seats, R, D)[rows]
        for some, _, values in rests:
            found[some] += weights[some, ..., P : P + values.shape[2]] @ values
        return found


class _Rest(DynamicCache):
    """What came after the prompts: rows that joined together have as much of it, and are held together."""

    def __init__(self) -> None:
        super().__init__()
        self.cohorts: list[tuple[int, list[RoomyLayer]]] = []
        """How many rows, and their layers; the batch's rows in order."""

    def join(self, layers: list[RoomyLayer], rows: int) -> None:
        """New rows, after all others."""
        self.cohorts.append((rows, layers))

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Take in every row's newest token, which is given back."""
        for some, layer in self._layers(layer_idx):
            layer.update(key_states[some], value_states[some])
        return key_states, value_states

    def keep(self, alive: Tensor) -> None:
        """Let all rows go but these, given in order."""
        kept, start = [], 0
        for rows, layers in self.cohorts:
            chosen = alive[(alive >= start) & (alive < start + rows)] - start
            start += rows
            if len(chosen) and len(chosen) < rows:
                for layer in layers:
                    # Not batch_select_indices, which leaves a layer without tokens as it is.
                    assert layer.keys is not None and layer.values is not None
                    layer.keys, layer.values = layer.keys[chosen], layer.values[chosen]
            if len(chosen):
                kept.append((len(chosen), layers))
        self.cohorts = kept

    def of(self, layer: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Rows, keys and values of a layer, cohort after cohort."""
        for some, found in self._layers(layer):
            assert found.keys is not None and found.values is not None
            yield some, found.keys, found.values

    def _layers(self, layer: int) -> Iterator[tuple[slice, RoomyLayer]]:
        start = 0
        for rows, layers in self.cohorts:
            yield slice(start, start + rows), layers[layer]
            start += rows

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Of the oldest rows, after the prompt: models ask, though they are told every position."""
        return self.cohorts[0][1][layer_idx].get_seq_length()


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
def _attention(config: PreTrainedConfig, name: str) -> Iterator[None]:
    before = config._attn_implementation
    config._attn_implementation = name
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


def _bias(mask_NT: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores [N, ..., T]: minus infinity where there is nothing to attend to."""
    nothing = torch.zeros(mask_NT.shape, dtype=dtype, device=mask_NT.device)
    return nothing.masked_fill_(~mask_NT, -torch.inf)[:, None, None, :]
