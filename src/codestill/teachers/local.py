"""Settings of a teacher with local weights. Importing this module does not import torch."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import model_validator

from codestill.models.settings import ChatConfig, Dtype, Placement

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from codestill.teachers.frozen import LocalTeacher


class LocalTeacherConfig(ChatConfig):
    """A causal language model from a directory, GGUF file or the hub. A plain string stands for ``model``."""

    type: Literal["local"] = "local"
    """Local weights, which give text and logits."""
    model: str = "bigcode/starcoder2-3b"
    """A directory, GGUF file or hub id (`pocket` is bundled); of an endpoint, the model's name there."""
    revision: str | None = None
    """Branch, tag or commit of `model` on the hub."""
    dtype: Dtype = "bfloat16"
    """Data type of the weights in memory."""
    trust_remote_code: bool = False
    """Execute Python code that comes with `model`; review that code first."""

    @classmethod
    def from_text(cls, text: str) -> dict[str, Any]:
        """The settings that a string stands for."""
        return {"model": text}

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        return cls.from_text(value) if isinstance(value, str) else value

    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The model's tokenizer alone. Raises ModelError if it cannot be loaded."""
        from codestill.models.load import resolve
        from codestill.models.tokenizers import load_tokenizer

        return load_tokenizer(
            resolve(self.model), revision=self.revision, trust_remote_code=self.trust_remote_code
        )

    def build(self, placement: Placement | None = None) -> "LocalTeacher":
        """Load the teacher, frozen. Raises ModelError if it cannot be loaded, or has no chat template that is
        asked for."""
        from codestill.teachers.frozen import LocalTeacher

        placement = placement or Placement()
        teacher = LocalTeacher.load(
            self.model,
            revision=self.revision,
            dtype=self.dtype,
            trust_remote_code=self.trust_remote_code,
            device=placement.device,
        )
        teacher.placement = placement
        return teacher.asked_as(self, "teacher.chat")
