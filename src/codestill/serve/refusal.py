"""Errors in OpenAI's form."""

from dataclasses import dataclass, field
from typing import Any

RETRY_SECONDS = 1


@dataclass
class Refusal(Exception):
    """A request that is not answered, and why."""

    status: int
    message: str
    next_step: str = ""
    param: str | None = None
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """OpenAI's name for what is wrong."""
        kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
        return kinds.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")

    @property
    def body(self) -> dict[str, Any]:
        """What is sent."""
        message = f"{self.message} {self.next_step}".strip()
        return {"error": {"message": message, "type": self.kind, "param": self.param, "code": self.code}}


def later(message: str, status: int = 503) -> Refusal:
    """A refusal that holds for now."""
    return Refusal(status, message, headers={"Retry-After": str(RETRY_SECONDS)})
