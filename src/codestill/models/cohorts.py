"""Keys and values of prompts that are prefilled once, and of the rows that joined a batch together.

The attention of :mod:`codestill.models.shared` reads them. A cohort's rows all have the same number of tokens
after their prompts, and its prompts are padded only to its longest, so that little is read in vain.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from codestill.models.decode import ROOM, Prompt, Reading, chunks, longer, prefill, unused_columns


@dataclass
class ReadPrompts:
    """G prompts, padded on the left to P tokens."""

    prompts: list[Prompt]
    logits_GV: Tensor
    """Logits of the token after each prompt."""
    last_G: Tensor
    """Each prompt's last position."""
    mask_GP: Tensor
    keys_GHPD: list[Tensor]
    """Keys of each layer; below, the values."""
    values_GHPD: list[Tensor]

    @classmethod
    def of(
        cls, model: PreTrainedModel, prompts: Sequence[Prompt], pad_id: int, tokens: int, reading: Reading
    ) -> "ReadPrompts":
        """Prefill, at most ``tokens`` in a pass. Raises NotImplementedError for a model whose kind of cache
        cannot be shared."""
        return cls.joined([cls._of(model, part, pad_id) for part in reading.passes(chunks(prompts, tokens))])

    @classmethod
    def _of(cls, model: PreTrainedModel, prompts: Sequence[Prompt], pad_id: int) -> "ReadPrompts":
        logits_GV, cache, mask_GP, last_G = prefill(model, prompts, pad_id)
        if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers):
            raise NotImplementedError("a cache of another kind")
        keys, values = ([getattr(layer, name) for layer in cache.layers] for name in ("keys", "values"))
        return cls(list(prompts), logits_GV, last_G, mask_GP.bool(), keys, values)

    @classmethod
    def joined(cls, parts: "Sequence[ReadPrompts]") -> "ReadPrompts":
        """The prompts of all parts, padded to the longest; the parts are used up, for their layers' memory
        is freed one by one."""
        if len(parts) == 1:
            return parts[0]
        length = max(part.mask_GP.shape[1] for part in parts)

        def padded(tensors: Iterable[Tensor], dimension: int) -> Tensor:
            return torch.cat([longer(tensor, length, dimension) for tensor in tensors])

        def layers(held: Sequence[list[Tensor]]) -> list[Tensor]:
            return [padded((layers.pop(0) for layers in held), 2) for _ in range(len(held[0]))]

        return cls(
            [prompt for part in parts for prompt in part.prompts],
            torch.cat([part.logits_GV for part in parts]),
            torch.cat([part.last_G for part in parts]),
            padded((part.mask_GP for part in parts), 1),
            layers([part.keys_GHPD for part in parts]),
            layers([part.values_GHPD for part in parts]),
        )

    def chosen(self, indices: Sequence[int]) -> "ReadPrompts":
        """A selection of the prompts, without the columns that only the others needed."""
        at = torch.tensor(indices, dtype=torch.long, device=self.last_G.device)
        mask_GP = self.mask_GP[at]
        unused = unused_columns(mask_GP)
        return ReadPrompts(
            [self.prompts[index] for index in indices],
            self.logits_GV[at],
            self.last_G[at],
            mask_GP[:, unused:],
            [keys[at, :, unused:] for keys in self.keys_GHPD],
            [values[at, :, unused:] for values in self.values_GHPD],
        )


class LaterTokens:
    """Keys and values of the T tokens after the prompts of B rows, with room for further ones.

    Attention reads the unused room too, masked: slicing it off would make the memory non-contiguous, which
    is several times slower."""

    def __init__(self, rows: int, like: Sequence[Tensor]) -> None:
        """``like``: each layer's keys of the prompts [G, H, P, D]."""
        self.heads = like[0].shape[1]
        self.keys_BHTD = [keys.new_empty(rows * self.heads, 0, keys.shape[3]) for keys in like]
        self.values_BHTD = list(self.keys_BHTD)
        self.bias_11T = like[0].new_empty(1, 1, 0)
        self.length = 0

    def add(self, layer: int, keys_BH1D: Tensor, values_BH1D: Tensor) -> None:
        """Append every row's newest token; the first layer comes first."""
        if layer == 0:
            if self.length == self.bias_11T.shape[2]:
                self.bias_11T = pad(self.bias_11T, (0, ROOM), value=-torch.inf)
            self.bias_11T[..., self.length] = 0
            self.length += 1
        for held, new in ((self.keys_BHTD, keys_BH1D), (self.values_BHTD, values_BH1D)):
            if held[layer].shape[1] < self.length:
                held[layer] = pad(held[layer], (0, 0, 0, ROOM))  # zeros: masked values must be finite
            held[layer].select(1, self.length - 1).copy_(new.flatten(0, 2))

    def keep(self, alive: Tensor) -> None:
        """Drop all other rows."""
        for held in (self.keys_BHTD, self.values_BHTD):
            for layer, tensor in enumerate(held):  # memory grows by a layer at most
                held[layer] = tensor.unflatten(0, (-1, self.heads))[alive].flatten(0, 1)


