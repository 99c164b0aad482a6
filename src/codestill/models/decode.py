"""Keys and values of rows that are decoded together, a token at a time, as any model allows.

``codestill.models.shared`` does it with less memory and time for most models.
"""

import functools
import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicLayer

ROOM = 16
"""Tokens that a cache has room for beyond those it holds, so that one more is no copy of all."""
Prompt = tuple[int, ...]


class Memory(Protocol):
    """The rows' keys and values."""

    @property
    def takes_more(self) -> bool:
        """Whether rows may join those that are here."""
        ...

    def add(self, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """Prefill, a row for each of these: its next token's logits [B, V], and its last position [B]."""
        ...

    def keep(self, alive: Tensor) -> None:
        """Let all rows go but these."""
        ...

    def step(self, tokens_B: Tensor, positions_B: Tensor) -> Tensor:
        """Read a token for every row: the next one's logits [B, V]."""
        ...


def forward_last(
    model: PreTrainedModel,
    tokens_BT: Tensor,
    mask_BT: Tensor | None,
    positions_BT: Tensor,
    cache: Any = None,
    **more: Any,
) -> tuple[Tensor, Any]:
    """Logits [B, V] after the last token, and the KV cache; the head runs on that token only."""
    if _takes_logits_to_keep(type(model)):
        more["logits_to_keep"] = 1
    output = model(
        input_ids=tokens_BT,
        attention_mask=mask_BT,
        position_ids=positions_BT,
        past_key_values=cache,
        use_cache=True,
        **more,
    )
    return output.logits[:, -1], output.past_key_values


@functools.cache
def _takes_logits_to_keep(model: type[PreTrainedModel]) -> bool:
    """Code from the hub may not."""
    return "logits_to_keep" in inspect.signature(model.forward).parameters


def prefill(
    model: PreTrainedModel, prompts: Sequence[Prompt], pad: int
) -> tuple[Tensor, Any, Tensor, Tensor]:
    """Logits [P, V] after each prompt, the cache, its mask [P, T], and each prompt's last position [P]."""
    longest = max(map(len, prompts))
    ids = [[pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    tokens_PT, mask_PT = (torch.tensor(rows, device=model.device) for rows in (ids, mask))
    positions_PT = (mask_PT.cumsum(dim=1) - 1).clamp(min=0)
    logits_PV, cache = forward_last(model, tokens_PT, mask_PT, positions_PT)
    return logits_PV, cache, mask_PT, positions_PT[:, -1]


class OwnPrompts:
    """Every row has its prompt's keys and values for itself, padded on the left."""

    def __init__(self, model: PreTrainedModel, pad: int) -> None:
        self.model, self.pad = model, pad
        self.cache: Any = None
        self.mask_BT = torch.empty(0)

    @property
    def takes_more(self) -> bool:
        """A layer with a window has lost what was before."""
        plain = (DynamicLayer, RoomyLayer)
        return self.cache is None or all(type(layer) in plain for layer in self.cache.layers)

    def add(self, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """As :class:`Memory` says."""
        each = list(dict.fromkeys(prompts))
        logits_PV, cache, mask_PT, last_P = prefill(self.model, each, self.pad)
        index = {prompt: i for i, prompt in enumerate(each)}
        chosen_B = torch.tensor([index[prompt] for prompt in prompts], device=self.model.device)
        cache.batch_select_indices(chosen_B)
        layers: list[Any] = [RoomyLayer.of(x) if type(x) is DynamicLayer else x for x in cache.layers]
        cache.layers = layers
        mask_BT = mask_PT[chosen_B]
        if self.cache is None:
            self.cache, self.mask_BT = cache, mask_BT
        else:
            length = max(mask_BT.shape[1], self.mask_BT.shape[1])
            for ours, theirs in zip(self.cache.layers, layers, strict=True):
                ours.keys = torch.cat([longer(x.keys, length, 2) for x in (ours, theirs)])
                ours.values = torch.cat([longer(x.values, length, 2) for x in (ours, theirs)])
            self.mask_BT = torch.cat([longer(x, length, 1) for x in (self.mask_BT, mask_BT)])
        return logits_PV[chosen_B], last_P[chosen_B]

    def keep(self, alive: Tensor) -> None:
        """Let all other rows go, and the columns that only they needed."""
        if not len(alive):
            self.cache = None
            return
        self.mask_BT = self.mask_BT[alive]
        self.cache.batch_select_indices(alive)
        if self.takes_more:
            self.mask_BT = trim(self.cache, self.mask_BT)

    def step(self, tokens_B: Tensor, positions_B: Tensor) -> Tensor:
        """As :class:`Memory` says."""
        self.mask_BT = torch.cat([self.mask_BT, self.mask_BT.new_ones(len(tokens_B), 1)], dim=1)
        logits_BV, self.cache = forward_last(
            self.model, tokens_B[:, None], self.mask_BT, positions_B[:, None], self.cache
        )
        return logits_BV


class RoomyLayer(DynamicLayer):
    """A cache layer that has room for tokens to come: one more is written in place, not copied with all."""

    room: list[tuple[Tensor, Tensor]]
    """Of keys and of values: the memory, and the view of it that was given last."""

    @classmethod
    def of(cls, layer: Any) -> "RoomyLayer":
        """The same content."""
        made = cls()
        made.lazy_initialization(layer.keys, layer.values)
        made.keys, made.values, made.room = layer.keys, layer.values, []
        return made

    @property
    def held(self) -> tuple[Tensor, Tensor]:
        """Keys and values [B, H, T, D]."""
        assert self.keys is not None and self.values is not None
        return self.keys, self.values

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        kept = self.held
        length = kept[0].shape[2] + key_states.shape[2]
        # What was selected or cut since is no longer the view that was given, and gets memory of its own.
        if not self.room or self.room[0][1] is not kept[0] or self.room[0][0].shape[2] < length:
            self.room = [(_roomy(held, length), held) for held in kept]
        for (whole, _), new in zip(self.room, (key_states, value_states), strict=True):
            whole[:, :, length - new.shape[2] : length] = new
        self.room = [(whole, whole[:, :, :length]) for whole, _ in self.room]
        (_, self.keys), (_, self.values) = self.room
        return self.keys, self.values


def _roomy(held_BHTD: Tensor, length: int) -> Tensor:
    B, H, T, D = held_BHTD.shape
    whole = held_BHTD.new_empty(B, H, length + ROOM, D)
    whole[:, :, :T] = held_BHTD
    return whole


def trim(cache: Any, mask_BT: Tensor) -> Tensor:
    """Cut the cache's columns that no row uses; gives the mask without them."""
    if unused := unused_columns(mask_BT):
        for layer in cache.layers:
            layer.keys, layer.values = layer.keys[:, :, unused:], layer.values[:, :, unused:]
    return mask_BT[:, unused:]


def unused_columns(mask_BT: Tensor) -> int:
    """Columns before the first that a row uses."""
    if not mask_BT.numel():
        return 0
    return int(mask_BT.any(dim=0).to(torch.uint8).argmax())


def longer(tensor: Tensor, length: int, dimension: int) -> Tensor:
    """Padded with zeros at the front of a dimension."""
    shape = list(tensor.shape)
    shape[dimension] = length - shape[dimension]
    return torch.cat([tensor.new_zeros(shape), tensor], dim=dimension)
