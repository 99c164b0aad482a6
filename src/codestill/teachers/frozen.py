"""A frozen local model as a teacher of text and logits."""

from dataclasses import dataclass

import torch
from torch import Tensor

from codestill.models.student import LanguageModel


@dataclass
class LocalTeacher(LanguageModel):
    """A language model in eval mode whose weights take no gradient."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.model.eval().requires_grad_(False)

    # Not inference_mode: its tensors cannot be saved for the student's backward pass.
    @torch.no_grad()
    def logits(self, tokens_BT: Tensor, attention_mask_BT: Tensor) -> Tensor:
        """Logits [B, T, V] in the model's dtype, on its device; position t predicts token t + 1.

        Padding may stand on either side; positions are counted over attended tokens.
        """
        device = self.model.device
        mask_BT = attention_mask_BT.to(device)
        positions_BT = (mask_BT.cumsum(dim=1) - 1).clamp(min=0)
        return self.model(
            input_ids=tokens_BT.to(device),
            attention_mask=mask_BT,
            position_ids=positions_BT,
            use_cache=False,
        ).logits
