"""Whether the endpoints that a run will ask are there, before any of them is paid."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from codestill.openai_client import require_answer
from codestill.run import Run


def require_endpoints(config: Any, run: Run) -> None:
    """Ask every endpoint in a recipe's config once, free of charge: the teacher, a judge, an embedder.

    Not those of a run that has asked before or may find its answers kept, as it may need none. Raises
    ConfigError for one that does not answer or refuses the key.
    """
    usage = getattr(config, "teacher_usage", None)
    kept = usage and (usage.replay == "only" or (usage.answers and usage.answers.exists()))
    if kept or run.ledger_path.exists():
        return
    for place, settings in _endpoints(config, ""):
        require_answer(settings.base_url, place, settings.key_variable)


def _endpoints(config: BaseModel, place: str) -> Iterator[tuple[str, Any]]:
    """Groups of settings that name an endpoint which is asked, each with its place in the config."""
    if "base_url" in type(config).model_fields:
        yield place, config
    for name in type(config).model_fields:
        value = getattr(config, name)
        unused = (name == "teacher" and not getattr(config, "needs_teacher", True)) or (
            name == "model" and getattr(config, "by", "model") != "model"  # a judge that is the teacher
        )
        if isinstance(value, BaseModel) and not unused:
            yield from _endpoints(value, f"{place}.{name}".lstrip("."))
