"""What a recipe may ask of a teacher: text from every teacher, logits from some."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from codestill.models.settings import SamplingConfig
from codestill.types import Completion, Request

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from codestill.losses.targets import LinearTeacher


@runtime_checkable
class Teacher(Protocol):
    """A model that answers with text."""

    @property
    def name(self) -> str:
        """How tables and the ledger call it."""
        ...

    def complete(
        self,
        requests: Iterable[Request],
        sampling: SamplingConfig,
        stopped: Callable[[str], bool] | None = None,
        seed: int = 0,
    ) -> Iterator[Completion]:
        """Yield one Completion per request as it arrives, in any order; ``text`` is not yet cut."""
        ...


@runtime_checkable
class LogitTeacher(Teacher, Protocol):
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
        """The hidden states and the matrix that make those logits, so that they need not exist at once; None
        where they are made otherwise."""
        ...
