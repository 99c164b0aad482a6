"""What an endpoint's answer says: the body of a response with status 200, checked field by field."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from codestill.files.serialize import is_object
from codestill.openai_client import noting_twice, parse_json
from codestill.teachers.listing import Listing, read_listing
from codestill.types import Finish

BYTES_PER_TOKEN = 2
"""Of the densest texts: an estimate bounds the tokens from above."""
TEMPLATE_TOKENS = 16
"""What a chat template may add."""
_MOST_TOKENS = 2**20
"""A count that exceeds the text's bytes by more than this, thoughts and hidden prompts included, is wrong."""
_FINISHES: dict[str, Finish] = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "refusal": "content_filter",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
}
_BROKEN_OFF = frozenset({"error", "abort", "insufficient_system_resource"})
"""Finish reasons of an answer that its server gave up."""
_IN_PLACE_OF_CONTENT = ("reasoning_content", "reasoning", "tool_calls", "function_call", "refusal")


class NotAnAnswer(ValueError):
    """A response with status 200 that holds no answer; the message names the field."""


@dataclass(frozen=True)
class Answer:
    """What one response says."""

    text: str
    """Empty where the content is null: thought used up the limit, a filter or a tool call stands for it."""
    finish: Finish
    model: str
    """Which model answered; empty where the response does not say."""
    thought: str
    """Reasoning that the response shows beside the text; it is paid for."""
    prompt_tokens: int | None
    """None where the response has no possible count."""
    completion_tokens: int | None
    first: tuple[tuple[str, float], ...] = ()
    """The most likely first tokens with their probabilities, where the response lists them."""
    listing: Listing | None = None
    """All its tokens with the likeliest at each position, where they were asked for and the response has
    them."""


def read_answer(
    body: bytes, endpoint: Literal["chat", "completions"], prompt: str, listed: bool = False
) -> Answer:
    """The answer in a response's body; ``listed``: with its tokens' log-probabilities. Raises NotAnAnswer.

    Text must be as the API defines it. Counts of tokens that cannot be right are left out: the text is paid
    for.
    """
    try:
        found = parse_json(body, noting_twice if listed else None)
    except ValueError as error:
        raise NotAnAnswer(str(error)) from None
    answer = _object(found, "the answer")
    if answer.get("error"):
        raise NotAnAnswer(f"it holds an error: {str(answer['error'])[:200]}")
    model = answer.get("model")
    if not isinstance(model, str | None):
        raise NotAnAnswer(f"model is {_kind(model)}, not a string")
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        what = "empty" if choices == [] else _kind(choices) if "choices" in answer else "missing"
        raise NotAnAnswer(f"the answer has no choices: choices is {what}")
    choice = _object(choices[0], "choices[0]")
    reason = choice.get("finish_reason")
    if not isinstance(reason, str | None):
        raise NotAnAnswer(f"choices[0].finish_reason is {_kind(reason)}, not a string")
    reason = (reason or "stop").lower()
    if reason in _BROKEN_OFF:
        raise NotAnAnswer(f"choices[0].finish_reason is {reason!r}")
    finish = _FINISHES.get(reason, "stop")
    thought = ""
    if endpoint == "chat":
        if "message" not in choice:
            raise NotAnAnswer("choices[0].message is missing")
        message = _object(choice["message"], "choices[0].message")
        instead = finish != "stop" or any(message.get(name) for name in _IN_PLACE_OF_CONTENT)
        if "content" not in message and not instead:
            raise NotAnAnswer("choices[0].message.content is missing")
        text = _text(message.get("content"), "choices[0].message.content")
        thoughts = (message.get(name) for name in ("reasoning_content", "reasoning"))
        thought = next((one for one in thoughts if isinstance(one, str)), "")
    else:
        if "text" not in choice:
            raise NotAnAnswer("choices[0].text is missing")
        text = _text(choice["text"], "choices[0].text")
    try:
        listing = read_listing(choice.get("logprobs")) if listed else None
    except ValueError as error:
        raise NotAnAnswer(f"choices[0].logprobs is no distribution: {error}") from None
    usage = answer.get("usage")
    counts = usage if is_object(usage) else {}
    return Answer(
        text=text,
        finish=finish,
        model=model or "",
        thought=thought,
        prompt_tokens=_count(counts.get("prompt_tokens"), prompt),
        completion_tokens=_count(counts.get("completion_tokens"), text + thought),
        first=_first_tokens(choice.get("logprobs")),
        listing=listing,
    )


def estimated_tokens(text: str) -> int:
    """As many tokens as the text is likely to have at most."""
    return -(-_size(text) // BYTES_PER_TOKEN)


def _size(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def _first_tokens(logprobs: Any) -> tuple[tuple[str, float], ...]:
    """Alternatives to the answer's first token with their probabilities: of a chat, ``content[0]`` lists
    them; of a completion, ``top_logprobs[0]`` maps them. None where they are in no such form."""
    found: list[tuple[Any, Any]] = []
    if is_object(logprobs):
        content, mapped = logprobs.get("content"), logprobs.get("top_logprobs")
        if isinstance(content, list) and content and is_object(content[0]):
            listed = content[0].get("top_logprobs")
            each = [one for one in listed if is_object(one)] if isinstance(listed, list) else []
            found = [(one.get("token"), one.get("logprob")) for one in each]
        elif isinstance(mapped, list) and mapped and is_object(mapped[0]):
            found = list(mapped[0].items())
    return tuple(
        (token, math.exp(min(value, 0.0)))
        for token, value in found
        if isinstance(token, str) and isinstance(value, int | float) and not math.isnan(value)
    )


def _object(value: Any, field: str) -> dict[str, Any]:
    if not is_object(value):
        raise NotAnAnswer(f"{field} is {_kind(value)}, not an object")
    return value


def _text(value: Any, field: str) -> str:
    if value is None:
        return ""
    if isinstance(value, list):  # parts, of which thoughts and images are left out
        parts = [_object(part, f"{field}[{place}]") for place, part in enumerate(value)]
        return "".join(
            _text(part.get("text", 0), f"{field}[{place}].text")
            for place, part in enumerate(parts)
            if part.get("type") == "text"
        )
    if not isinstance(value, str):
        raise NotAnAnswer(f"{field} is {_kind(value)}, not a string")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise NotAnAnswer(
            f"{field} holds half of a surrogate pair, {value[error.start]!r}, at character {error.start}"
        ) from None
    return value


def _count(value: Any, text: str) -> int | None:
    """A number of tokens that the text can have, else None."""
    if type(value) is not int or not 0 <= value <= _size(text) + _MOST_TOKENS:
        return None
    return value if value or not text else None


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
