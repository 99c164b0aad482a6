"""What can be set about a server."""

import ipaddress
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from codestill.errors import ConfigError
from codestill.models import ChatConfig, Dtype, Placement, SamplingConfig
from codestill.openai_client import key
from codestill.types import Settings

KEY_VARIABLE = "CODESTILL_KEY"
Engine = Literal["auto", "codestill", "llama.cpp"]


class Limits(Settings):
    """What a request may ask for, and how many may wait. What exceeds a limit is refused, with its name."""

    body_bytes: PositiveInt = 4 * 2**20
    """Size of a request's body."""
    prompt_tokens: PositiveInt | None = None
    """Tokens of a prompt (default: as many as the model reads)."""
    new_tokens: PositiveInt = 4096
    """Tokens of an answer."""
    answers: PositiveInt = 64
    """Answers to one request: prompts times `n`."""
    logprobs: PositiveInt = 256
    """Tokens listed at a position, of an answer or of a prompt."""
    queue: PositiveInt = 256
    """Answers that wait for a place in the batch; further requests are told to come back later."""
    seconds: PositiveFloat = 300.0
    """Time for a request. One that is being answered then ends with what there is, as at its limit of
    tokens."""
    grace_seconds: PositiveFloat = 30.0
    """Time that requests have to end after the server was told to stop."""


class ServeConfig(ChatConfig):
    """A student behind OpenAI's API, for editors, programs and other machines."""

    model: str
    """A run, whose student is served, or a saved model's directory, GGUF file or hub id."""
    name: str | None = None
    """What clients call it (default: as its run, directory or file)."""
    host: str = "127.0.0.1"
    """Address to listen at; any but this machine's own needs a key."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8012
    """Port to listen at; 0 takes a free one."""
    key_variable: str = KEY_VARIABLE
    """Environment variable with the key that clients must send, as a bearer token."""
    engine: Engine = "auto"
    """`auto` runs a GGUF file in llama.cpp's `llama-server` where that is installed, all else here."""
    context: PositiveInt = 8192
    """Tokens of context for each client, where `llama-server` runs."""
    sampling: SamplingConfig = SamplingConfig(max_new_tokens=256)
    """What holds where a request says nothing else."""
    limits: Limits = Limits()
    """What a request may ask for, and how many may wait."""
    execution: Placement = Placement(decode_batch=64)
    """Where the model runs, and how fast."""
    threads: PositiveInt | None = None
    """CPU threads of the model (default: torch's choice)."""
    tokenizer: str | None = None
    """A directory, GGUF file or hub id, where the model's own tokenizer is not meant."""
    revision: str | None = None
    """Branch, tag or commit of `model` on the hub."""
    trust_remote_code: bool = False
    """Run Python code that comes with `model`. Read that code first."""
    dtype: Dtype = "float32"
    """Type of the weights in memory."""

    @property
    def key(self) -> str | None:
        """The key that clients must send; None where they need none. Raises ConfigError where it is needed
        and there is none."""
        found = key(self.key_variable)
        if found is None and not is_loopback(self.host):
            raise ConfigError(
                f"whoever reaches {self.host} could use the server: it needs a key, and {self.key_variable} "
                "is not set.",
                next_step=f"export {self.key_variable}=..., or serve this machine alone with --host "
                "127.0.0.1.",
            )
        if found is not None and not (found.isascii() and found.isprintable()):
            raise ConfigError(
                f"{self.key_variable} holds characters that no header can carry.",
                next_step=f"export {self.key_variable}=... anew.",
            )
        return found


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
