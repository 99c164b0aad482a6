"""A frozen local model as a teacher of text and logits."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from codestill.losses.targets import LinearTeacher
from codestill.models.fingerprints import weights_fingerprint
from codestill.models.heads import linear_head
from codestill.models.student import LanguageModel


@dataclass
class LocalTeacher(LanguageModel):
    """A language model in eval mode whose weights take no gradient."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.model.eval().requires_grad_(False)

    @cached_property
    def head(self) -> nn.Parameter | None:
        """The last matrix, where the logits are it times the hidden states; see ``linear_head``."""
        return linear_head(self.model)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What an answer depends on besides request, sampling and seed."""
        return {"model": self.name, "weights": weights_fingerprint(self.model)}

    # Not inference_mode: its tensors cannot be saved for the student's backward pass.
    @torch.no_grad()
    def logits(self, tokens_BT: Tensor, attention_mask_BT: Tensor) -> Tensor:
        """Logits [B, T, V] in the model's dtype, on its device; position t predicts token t + 1.

        Padding may stand on either side; positions are counted over attended tokens.
        """
        return self.model(**self._inputs(tokens_BT, attention_mask_BT)).logits

    @torch.no_grad()
    def linear(self, tokens_BT: Tensor, attention_mask_BT: Tensor) -> LinearTeacher | None:
        """The same before the last matrix, which a loss then takes a chunk at a time; None where the logits
        are not its product with the hidden states alone."""
        if self.head is None:
            return None
        body = self.model.base_model
        return LinearTeacher(body(**self._inputs(tokens_BT, attention_mask_BT)).last_hidden_state, self.head)

    def _inputs(self, tokens_BT: Tensor, attention_mask_BT: Tensor) -> dict[str, Tensor | bool]:
        device = self.model.device
        mask_BT = attention_mask_BT.to(device)
        positions_BT = (mask_BT.cumsum(dim=1) - 1).clamp(min=0)
        return {
            "input_ids": tokens_BT.to(device),
            "attention_mask": mask_BT,
            "position_ids": positions_BT,
            "use_cache": False,
        }
