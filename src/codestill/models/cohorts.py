"""Keys and values of prompts that were read once, and of rows that joined a batch together and share them.

What is here is what the attention of :mod:`codestill.models.shared` reads. A cohort's rows have as many
tokens after their prompts, and its prompts are padded to the longest of them alone: little is read in vain.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from codestill.models.decode import Prompt, RoomyLayer, longer, prefill, unused_columns


@dataclass
class ReadPrompts:
    """G prompts, padded on the left to P tokens."""

    prompts: list[Prompt]
    logits_GV: Tensor
    """Of the token after each."""
    last_G: Tensor
    """Each one's last position."""
    mask_GP: Tensor
    keys_GHPD: list[Tensor]
    """Of each layer; and the values."""
    values_GHPD: list[Tensor]

    @classmethod
    def of(cls, model: PreTrainedModel, prompts: Sequence[Prompt], pad: int) -> "ReadPrompts":
        """Prefill. Raises NotImplementedError where the model's cache is of a kind that cannot be shared."""
        logits_GV, cache, mask_GP, last_G = prefill(model, prompts, pad)
        if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers):
            raise NotImplementedError("a cache of another kind")
        keys, values = ([getattr(layer, name) for layer in cache.layers] for name in ("keys", "values"))
        return cls(list(prompts), logits_GV, last_G, mask_GP.bool(), keys, values)

    @classmethod
    def joined(cls, parts: "Sequence[ReadPrompts]") -> "ReadPrompts":
        """All prompts of the parts, padded to the longest."""
        if len(parts) == 1:
            return parts[0]
        length = max(part.mask_GP.shape[1] for part in parts)
        layers = range(len(parts[0].keys_GHPD))

        def padded(tensors: Iterable[Tensor], dimension: int) -> Tensor:
            return torch.cat([longer(tensor, length, dimension) for tensor in tensors])

        return cls(
            [prompt for part in parts for prompt in part.prompts],
            torch.cat([part.logits_GV for part in parts]),
            torch.cat([part.last_G for part in parts]),
            padded((part.mask_GP for part in parts), 1),
            [padded((part.keys_GHPD[layer] for part in parts), 2) for layer in layers],
            [padded((part.values_GHPD[layer] for part in parts), 2) for layer in layers],
        )

    def chosen(self, indices: Sequence[int]) -> "ReadPrompts":
        """Some of the prompts, without the columns that only others needed."""
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


class Cohort:
    """B rows that joined together, each with a prompt of ``read`` and what came after it."""

    def __init__(self, read: ReadPrompts, group_B: Tensor) -> None:
        self.read = read
        self.rest = [RoomyLayer.empty(keys, len(group_B)) for keys in read.keys_GHPD]
        self._seat(group_B)

    def __len__(self) -> int:
        return len(self.group_B)

    def keep(self, alive: Tensor) -> None:
        """Let all other rows go, and the prompts that only they had."""
        left_G, group_B = self.group_B[alive].unique(return_inverse=True)
        if len(left_G) < len(self.read.prompts):
            self.read = self.read.chosen(left_G.tolist())
        for layer in self.rest:
            layer.batch_select_indices(alive)
        self._seat(group_B)

    def _seat(self, group_B: Tensor) -> None:
        """Give every row a place among those of its prompt."""
        self.group_B = group_B
        taken = [0] * len(self.read.prompts)
        seats = []
        for group in group_B.tolist():
            seats.append(taken[group])
            taken[group] += 1
        self.seats = max(taken, default=0)
        seat_B = torch.tensor(seats, dtype=torch.long, device=group_B.device)
        self.places = group_B, slice(None), seat_B
        self.bias_G11P = _bias(self.read.mask_GP, self.read.logits_GV.dtype)

    def attend(self, layer: int, query_BHRD: Tensor) -> Tensor:
        """Attention of each row's newest token to its prompt and to what came after: [B, H, R, D].

        The R query heads that share a head of keys stand together; queries are scaled already."""
        keys_GHPD, values_GHPD = self.read.keys_GHPD[layer], self.read.values_GHPD[layer]
        keys_BHTD, values_BHTD = self.rest[layer].held
        G, H, P, D = keys_GHPD.shape
        R = query_BHRD.shape[2]
        query_GHNRD = query_BHRD.new_zeros(G, H, self.seats, R, D)
        query_GHNRD[self.places] = query_BHRD
        of_prompt = query_GHNRD.view(G, H, -1, D) @ keys_GHPD.transpose(2, 3) + self.bias_G11P
        of_prompt_BHRP = of_prompt.view(G, H, self.seats, R, P)[self.places]
        scores = torch.cat([of_prompt_BHRP, query_BHRD @ keys_BHTD.transpose(2, 3)], dim=-1)
        weights = scores.softmax(dim=-1, dtype=torch.float32).to(query_BHRD.dtype)
        weights_GHNRP = weights.new_zeros(G, H, self.seats, R, P)
        weights_GHNRP[self.places] = weights[..., :P]
        found_GHNRD = (weights_GHNRP.view(G, H, -1, P) @ values_GHPD).view(G, H, self.seats, R, D)
        return found_GHNRD[self.places] + weights[..., P:] @ values_BHTD


def _bias(mask_NT: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores [N, ..., T]: minus infinity where there is nothing to attend to."""
    nothing = torch.zeros(mask_NT.shape, dtype=dtype, device=mask_NT.device)
    return nothing.masked_fill_(~mask_NT, -torch.inf)[:, None, None, :]
