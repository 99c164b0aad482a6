"""Keys and values of rows that are decoded together, one token at a time, for any model.

For most models ``codestill.models.shared`` needs less memory and time.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer

from codestill.models.settings import Placement

ROOM = 16
"""Tokens that a cache has room for beyond those it holds, so that appending one does not copy all."""
PREFILL_TOKENS = Placement().prefill_tokens
NO_LIMIT = 2**31
Prompt = tuple[int, ...]
T = TypeVar("T")


@dataclass
class Reading:
    """Counts prompts as they are read, pass by pass."""

    tell: Callable[[int, int], None] = lambda read, total: None
    """Called with the prompts that have been read, and with all of them."""
    read: int = 0
    total: int = 0

    def begin(self, total: int) -> None:
        """So many prompts are to be read."""
        self.read, self.total = 0, total
        if total:
            self.tell(0, total)

    def passes(self, parts: Iterable[list[T]]) -> Iterator[list[T]]:
        """The parts, one after another; each has been read when the next is asked for."""
        for part in parts:
            yield part
            self.read += len(part)
            self.tell(self.read, self.total)


class Memory(Protocol):
    """The keys and values of a batch's rows."""

    reading: Reading
    """Told of the prompts that :meth:`add` reads."""
    prefill_tokens: int
    """Of prompts, at most so many tokens are read in one pass, or one prompt."""

    @property
    def takes_more(self) -> bool:
        """Whether further rows may join."""
        ...

    def add(self, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """Prefill a row for each prompt: its next token's logits [B, V], and its last position [B]."""
        ...

    def keep(self, alive: Tensor) -> None:
        """Drop all other rows."""
        ...

    def step(self, tokens_B: Tensor, positions_B: Tensor) -> Tensor:
        """Append a token to every row: the next token's logits [B, V]."""
        ...


def forward_last(
    model: PreTrainedModel,
    tokens_BT: Tensor,
    mask_BT: Tensor | None,
    positions_BT: Tensor,
    cache: Any = None,
    **more: Any,
) -> tuple[Tensor, Any]:
    """Logits [B, V] after the last token, and the model's cache (None where it returns none); the head runs
    on that token only."""
    kind = type(model)
    name = next(filter(partial(takes, kind), ("past_key_values", "cache_params", "state")), None)
    more |= {name: cache} if name else {}
    more |= {"position_ids": positions_BT} if takes(kind, "position_ids") else {}
    more |= {"logits_to_keep": 1} if takes(kind, "logits_to_keep") else {}
    output = model(input_ids=tokens_BT, attention_mask=mask_BT, use_cache=True, **more)
    return output.logits[:, -1], getattr(output, name or "", None)


@functools.cache
def takes(model: type[torch.nn.Module], argument: str) -> bool:
    """Whether a pass through the model names an argument; a state-space model's or one's from the hub may
    lack what others have."""
    return argument in inspect.signature(model.forward).parameters


def chunks(prompts: Sequence[Prompt], tokens: int) -> list[list[Prompt]]:
    """The prompts, the longest first, in groups whose padded size is ``tokens`` at most; one that is longer
    stands alone."""
    parts: list[list[Prompt]] = []
    for prompt in sorted(prompts, key=len, reverse=True):
        if not parts or len(parts[-1][0]) * (len(parts[-1]) + 1) > tokens:
            parts.append([])
        parts[-1].append(prompt)
    return parts


def prefill(
    model: PreTrainedModel, prompts: Sequence[Prompt], pad: int
) -> tuple[Tensor, Any, Tensor, Tensor]:
    """Logits [P, V] after each prompt, the cache, its mask [P, T], and each prompt's last position [P]; in
    one pass."""
    longest = max(map(len, prompts))
    ids = [[pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    tokens_PT, mask_PT = (torch.tensor(rows, device=model.device) for rows in (ids, mask))
    positions_PT = (mask_PT.cumsum(dim=1) - 1).clamp(min=0)
    logits_PV, cache = forward_last(model, tokens_PT, mask_PT, positions_PT)
    return logits_PV, cache, mask_PT, positions_PT[:, -1]


_token_numbers: "WeakKeyDictionary[PreTrainedModel, int]" = WeakKeyDictionary()


@torch.inference_mode()
def bytes_per_token(model: PreTrainedModel) -> int:
    """Keys and values of a token in all layers, seen in a pass over two tokens; 0 for a model without."""
    if model not in _token_numbers:
        tokens_1T = torch.zeros((1, 2), dtype=torch.long, device=model.device)
        _, cache = forward_last(model, tokens_1T, None, torch.arange(2, device=model.device)[None])
        held = [getattr(x, name, None) for x in getattr(cache, "layers", ()) for name in ("keys", "values")]
        _token_numbers[model] = sum(x.numel() for x in held if isinstance(x, Tensor)) // 2
    return _token_numbers[model] * model.dtype.itemsize


class OwnPrompts:
    """Every row holds its own copy of its prompt's keys and values, padded on the left."""

    def __init__(self, model: PreTrainedModel, pad: int, prefill_tokens: int = PREFILL_TOKENS) -> None:
        self.model, self.pad = model, pad
        self.cache: Any = None
        self.mask_BT = torch.empty(0)
        layers = DynamicCache(config=model.config).layers
        # A sliding window's layer drops the tokens before its window, and cannot be padded later.
        self.prefill_tokens = prefill_tokens if all(type(x) is DynamicLayer for x in layers) else NO_LIMIT
        self.reading = Reading()

    @property
    def takes_more(self) -> bool:
        """False with a sliding-window layer, which has dropped the tokens before its window."""
        plain = (DynamicLayer, RoomyLayer)
        return self.cache is None or all(type(layer) in plain for layer in self.cache.layers)

    def add(self, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """See :class:`Memory`."""
        parts = chunks(list(dict.fromkeys(prompts)), self.prefill_tokens)
        index = {prompt: i for i, prompt in enumerate(prompt for part in parts for prompt in part)}
        chosen_B = torch.tensor([index[prompt] for prompt in prompts], device=self.model.device)
        self.reading.begin(len(index))
        logits, caches, masks, last = zip(
            *(prefill(self.model, part, self.pad) for part in self.reading.passes(parts)), strict=True
        )
        cache, mask_PT = joined(caches, masks)
        cache.batch_select_indices(chosen_B)
        cache.layers = [RoomyLayer.of(x) if type(x) is DynamicLayer else x for x in cache.layers]
        mask_BT = mask_PT[chosen_B]
        if self.cache is not None:
            cache, mask_BT = joined((self.cache, cache), (self.mask_BT, mask_BT))
        self.cache, self.mask_BT = cache, mask_BT
        return torch.cat(logits)[chosen_B], torch.cat(last)[chosen_B]

    def keep(self, alive: Tensor) -> None:
        """Drop all other rows, and the columns that only they needed."""
        if not len(alive):
            self.cache = None
            return
        self.mask_BT = self.mask_BT[alive]
        self.cache.batch_select_indices(alive)
        if self.takes_more:
            self.mask_BT = trim(self.cache, self.mask_BT)

    def step(self, tokens_B: Tensor, positions_B: Tensor) -> Tensor:
        """See :class:`Memory`."""
        self.mask_BT = torch.cat([self.mask_BT, self.mask_BT.new_ones(len(tokens_B), 1)], dim=1)
        logits_BV, self.cache = forward_last(
            self.model, tokens_B[:, None], self.mask_BT, positions_B[:, None], self.cache
        )
        return logits_BV


class WholeTexts:
    """Nothing is kept: every step reads all rows from their beginning. Slow, and right for any model."""

    takes_more = True

    def __init__(self, model: PreTrainedModel, prefill_tokens: int = PREFILL_TOKENS) -> None:
        self.model, self.prefill_tokens = model, prefill_tokens
        self.texts: list[list[int]] = []
        self.reading = Reading()

    def add(self, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """See :class:`Memory`."""
        texts = [list(prompt) for prompt in prompts]
        self.texts += texts
        last_B = torch.tensor([len(text) - 1 for text in texts], device=self.model.device)
        self.reading.begin(len(texts))
        return self._logits(texts, self.reading), last_B

    def keep(self, alive: Tensor) -> None:
        """Drop all other rows."""
        self.texts = [self.texts[row] for row in alive.tolist()]

    def step(self, tokens_B: Tensor, positions_B: Tensor) -> Tensor:
        """See :class:`Memory`."""
        for text, token, position in zip(self.texts, tokens_B.tolist(), positions_B.tolist(), strict=True):
            text[position:] = [token]  # a row that has ended stays at its last position
        return self._logits(self.texts, Reading())

    def _logits(self, texts: Sequence[Sequence[int]], reading: Reading) -> Tensor:
        """Texts of equal length together, so that no padding disturbs a model."""
        by_length: dict[int, list[int]] = {}
        for row, text in enumerate(texts):
            by_length.setdefault(len(text), []).append(row)
        sizes = {length: max(1, self.prefill_tokens // length) for length in by_length}
        alike = [
            rows[start : start + sizes[length]]
            for length, rows in by_length.items()
            for start in range(0, len(rows), sizes[length])
        ]
        keep = {"logits_to_keep": 1} if takes(type(self.model), "logits_to_keep") else {}
        parts = []
        for rows in reading.passes(alike):
            tokens_BT = torch.tensor([texts[row] for row in rows], device=self.model.device)
            parts.append(self.model(input_ids=tokens_BT, use_cache=False, **keep).logits[:, -1])
        order = torch.tensor([row for rows in alike for row in rows], device=self.model.device)
        return torch.cat(parts)[order.argsort()]


class RoomyLayer(DynamicLayer):
    """A cache layer with room for further tokens: one more is written in place, and nothing is copied."""

    room: list[tuple[Tensor, Tensor]]
    """For keys and for values: the memory, and the view of it returned last."""

    @classmethod
    def of(cls, layer: Any) -> "RoomyLayer":
        """A layer with the same content."""
        roomy = cls()
        roomy.lazy_initialization(layer.keys, layer.values)
        roomy.keys, roomy.values, roomy.room = layer.keys, layer.values, []
        return roomy

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
        # Once rows or columns were selected, these are not the view returned last: they get their own memory.
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
    """Cut the cache's columns that no row uses; returns the mask without them."""
    if unused := unused_columns(mask_BT):
        for layer in cache.layers:
            layer.keys, layer.values = layer.keys[:, :, unused:], layer.values[:, :, unused:]
    return mask_BT[:, unused:]


def unused_columns(mask_BT: Tensor) -> int:
    """Number of columns before the first that a row uses."""
    if not mask_BT.numel():
        return 0
    return int(mask_BT.any(dim=0).to(torch.uint8).argmax())


def joined(caches: Sequence[Any], masks: Sequence[Tensor]) -> tuple[Any, Tensor]:
    """The rows of all caches in the first, padded on the left to the longest, and their mask [B, T]."""
    if len(caches) == 1:
        return caches[0], masks[0]
    length = max(mask_BT.shape[1] for mask_BT in masks)
    for first, *others in zip(*(cache.layers for cache in caches), strict=True):
        first.keys = torch.cat([longer(layer.keys, length, 2) for layer in (first, *others)])
        first.values = torch.cat([longer(layer.values, length, 2) for layer in (first, *others)])
        for layer in others:  # memory grows by a layer at a time
            layer.keys = layer.values = None
    return caches[0], torch.cat([longer(mask_BT, length, 1) for mask_BT in masks])


def longer(tensor: Tensor, length: int, dimension: int) -> Tensor:
    """The tensor, padded to ``length`` with zeros at the front of a dimension."""
    shape = list(tensor.shape)
    shape[dimension] = length - shape[dimension]
    return torch.cat([tensor.new_zeros(shape), tensor], dim=dimension)
