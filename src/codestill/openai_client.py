"""Clients of OpenAI-compatible endpoints: one way to find the package and the key."""

import os
from typing import TYPE_CHECKING, Any

from codestill.errors import ConfigError

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

KEY_VARIABLE = "OPENAI_API_KEY"


def openai_client(
    base_url: str | None, timeout_seconds: float, retries: int, key_variable: str = KEY_VARIABLE
) -> "OpenAI":
    """A blocking client. Nothing is called yet.

    ``base_url`` None is OpenAI's own; ``retries`` is the client's own, with growing pauses. Raises
    ConfigError where the package ``openai`` is not installed.
    """
    return _package().OpenAI(
        api_key=key(key_variable) or "none", base_url=base_url, timeout=timeout_seconds, max_retries=retries
    )


def async_openai_client(
    base_url: str | None, timeout_seconds: float, retries: int, key_variable: str = KEY_VARIABLE
) -> "AsyncOpenAI":
    """The same for asyncio."""
    return _package().AsyncOpenAI(
        api_key=key(key_variable) or "none", base_url=base_url, timeout=timeout_seconds, max_retries=retries
    )


def key(variable: str = KEY_VARIABLE) -> str | None:
    """The key that the environment holds; None without one, as endpoints of one's own often need none."""
    return os.environ.get(variable) or None


def require_key(model: str, base_url: str | None, variable: str, setting: str) -> None:
    """Raises ConfigError where ``model`` is OpenAI's own and there is no key for it.

    ``setting`` names the config group that holds ``base_url``, e.g. ``teacher``.
    """
    if base_url is None and not key(variable):
        raise ConfigError(
            f"{model} needs a key, and {variable} is not set.",
            next_step=f"export {variable}=..., or set {setting}.base_url to your own endpoint.",
        )


def _package() -> Any:
    try:
        import openai
    except ImportError as error:
        raise ConfigError(
            "an endpoint is called through the `openai` package, which is not installed.",
            next_step="pip install 'codestill[api]'",
        ) from error
    return openai
