"""Fill in prompt templates."""

from functools import cache
from typing import Any

from codestill.errors import ConfigError


@cache
def _compiled(template: str) -> Any:
    environment = _environment()
    environment.filters |= {"ended": _ended, "commented": _commented}
    return environment.from_string(template)


def _environment() -> Any:
    from jinja2 import Environment, StrictUndefined

    return Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)


def render(template: str, **values: str | list[str] | None) -> str:
    """The template filled in with ``values``. Raises ConfigError when it uses others."""
    from jinja2 import TemplateError

    try:
        return _compiled(template).render(**values)
    except TemplateError as error:
        raise ConfigError(
            f"a prompt template cannot be filled in: {error}",
            next_step=f"It may use {', '.join(values)}, and the filters ended and commented.",
        ) from error


def _ended(text: str) -> str:
    return text if text.endswith("\n") else f"{text}\n"


def _commented(text: str) -> str:
    return "".join(f"# {line}\n" for line in text.split("\n")) if text else ""
