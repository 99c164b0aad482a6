"""What a request must pass before it is understood: whose it is, its size, and if it is what it says."""

import asyncio
import hmac
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from codestill.openai_client import parse_json
from codestill.serve.config import Limits, is_loopback
from codestill.serve.refusal import Refusal

B = TypeVar("B", bound=BaseModel)


def require_key(request: Request, key: str | None, variable: str) -> None:
    """Raises Refusal (401) for a request without the key. Where there is none, the request must be to this
    machine's own name: a page in its browser could else reach the server by a name that it controls (403)."""
    if key is None:
        host = request.headers.get("host", "")
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if not is_loopback(name):
            raise Refusal(
                403, f"a server without a key answers to this machine's own names alone, not to {name!r}."
            )
        return
    sent = request.headers.get("authorization", "")
    if not hmac.compare_digest(sent.encode(), f"Bearer {key}".encode()):
        raise Refusal(
            401,
            "the key is missing or wrong.",
            f"Send the header Authorization: Bearer ..., with what {variable} holds where the server runs.",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )


async def read(request: Request, kind: type[B], limits: Limits) -> B:
    """The request's body. Raises Refusal for one that is too large, too slow, or not of its kind."""
    said = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if said != "application/json":  # what a page elsewhere can send without asking is another
        raise Refusal(415, "a body is JSON.", "Send the header Content-Type: application/json.")
    try:
        async with asyncio.timeout(limits.seconds):
            body = await _bounded(request, limits.body_bytes)
    except TimeoutError:
        raise Refusal(408, f"the body did not arrive within {limits.seconds:g} s.") from None
    try:
        return kind.model_validate(parse_json(body))
    except ValidationError as error:
        raise _invalid(error) from error
    except ValueError as error:
        raise Refusal(400, f"{error}.") from error


async def _bounded(request: Request, most: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise Refusal(
                413,
                f"the body exceeds {most:,} bytes.",
                "Send less, or raise limits.body_bytes.",
                code="too_large",
            )
    return bytes(body)


def _invalid(error: ValidationError) -> Refusal:
    """Of the first thing that is wrong; of a field with several forms, the first of them."""
    details = error.errors(include_url=False, include_input=False)[0]
    name = str(details["loc"][0]) if details["loc"] else None
    message = details["msg"].removeprefix("Value error, ")
    where = ".".join(str(part) for part in details["loc"][:1])
    return Refusal(400, f"{where}: {message}." if where else f"{message}.", param=name)