class Cohort:
    """B rows that joined together: each has one of the prompts of ``read``, and the tokens after it."""

    def __init__(self, read: ReadPrompts, group_B: Tensor) -> None:
        self.read = read
        self.later = LaterTokens(len(group_B), read.keys_GHPD)
        self._seat(group_B)

    def __len__(self) -> int:
        return len(self.group_B)

    def keep(self, alive: Tensor) -> None:
        """Drop all other rows, and the prompts that only they had."""
        left_G, group_B = self.group_B[alive].unique(return_inverse=True)
        if len(left_G) < len(self.read.prompts):
            self.read = self.read.chosen(left_G.tolist())
        self.later.keep(alive)
        self._seat(group_B)

    def _seat(self, group_B: Tensor) -> None:
        """Give every row one of the N places of its prompt, some of which may stay empty."""
        self.group_B = group_B
        taken = [0] * len(self.read.prompts)
        seats = []
        for group in group_B.tolist():
            seats.append(taken[group])
            taken[group] += 1
        G, H, N = len(taken), self.read.keys_GHPD[0].shape[1], max(taken, default=0)
        head_H = torch.arange(H, device=group_B.device)
        seat_B1 = group_B.new_tensor(seats)[:, None]
        # Rows and heads form one dimension, [B * H], as do places, [G * H * N].
        self.place_BH = ((group_B[:, None] * H + head_H) * N + seat_B1).flatten()
        self.row_GHN = group_B.new_zeros(G * H * N)  # an empty place repeats the first row
        self.row_GHN[self.place_BH] = torch.arange(len(self.place_BH), device=group_B.device)
        bias_G1P = _bias(self.read.mask_GP, self.read.logits_GV.dtype)
        self.bias_GH1P = bias_G1P.repeat_interleave(H, dim=0)
        self.keys_GHPD = [keys.flatten(0, 1) for keys in self.read.keys_GHPD]
        self.values_GHPD = [values.flatten(0, 1) for values in self.read.values_GHPD]

    def attend(self, layer: int, query_BHRD: Tensor) -> Tensor:
        """Attention of each row's newest token to its prompt and to the tokens after it: [B, H, R, D].

        The R query heads that share a head of keys are adjacent; queries are already scaled. At this size
        the kernel calls dominate, so rows and heads are one dimension and calls are few."""
        keys_GHPD, values_GHPD = self.keys_GHPD[layer], self.values_GHPD[layer]
        keys_BHTD, values_BHTD = self.later.keys_BHTD[layer], self.later.values_BHTD[layer]
        GH, P, D = keys_GHPD.shape
        R = query_BHRD.shape[2]
        query_BHX = query_BHRD.reshape(-1, R * D)
        query_GHND = query_BHX.index_select(0, self.row_GHN).view(GH, -1, D)
        of_prompt = torch.baddbmm(self.bias_GH1P, query_GHND, keys_GHPD.transpose(1, 2))
        of_prompt_BHRP = of_prompt.view(-1, R * P).index_select(0, self.place_BH).view(-1, R, P)
        rows_BHRD = query_BHX.view(-1, R, D)
        of_later_BHRT = torch.baddbmm(self.later.bias_11T, rows_BHRD, keys_BHTD.transpose(1, 2))
        scores = torch.cat([of_prompt_BHRP, of_later_BHRT], dim=-1)
        weights = scores.softmax(dim=-1, dtype=torch.float32).to(scores.dtype)
        weights_GHNX = weights.flatten(1).index_select(0, self.row_GHN).view(GH, -1, weights.shape[-1])
        output_GHND = torch.bmm(weights_GHNX[..., :P], values_GHPD)
        output_BHX = output_GHND.view(-1, R * D).index_select(0, self.place_BH)
        output = torch.baddbmm(output_BHX.view(-1, R, D), weights[..., P:], values_BHTD)
        return output.view(query_BHRD.shape)


def _bias(mask_NT: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores [N, 1, T]: minus infinity where the mask is False."""
    zeros = torch.zeros(mask_NT.shape, dtype=dtype, device=mask_NT.device)
    return zeros.masked_fill_(~mask_NT, -torch.inf)[:, None, :]
