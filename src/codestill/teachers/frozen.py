"""A frozen local model as a teacher of text and logits."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from codestill.losses.targets import LinearTeacher
from codestill.models.completer import Decoding
from codestill.models.fingerprints import weights_fingerprint
from codestill.models.heads import linear_head
from codestill.models.student import LanguageModel
from codestill.models.tokenizers import encode_prompt
from codestill.types import Completion, Request


@dataclass
class LocalTeacher(LanguageModel):
    """A language model in eval mode whose weights take no gradient."""

    chat: bool = False
    """Whether what it is asked goes into its tokenizer's chat template."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.model.eval().requires_grad_(False)

    @cached_property
    def head(self) -> nn.Parameter | None:
        """The last matrix, where the logits are it times the hidden states; see ``linear_head``."""
        return linear_head(self.model)

    @property
    def identity(self) -> dict[str, Any]:
        """What an answer depends on besides request, sampling and seed."""
        return {"model": self.name, "weights": self.fingerprint, "chat": self.chat}

    @cached_property
    def fingerprint(self) -> str:
        """Of its weights."""
        return weights_fingerprint(self.model)

    def complete(self, requests: Iterable[Request], decoding: Decoding) -> Iterator[Completion]:
        """Yield one Completion per request as each ends."""
        if self.chat:
            requests = [one.model_copy(update={"prompt": self._as_chat(one.prompt)}) for one in requests]
        return super().complete(requests, decoding)

    def _as_chat(self, prompt: str) -> str:
        messages = [{"role": "user", "content": prompt}]
        text = str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        # Templates begin with a token that many tokenizers put there once more.
        start = self.tokenizer.bos_token
        twice = bool(start) and encode_prompt(self.tokenizer, "a")[0] == self.tokenizer.bos_token_id
        return text.removeprefix(str(start)) if twice else text

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
