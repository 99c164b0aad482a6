"""What an endpoint means when it refuses a request. Servers agree on status codes, hardly on words."""

import math
import re
import time
from collections.abc import Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime

_TOO_LONG = re.compile(
    r"context[ _]length|context[ _]window|context size|exceed_context|max_model_len|maximum context"
    r"|(prompt|input|request|conversation|message)s?\b.{0,60}\b(is|are) too (long|large)"
    r"|too many (input )?tokens"
    r"|string_above_max_length|reduce the length|inputs?\W+(tokens?|length).{0,60}(exceed|must be <=?)"
    r"|exceeds? the (maximum|available|model).{0,40}(tokens|context|length)|longer than the (model|maximum)",
    re.IGNORECASE | re.DOTALL,
)
_NOT_OF_THE_PROMPT = re.compile(r"tokens per (minute|day)|\bTPM\b|rate.?limit", re.IGNORECASE)
_LIMIT = re.compile(r"max_(completion_|output_|new_)?tokens", re.IGNORECASE)
_PROMPT = re.compile(r"context|prompt|input|message", re.IGNORECASE)
_CONTEXT = re.compile(r"context (?:length|window|size)\D{0,30}(\d+)", re.IGNORECASE)
_FILTERED = re.compile(r"content_filter|ResponsibleAIPolicyViolation|content management policy")
_OF_RANGE = re.compile(
    r"between|less than|greater than|at (most|least)|range|too (large|small|high|low)|maximum|minimum|exceed"
    r"|>=|<=|\[\s*-?\d",
    re.IGNORECASE,
)


def is_too_long(text: str, max_new_tokens: int) -> bool:
    """Whether a refusal says that the prompt, with the tokens to come, exceeds the context.

    No where the tokens to come fill the context alone: then no prompt would do.
    """
    if _NOT_OF_THE_PROMPT.search(text) or not _TOO_LONG.search(text):
        return False
    if _LIMIT.search(text) and not _PROMPT.search(text):
        return False
    context = _CONTEXT.search(text)
    return context is None or int(context[1][:18]) > max_new_tokens


def is_filtered(text: str) -> bool:
    """Whether a refusal says that a content filter rejected the prompt."""
    return bool(_FILTERED.search(text))


def refused_parameter(text: str, sent: Iterable[str]) -> str | None:
    """The first of the parameters ``sent`` that a refusal names; None if it names none.

    A value out of its range is the caller's mistake, and not meant.
    """
    if _OF_RANGE.search(text):
        return None
    return next((name for name in sent if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)), None)


def pause_asked(retry_after: str | None) -> float | None:
    """Seconds of a header ``Retry-After``, which is a number or a date; None where it is neither."""
    header = (retry_after or "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]*)?", header):
        seconds = float(header)
        return seconds if math.isfinite(seconds) else 1e308
    try:
        moment = parsedate_to_datetime(header)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0.0, moment.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
