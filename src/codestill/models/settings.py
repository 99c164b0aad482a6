"""How models are run and sampled from. Nothing here imports torch, or another file of this room."""

from typing import Literal

from pydantic import Field, PositiveInt

from codestill.types import Settings

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["float32", "bfloat16"]
DEFAULT_TOKENIZER = "bigcode/starcoder2-3b"


class SamplingConfig(Settings):
    """How completions are sampled."""

    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy decoding."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample from the smallest set of tokens that holds this much probability (nucleus sampling)."""
    max_new_tokens: int = Field(default=1024, ge=1)
    """Longest completion, in tokens; a model's position limit may end it earlier. An answer that reaches it
    is cut, and is never trained on."""


class Placement(Settings):
    """Where a model runs, and how fast: these settings decide speed and memory, never results, but for float
    rounding. A run directory takes any of them."""

    device: Device = "auto"
    """Where models run: ``auto`` takes a GPU if there is one."""
    decode_batch: PositiveInt = 192
    """Completions that a local model decodes together."""
    prefill_tokens: PositiveInt = 1024
    """Padded tokens of prompts that a local model reads in one pass."""
    compile: bool = False
    """Compile the student with ``torch.compile`` for training."""
    fused_loss: bool | None = None
    """Compile the loss (default: on CUDA with Triton)."""
    capture_batch_tokens: PositiveInt = 2048
    """Padded tokens per teacher batch while its logits are captured."""
