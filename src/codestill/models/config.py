"""What a run says about its student and about sampling. Nothing here imports torch."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from codestill.models.presets import PRESET_NAMES, PresetName

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from codestill.models.student import Student

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["float32", "bfloat16"]
DEFAULT_TOKENIZER = "bigcode/starcoder2-3b"


class SamplingConfig(BaseModel):
    """How completions are drawn from a local model."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy decoding."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Draw from the smallest set of tokens that holds this much probability (nucleus sampling)."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Longest completion, in tokens; a model's position limit may end it earlier."""
    batch_size: int = Field(default=192, ge=1)
    """Completions decoded together. Changes speed and memory; results only by float rounding."""


class StudentConfig(BaseModel):
    """The model to be trained: a preset with fresh weights, or any causal language model.

    A plain string stands for a preset's name, else for a directory or hub id.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    preset: PresetName | None = None
    """A shape that ships with codestill, with fresh weights; `codestill students` lists them."""
    model: str | None = None
    """A directory or hub id of a causal language model, instead of a preset; `pocket-base` is
    bundled."""
    from_scratch: bool = False
    """With `model`: take its shape only, and start from fresh weights."""
    tokenizer: str | None = None
    """A directory or hub id. By default the model's own; a preset takes the teacher's where there is one,
    else bigcode/starcoder2-3b (pocket presets: the pocket tokenizer)."""
    revision: str | None = None
    """Branch, tag or commit of `model` on the hub."""
    trust_remote_code: bool = False
    """Run Python code that comes with `model`. Read that code first."""
    dtype: Dtype = "float32"
    """Type of the weights in memory and in the saved student."""

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"preset" if value in PRESET_NAMES else "model": value}
        return value

    @model_validator(mode="after")
    def _one_origin(self) -> "StudentConfig":
        if (self.preset is None) == (self.model is None):
            raise ValueError("give exactly one of `preset` and `model`")
        return self

    def build(
        self, tokenizer: "PreTrainedTokenizerBase | None" = None, device: Device = "auto", seed: int = 0
    ) -> "Student":
        """Make or load the student; ``tokenizer`` (the teacher's) serves presets that name none.

        ``seed`` decides fresh weights.

        Raises ModelError when it cannot be loaded, VocabularyError when the tokenizer has more ids than
        the model has rows.
        """
        from codestill.models.student import build_student

        return build_student(self, tokenizer, device, seed)
