"""Every teacher is a ``Completer``, which generates text; some also give their logits."""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from codestill.models.completer import Completer

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from codestill.losses.targets import LinearTeacher


@runtime_checkable
class LogitTeacher(Completer, Protocol):
    """A teacher that also gives its logits over given tokens."""

    @property
    def tokenizer(self) -> "PreTrainedTokenizerBase": ...

    @property
    def vocabulary_size(self) -> int:
        """Width V of the logits."""
        ...

    def logits(self, tokens_BT: "Tensor", attention_mask_BT: "Tensor") -> "Tensor":
        """Logits [B, T, V]; position t predicts token t + 1. No gradient flows."""
        ...

    def linear(self, tokens_BT: "Tensor", attention_mask_BT: "Tensor") -> "LinearTeacher | None":
        """Hidden states and output matrix, whose product are the logits, for a loss that computes them chunk
        by chunk; None if the logits are computed otherwise."""
        ...
