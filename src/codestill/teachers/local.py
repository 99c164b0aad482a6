"""A teacher whose weights are on this machine: what a run says about it. Nothing here imports torch."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from codestill.models.config import Device, Dtype

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from codestill.teachers.frozen import LocalTeacher


class LocalTeacherConfig(BaseModel):
    """A causal language model from a directory or the hub. A plain string stands for ``model``."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    type: Literal["local"] = "local"
    """Weights on this machine, which give text and logits."""
    model: str = "bigcode/starcoder2-3b"
    """A directory or hub id (`pocket` is the bundled teacher); of an endpoint, the model's name there."""
    revision: str | None = None
    """Branch, tag or commit of `model` on the hub."""
    dtype: Dtype = "bfloat16"
    """Type of the weights in memory."""
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

    def build(self, device: Device = "auto") -> "LocalTeacher":
        """Load the teacher, frozen. Raises ModelError when it cannot be loaded."""
        from codestill.teachers.frozen import LocalTeacher

        return LocalTeacher.load(
            self.model,
            revision=self.revision,
            dtype=self.dtype,
            trust_remote_code=self.trust_remote_code,
            device=device,
        )
