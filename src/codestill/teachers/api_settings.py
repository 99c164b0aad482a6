"""What can be set about a model behind an OpenAI-compatible endpoint."""

from typing import Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from codestill.openai_client import KEY_VARIABLE, BaseUrl
from codestill.teachers.ledger import Prices
from codestill.teachers.parameters import PARAMETERS, RESERVED, Parameter
from codestill.types import Settings


class ApiSettings(Settings):
    """A model behind an HTTP endpoint. Its key is read from the environment and stored nowhere."""

    type: Literal["api"] = "api"
    """An OpenAI-compatible endpoint, which gives text, and with `logprobs` the likeliest tokens of it."""
    model: str = "bigcode/starcoder2-3b"
    """A directory, GGUF file or hub id (`pocket` is bundled); of an endpoint, the model's name there."""
    base_url: BaseUrl | None = None
    """URL of the API, as `http://host:8000/v1` (default: OpenAI's). Credentials in it are stored nowhere."""
    endpoint: Literal["chat", "completions"] = "chat"
    """`completions` continues the prompt as it is; `chat` answers it as a user message."""
    logprobs: PositiveInt | None = None
    """Keep so many of the likeliest tokens at every position of its answers, with their log-probabilities:
    they teach as logits do (docs/logit-cache.md). None asks for text alone."""
    tokenizer: str | None = None
    """Directory, GGUF file or hub id of the model's tokenizer, where its log-probabilities teach."""
    system_prompt: str | None = None
    """System prompt of a chat (default: none, or what the model's template puts there by itself)."""
    key_variable: str = KEY_VARIABLE
    """Environment variable with the key; a self-hosted endpoint needs none."""
    concurrency: PositiveInt = 8
    """Number of concurrent calls."""
    timeout_seconds: PositiveFloat = 120.0
    """Limit on the total duration of a call, even while its response still arrives."""
    retries: NonNegativeInt = 6
    """Retries of a call, with exponential backoff, if the endpoint is busy, fails or answers invalidly."""
    longest_pause_seconds: PositiveFloat = 300.0
    """Longest pause that the endpoint may demand (`Retry-After`); a longer one ends the retries."""
    omit: tuple[Parameter, ...] = ()
    """Parameters that are not sent. One that the endpoint refuses is omitted without this setting."""
    rename: dict[str, str] = Field(default_factory=dict)
    """Other names of parameters, as `max_tokens: max_completion_tokens`."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of every request's body, as `reasoning_effort: low`."""
    also_named: tuple[str, ...] = ()
    """Names under which the endpoint may answer besides `model` and its dated versions."""
    prices: Prices | None = None
    """Prices of tokens; without them, costs are reported as unknown."""

    @model_validator(mode="after")
    def _sends_each_field_once(self) -> Self:
        unknown = next((name for name in self.rename if name not in PARAMETERS), None)
        if unknown is not None:
            raise ValueError(f"rename: {unknown} is none of {', '.join(PARAMETERS)}")
        names = [self.rename.get(name, name) for name in PARAMETERS if name not in self.omit]
        unknown = next((name for name in ("temperature", "top_p") if name in self.omit), None)
        if unknown is not None and self.logprobs is not None:
            raise ValueError(
                f"omit: without {unknown}, nobody knows at which the server gives its log-probabilities; "
                "unset logprobs, or send it"
            )
        listing = ["logprobs", *(["top_logprobs"] if self.endpoint == "chat" else [])]
        fields = [*RESERVED, *names, *self.extra_body, *(listing if self.logprobs else [])]
        twice = next((name for name in fields if fields.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice} would stand in a request twice: see omit, rename and extra_body")
        return self
