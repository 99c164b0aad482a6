"""A frozen local model as a teacher of text and logits."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from codestill import matmul
from codestill.losses.targets import LinearTeacher
from codestill.models.decode import takes
from codestill.models.fingerprints import weights_fingerprint
from codestill.models.heads import linear_head
from codestill.models.student import LanguageModel


@dataclass
class LocalTeacher(LanguageModel):
    """A language model in eval mode whose weights get no gradient."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.model.eval().requires_grad_(False)
        matmul.take_slices(self.model.get_output_embeddings())

    @cached_property
    def head(self) -> nn.Parameter | None:
        """The output matrix, if the logits are its product with the hidden states; see ``linear_head``."""
        return linear_head(self.model)

    @property
    def identity(self) -> dict[str, Any]:
        """What an answer depends on besides request, sampling and seed."""
        return {
            "model": self.name,
            "weights": self.fingerprint,
            "chat": self.form.model_dump() if self.form else False,
        }

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the weights."""
        return weights_fingerprint(self.model)

    # Not inference_mode: its tensors cannot be saved for the student's backward pass.
    @torch.no_grad()
    def logits(self, tokens_BT: Tensor, attention_mask_BT: Tensor) -> Tensor:
        """Logits [B, T, V] in the model's dtype, on its device; position t predicts token t + 1.

        Padding may be on either side; positions are counted over attended tokens.
        """
        return self.model(**self._inputs(self.model, tokens_BT, attention_mask_BT)).logits

    @torch.no_grad()
    def linear(self, tokens_BT: Tensor, attention_mask_BT: Tensor) -> LinearTeacher | None:
        """Hidden states and output matrix, which a loss multiplies chunk by chunk; None if the logits are not
        simply their product."""
        if self.head is None:
            return None
        body = self.model.base_model
        hidden_BTD = body(**self._inputs(body, tokens_BT, attention_mask_BT)).last_hidden_state
        return LinearTeacher(hidden_BTD, self.head)

    def _inputs(self, model: nn.Module, tokens_BT: Tensor, attention_mask_BT: Tensor) -> dict[str, Any]:
        device = self.model.device
        mask_BT = attention_mask_BT.to(device)
        positions_BT = (mask_BT.cumsum(dim=1) - 1).clamp(min=0)
        positions = {"position_ids": positions_BT} if takes(type(model), "position_ids") else {}
        return {"input_ids": tokens_BT.to(device), "attention_mask": mask_BT, "use_cache": False} | positions
