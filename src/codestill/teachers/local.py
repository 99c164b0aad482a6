"""A teacher whose weights are on this machine: what a run says about it. Nothing here imports torch."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import model_validator

from codestill.errors import ModelError
from codestill.models.settings import Dtype, Placement
from codestill.types import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from codestill.teachers.frozen import LocalTeacher


class LocalTeacherConfig(Settings):
    """A causal language model from a directory or the hub. A plain string stands for ``model``."""

    type: Literal["local"] = "local"
    """Weights on this machine, which give text and logits."""
    model: str = "bigcode/starcoder2-3b"
    """A directory or hub id (`pocket` is the bundled teacher); of an endpoint, the model's name there."""
    revision: str | None = None
    """Branch, tag or commit of `model` on the hub."""
    dtype: Dtype = "bfloat16"
    """Type of the weights in memory."""
    chat: bool = False
    """Put what it is asked into its tokenizer's chat template, as models that follow instructions want."""
    trust_remote_code: bool = False
    """Run Python code that comes with `model`. Read that code first."""

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """Its tokenizer alone. Raises ModelError when it cannot be loaded."""
        from codestill.models.load import resolve
        from codestill.models.tokenizers import load_tokenizer

        return load_tokenizer(
            resolve(self.model), revision=self.revision, trust_remote_code=self.trust_remote_code
        )

    def build(self, placement: Placement | None = None) -> "LocalTeacher":
        """Load the teacher, frozen. Raises ModelError when it cannot be loaded, or has no chat template to
        use."""
        from codestill.teachers.frozen import LocalTeacher

        placement = placement or Placement()
        teacher = LocalTeacher.load(
            self.model,
            revision=self.revision,
            dtype=self.dtype,
            trust_remote_code=self.trust_remote_code,
            device=placement.device,
        )
        if self.chat and not teacher.tokenizer.chat_template:
            raise ModelError(
                f"teacher.chat is set, and the tokenizer of {self.model} has no chat template.",
                next_step="Unset teacher.chat, or take the model's instruction-tuned version.",
            )
        teacher.chat, teacher.placement = self.chat, placement
        return teacher
