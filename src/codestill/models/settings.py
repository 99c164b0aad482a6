"""How models are run and sampled from. Nothing here imports torch, or another file of this room."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from codestill.types import Settings

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["float32", "bfloat16"]
Quantization = Literal["nf4"]
Attention = Literal["sdpa", "eager", "flash_attention_2"]
DEFAULT_TOKENIZER = "bigcode/starcoder2-3b"


class ChatConfig(Settings):
    """How a model with local weights reads prompts: base of the settings of each."""

    chat: Literal["auto"] | bool = "auto"
    """Put prompts into the tokenizer's chat template. ``auto`` does so where the model ends its turns as the
    template does: an instruction-tuned model chats, a base model or one with fresh weights continues text."""
    system_prompt: str | None = None
    """System prompt of a chat (default: none, or what the model's template puts there by itself)."""
    answer_prefix: str = ""
    """Beginning of every answer, which the model continues; part of the prompt in training, too."""
    reasoning: bool | None = None
    """The template's switch of models that can think before they answer, `enable_thinking` (default: the
    template's own)."""

    @model_validator(mode="after")
    def _needs_chat(self) -> Self:
        if self.chat is False and self.own:
            name = self.own[0]
            raise ValueError(f"{name} is set, and chat is false: only a chat template has a place for it")
        return self

    @property
    def own(self) -> list[str]:
        """Names of the settings besides ``chat`` that differ from their defaults: by value, so that a config
        read back from a file means the same."""
        fields = ChatConfig.model_fields.items()
        return [name for name, field in fields if name != "chat" and getattr(self, name) != field.default]

    @property
    def undecided(self) -> bool:
        """Whether it is left to the model if it chats."""
        return self.chat == "auto" and not self.own

    @property
    def alone(self) -> "ChatConfig":
        """These settings without those of the config that has them."""
        return ChatConfig(**{name: getattr(self, name) for name in ChatConfig.model_fields})


def _split(value: Any) -> Any:
    return value.strip(",").split(",") if isinstance(value, str) and "," in value else value


Commas = BeforeValidator(_split)
"""Of a setting that is one value or a list: as an option a list is ``0,3,6``, and of one item ``3,``."""


def _alone(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_alone), Field(min_length=1)]
Targets = Annotated[Literal["all-linear"] | Names, Field(union_mode="left_to_right"), Commas]


class AdapterConfig(Settings):
    """Low-rank adapters (LoRA): each chosen layer W becomes W + alpha / rank * B A, and B and A alone are
    trained. The student is saved with them merged into its weights; see docs/models.md."""

    rank: PositiveInt = 16
    """Rows of A and columns of B: how many directions an update has."""
    alpha: float = Field(default=32, gt=0, allow_inf_nan=False)
    """The update counts alpha / rank times."""
    targets: Targets = "all-linear"
    """Which layers: every linear one but the head, or names as in the model (`q_proj`, or longer ones)."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of a layer's inputs that its adapter does not see in a training step."""


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
    gradient_checkpointing: bool = False
    """Compute the student's activations again in the backward pass: less memory, a slower step."""
    attention: Attention | None = None
    """The student's attention while it is trained, by transformers' names (default: transformers' choice)."""
    fused_loss: bool | None = None
    """Compile the loss (default: on CUDA with Triton)."""
    capture_batch_tokens: PositiveInt = 2048
    """Padded tokens per teacher batch while its logits are captured."""
