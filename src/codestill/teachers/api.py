"""A teacher behind an OpenAI-compatible endpoint."""

import os
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt

from codestill.errors import ConfigError
from codestill.models.config import Device
from codestill.teachers.ledger import Prices

if TYPE_CHECKING:
    from codestill.teachers.endpoint import ApiTeacher


class ApiTeacherConfig(BaseModel):
    """A model that answers over HTTP, in words. Its key stands in the environment and nowhere else."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    type: Literal["api"] = "api"
    """An endpoint, which gives text alone."""
    model: str = "bigcode/starcoder2-3b"
    """A directory or hub id (`pocket` is the bundled teacher); of an endpoint, the model's name there."""
    base_url: str | None = None
    """Where the API lies, as `http://host:8000/v1` (default: OpenAI's)."""
    endpoint: Literal["chat", "completions"] = "chat"
    """`completions` continues the prompt as it stands; `chat` answers it."""
    system: str | None = None
    """System message, for `chat`."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; an endpoint of one's own needs none."""
    concurrency: PositiveInt = 8
    """Calls at once."""
    timeout_seconds: PositiveFloat = 120.0
    """For one call, from beginning to end, however slowly it drips."""
    retries: NonNegativeInt = 6
    """Calls more, with growing pauses, where the endpoint is busy, broken, or answers nonsense."""
    also_named: tuple[str, ...] = ()
    """Names under which the endpoint may answer besides `model` and its dated versions."""
    prices: Prices | None = None
    """What tokens cost; unknown prices are said to be unknown."""

    def build(self, device: Device = "auto") -> "ApiTeacher":
        """The teacher; nothing is called yet. Raises ConfigError where the key is missing."""
        from codestill.teachers.endpoint import ApiTeacher

        if self.base_url is None and not os.environ.get(self.key_variable):
            raise ConfigError(
                f"{self.model} needs a key, and {self.key_variable} is not set.",
                next_step=f"export {self.key_variable}=..., or set teacher.base_url to your own endpoint.",
            )
        return ApiTeacher(self)
