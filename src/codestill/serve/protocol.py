"""Bodies of requests: what is read of them, what changes nothing, and what is refused by its name."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

Stop = tuple[str, ...]
_NOTHING = (None, False, 0, "", [], {})
_PENALTIES: Mapping[str, tuple[Any, ...]] = {
    "presence_penalty": _NOTHING,
    "frequency_penalty": _NOTHING,
    "repetition_penalty": (None, 1, 1.0),
    "logit_bias": _NOTHING,
}
_NARROWING: Mapping[str, tuple[Any, ...]] = {
    "top_k": (None, 0, -1),
    "min_p": _NOTHING,
    "typical_p": (None, 1),
}
"""What cuts a distribution that is sampled from: greedily nothing is sampled."""
_ANY = frozenset({"user", "metadata", "safety_identifier", "service_tier", "cache_prompt", "id_slot"})
"""Whatever they say, the answer is the same."""


class Body(BaseModel):
    """Base of bodies. A field that is not known is refused: what it asks for would be missing."""

    model_config = ConfigDict(extra="allow")
    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = _PENALTIES
    """Fields that nothing is done about, with the values that ask for nothing."""

    model: str | None = None
    max_tokens: NonNegativeInt | None = None
    temperature: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1)
    n: PositiveInt | None = None
    seed: int | None = None
    stop: Stop = ()
    stream: bool | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return () if value is None else (value,) if isinstance(value, str) else value

    @field_validator("stop")
    @classmethod
    def _some_text(cls, stop: Stop) -> Stop:
        if "" in stop:
            raise ValueError("an empty text would end every answer before it begins")
        return stop

    @model_validator(mode="after")
    def _honoured(self) -> "Body":
        for name, value in (self.model_extra or {}).items():
            known = {**self.neutral, **_NARROWING}.get(name)
            if name in _ANY or (known is not None and value in known):
                continue
            if name in _NARROWING:
                if self.temperature:
                    raise ValueError(f"{name} is not supported: sample with temperature and top_p alone")
                continue
            if known is not None:
                raise ValueError(f"{name} is not supported; leave it out")
            self.unknown(name)
        return self

    def unknown(self, name: str) -> None:
        """What is done about a field that is not known. Raises ValueError."""
        raise ValueError(f"{name} is no field that this server knows")


class StreamOptions(BaseModel):
    """How a stream ends."""

    include_usage: bool = False


Ids = tuple[NonNegativeInt, ...]


class CompletionBody(Body):
    """Of ``/v1/completions``."""

    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **_PENALTIES,
        "best_of": (None, 1),
        "ignore_eos": _NOTHING,
        "min_tokens": _NOTHING,
    }

    prompt: str | Ids | tuple[str, ...] | tuple[Ids, ...]
    suffix: str | None = None
    echo: bool | None = None
    logprobs: NonNegativeInt | None = None
    prompt_logprobs: NonNegativeInt | None = None
    return_tokens_as_token_ids: bool | None = None
    return_token_ids: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def prompts(self) -> list[str | Ids]:
        """One or more."""
        one = isinstance(self.prompt, str) or (bool(self.prompt) and isinstance(self.prompt[0], int))
        return [self.prompt] if one else list(self.prompt)  # pyright: ignore[reportReturnType]

    @model_validator(mode="after")
    def _go_together(self) -> "CompletionBody":
        if not self.prompts:
            raise ValueError("prompt is an empty list")
        if self.suffix is not None and not all(isinstance(prompt, str) for prompt in self.prompts):
            raise ValueError("suffix goes with a prompt that is text: ids would hold the gap already")
        if self.stream and (self.echo or self.prompt_logprobs is not None):
            raise ValueError("echo and prompt_logprobs come in one piece; leave out stream")
        return self


class FimBody(Body):
    """Of ``/v1/fim/completions``, Mistral's form of a gap between two texts."""

    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = {**_PENALTIES, "min_tokens": _NOTHING}

    prompt: str
    suffix: str | None = None
    max_completion_tokens: NonNegativeInt | None = None
    random_seed: int | None = None


class Message(BaseModel):
    """A turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str

    @field_validator("content", mode="before")
    @classmethod
    def _joined(cls, content: Any) -> Any:
        """Parts of text are one text."""
        if not isinstance(content, list):
            return content
        kinds = {part.get("type") if isinstance(part, dict) else None for part in content}
        if kinds != {"text"}:
            raise ValueError("this server reads text alone")
        return "".join(str(part.get("text", "")) for part in content)


class ChatBody(Body):
    """Of ``/v1/chat/completions``."""

    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **_PENALTIES,
        "tools": _NOTHING,
        "functions": _NOTHING,
        "tool_choice": (None, "none", "auto"),
        "parallel_tool_calls": (None, True, False),
        "response_format": (None, {"type": "text"}),
        "modalities": (None, ["text"]),
        "store": _NOTHING,
        "ignore_eos": _NOTHING,
        "lora": _NOTHING,
        "samplers": _NOTHING,
        "response_fields": _NOTHING,
    }

    messages: tuple[Message, ...] = Field(min_length=1)
    max_completion_tokens: NonNegativeInt | None = None
    logprobs: bool | None = None
    top_logprobs: NonNegativeInt | None = None
    stream_options: StreamOptions | None = None


class Extra(BaseModel):
    """A piece of another file."""

    text: str
    filename: str = ""


class InfillBody(Body):
    """Of ``/infill``, as llama.cpp's server takes it from editors.

    Answers are greedy unless a temperature is given, so that what narrows sampling changes nothing. As
    llama.cpp does, fields that are not known are passed over: editors send what their newest server knows.
    """

    input_prefix: str = ""
    input_suffix: str = ""
    input_extra: tuple[Extra, ...] = ()
    prompt: str = ""
    """Text between the prefix and the gap."""
    n_predict: int | None = Field(default=None, ge=-1)
    n_indent: NonNegativeInt = 0
    n_cmpl: PositiveInt | None = None
    t_max_predict_ms: NonNegativeInt | None = None
    response_fields: tuple[str, ...] | None = None

    def unknown(self, name: str) -> None:
        """Nothing."""
