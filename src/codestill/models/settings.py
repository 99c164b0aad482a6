"""How models are run and sampled from. Nothing here imports torch, or another file of this room."""

from typing import Literal

from pydantic import Field

from codestill.types import Settings

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["float32", "bfloat16"]
DEFAULT_TOKENIZER = "bigcode/starcoder2-3b"


class SamplingConfig(Settings):
    """How completions are drawn from a local model."""

    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy decoding."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Draw from the smallest set of tokens that holds this much probability (nucleus sampling)."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Longest completion, in tokens; a model's position limit may end it earlier."""
    batch_size: int = Field(default=192, ge=1)
    """Completions decoded together. Changes speed and memory; results only by float rounding."""
