"""Clients of OpenAI-compatible endpoints: the package, the key, the address, and limits of an answer."""

import base64
import importlib
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from pydantic import WrapValidator

from codestill.errors import ConfigError

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

KEY_VARIABLE = "OPENAI_API_KEY"
LONGEST_BODY = 64 * 2**20
"""Bytes of an answer's body; a longer one is cut off."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 30.0
_HIDDEN = "***"
_PUBLIC = frozenset({"api-version", "version"})
"""Parameters of an address that are no secret."""


class Address(str):
    """The URL of an API. As text it hides its credentials, so no file, message or log can show them."""

    url: str
    """As it was given."""

    def __new__(cls, url: str) -> "Address":
        """Raises ValueError, without naming the URL, if it is none."""
        if isinstance(url, Address):
            return url
        made = super().__new__(cls, _hidden(url))
        made.url = url
        return made

    @property
    def login(self) -> tuple[str, str] | None:
        """User name and password."""
        parts = urlsplit(self.url)
        if parts.username is None:
            return None
        return unquote(parts.username), unquote(parts.password or "")

    @property
    def parameters(self) -> dict[str, str]:
        """What follows the question mark."""
        return dict(parse_qsl(urlsplit(self.url).query, keep_blank_values=True))

    @property
    def bare(self) -> str:
        """Without credentials and parameters."""
        parts = urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()

    @property
    def basic(self) -> str | None:
        """The header that stands for user name and password."""
        if self.login is None:
            return None
        return "Basic " + base64.b64encode(":".join(self.login).encode()).decode()

    @property
    def secrets(self) -> set[str]:
        """Texts that must not be shown."""
        found = {value or name for name, value in self.parameters.items() if name.lower() not in _PUBLIC}
        for part in urlsplit(self.url).query.split("&"):  # as it is written
            name, _, value = part.partition("=")
            found |= set() if name.lower() in _PUBLIC else {value or name}
        if self.login is not None and self.basic is not None:
            parts, (user, password) = urlsplit(self.url), self.login
            found |= {password, parts.password or "", self.basic.removeprefix("Basic ")}
            found |= set() if password else {user, parts.username or ""}
        return {secret for one in found for secret in (one, urlencode({"": one})[1:])} - {""}


def _hidden(url: str) -> str:
    """The URL as it may be shown. Raises ValueError, which does not show it, if it is none."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        usable = usable and not parts.fragment and "@" not in parts.path + parts.query and url.isprintable()
    except ValueError:
        usable, parts = False, urlsplit("")
    if not usable:
        raise ValueError("not the URL of an API, as http://host:8000/v1; percent-encode special characters")
    shown = [
        (name, value) if name.lower() in _PUBLIC else (name if value else _HIDDEN, _HIDDEN)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    ]
    login, _, host = parts.netloc.rpartition("@")
    return parts._replace(
        netloc=f"{_HIDDEN}@{host}" if login else host, query=urlencode(shown, safe="*")
    ).geturl()


def _address(value: Any, as_text: Callable[[Any], str]) -> Address:
    return value if isinstance(value, Address) else Address(as_text(value))


BaseUrl = Annotated[str, WrapValidator(_address)]
"""Type of a setting that holds an address: an :class:`Address` after validation."""


def openai_client(
    base_url: str | None, timeout_seconds: float, retries: int, key_variable: str = KEY_VARIABLE
) -> "OpenAI":
    """A blocking client. Nothing is called yet.

    ``base_url`` None is OpenAI's own; ``retries`` is the client's own, with growing pauses. An answer whose
    body takes longer than the timeout, or exceeds ``LONGEST_BODY``, is a failed connection. Raises
    ConfigError where the package ``openai`` is not installed, or the address has lost its credentials.
    """
    package = _package()
    options = _options(base_url, key_variable)
    bound = _bounds(package.DefaultHttpxClient, timeout_seconds)
    http = package.DefaultHttpxClient(event_hooks={"response": [bound]})
    return package.OpenAI(timeout=timeout_seconds, max_retries=retries, http_client=http, **options)


def served_models(
    base_url: str | None, timeout_seconds: float, key_variable: str = KEY_VARIABLE
) -> list[str]:
    """Names of the models behind an endpoint. Raises ConfigError where it does not list them."""
    package = _package()
    with openai_client(base_url, timeout_seconds, 2, key_variable) as client:
        try:
            return [model.id for model in client.models.list()]
        except package.OpenAIError as error:
            raise ConfigError(
                f"the endpoint does not list its models ({type(error).__name__}).",
                next_step="Check that it runs at this URL, or name the model that you mean.",
            ) from error


def require_answer(base_url: str | None, setting: str, key_variable: str = KEY_VARIABLE) -> None:
    """Ask an endpoint for its models, which costs nothing. Any answer will do: not every server lists them.

    ``setting`` names the config group that holds ``base_url``, e.g. ``teacher``.

    Raises ConfigError where nothing answers within 20 s, or the key is refused.
    """
    package = _package()
    shown = Address(base_url) if base_url else "OpenAI's own address"
    with openai_client(base_url, 20.0, 0, key_variable) as client:
        try:
            client.models.with_raw_response.list()
        except package.AuthenticationError as error:
            raise ConfigError(
                f"{setting}: {shown} refuses the key.",
                next_step=f"export {key_variable}=... with a key that is valid there.",
            ) from error
        except package.APIConnectionError as error:
            why = presentable(str(error.__cause__ or error), base_url, key_variable)
            raise ConfigError(
                f"{setting}: nothing answers at {shown} ({why}).",
                next_step=f"Start the server, or correct {setting}.base_url.",
            ) from error
        except package.OpenAIError:
            return


def async_openai_client(
    base_url: str | None, timeout_seconds: float, retries: int, key_variable: str = KEY_VARIABLE
) -> "AsyncOpenAI":
    """The same for asyncio."""
    package = _package()
    options = _options(base_url, key_variable)
    bound = _bounds(package.DefaultAsyncHttpxClient, timeout_seconds)

    async def bound_later(response: Any) -> None:
        bound(response)

    http = package.DefaultAsyncHttpxClient(event_hooks={"response": [bound_later]})
    return package.AsyncOpenAI(timeout=timeout_seconds, max_retries=retries, http_client=http, **options)


def key(variable: str = KEY_VARIABLE) -> str | None:
    """The key that the environment holds; None without one, as endpoints of one's own often need none."""
    return os.environ.get(variable, "").strip() or None


def require_key(model: str, base_url: str | None, variable: str, setting: str) -> None:
    """Raises ConfigError where ``model`` is OpenAI's own and there is no key for it, or the key is none.

    ``setting`` names the config group that holds ``base_url``, e.g. ``teacher``.
    """
    if base_url is None and not key(variable):
        raise ConfigError(
            f"{model} needs a key, and {variable} is not set.",
            next_step=f"export {variable}=..., or set {setting}.base_url to your own endpoint.",
        )
    if not (found := key(variable) or "").isascii() or not found.isprintable():
        raise ConfigError(
            f"{variable} holds characters that no key has.", next_step=f"export {variable}=... anew."
        )


def presentable(text: str, base_url: str | None, variable: str = KEY_VARIABLE) -> str:
    """The first line of what an endpoint said, printable and at most 300 characters, without credentials."""
    secrets = {key(variable) or ""} | (Address(base_url).secrets if base_url else set())
    for secret in sorted(secrets - {""}, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    line = next(iter(text.strip().splitlines()), "")[:300]
    return "".join(character if character.isprintable() else "\ufffd" for character in line)


def pause_seconds(failures: int) -> float:
    """The pause before the next try, after ``failures`` pauses: each is twice the one before, up to 30 s."""
    return min(_FIRST_PAUSE_SECONDS * 2.0 ** min(failures, 10), _LONGEST_PAUSE_SECONDS)


class Twice(dict[str, Any]):
    """An object of JSON in which a name stands twice."""


def noting_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Makes objects for :func:`parse_json` that tell where a name stands twice."""
    found = dict(pairs)
    return found if len(found) == len(pairs) else Twice(found)


def parse_json(body: bytes, object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The value of a JSON text, which may be anything. Raises ValueError, saying what is wrong with it."""
    try:
        return json.loads(body, object_pairs_hook=object_pairs_hook)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"its body is not UTF-8: byte {error.start}") from None
    except json.JSONDecodeError as error:
        start = body[:40].decode(errors="replace")
        what = f"it begins {start!r}" if body.strip() else "it is empty"
        raise ValueError(f"its body is not JSON: {error.msg} at character {error.pos}; {what}") from None


R = TypeVar("R")


def ask_for_json(
    call: Callable[[], Any],
    read: Callable[[Any], R],
    retries: int,
    base_url: str | None,
    key_variable: str = KEY_VARIABLE,
    object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> R:
    """What ``read`` makes of a call's answer. ``call`` gives a raw response of a blocking client.

    A body that is no JSON, or of which ``read`` raises ValueError, is asked for again, ``retries`` times.
    Raises ValueError, presentable, in the end, and where the client gives up.
    """
    import openai

    for left in range(retries, -1, -1):
        try:
            return read(parse_json(call().content, object_pairs_hook))
        except openai.OpenAIError as error:
            cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else None
            text = f"{type(error).__name__}: {cause or error}"
            raise ValueError(presentable(text, base_url, key_variable)) from error
        except ValueError as error:
            if not left:
                raise ValueError(presentable(str(error), base_url, key_variable)) from error
            time.sleep(pause_seconds(retries - left))
    raise AssertionError("the last try returns or raises")


def _options(base_url: str | None, key_variable: str) -> dict[str, Any]:
    """What a client is made with. User name and password go into a header: URLs are logged."""
    options: dict[str, Any] = {"api_key": key(key_variable) or "none", "base_url": base_url}
    if base_url is None:
        return options
    address = Address(base_url)
    if _HIDDEN in (address.login or ()) or _HIDDEN in address.parameters.values():
        raise ConfigError(
            f"the credentials of {address} are hidden: this address comes from a file of results.",
            next_step="Give base_url with its credentials again, or put the key into the environment.",
        )
    # As httpx logs URLs at the level INFO.
    logging.getLogger("httpx").addFilter(_HideSecrets(address))
    logging.getLogger("httpx2").addFilter(_HideSecrets(address))
    options |= {"base_url": address.bare, "default_query": address.parameters}
    return options | ({"default_headers": {"Authorization": address.basic}} if address.basic else {})


class _HideSecrets(logging.Filter):
    """Replaces an address's secrets in log records."""

    def __init__(self, address: Address) -> None:
        super().__init__()
        self.secrets = address.secrets

    def __eq__(self, other: object) -> bool:  # so that a logger gets it once
        return isinstance(other, _HideSecrets) and self.secrets == other.secrets

    def __hash__(self) -> int:
        return hash(frozenset(self.secrets))

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if any(secret in text for secret in self.secrets):
            for secret in self.secrets:
                text = text.replace(secret, _HIDDEN)
            record.msg, record.args = text, None
        return True


def _bounds(client: type, timeout_seconds: float) -> Callable[[Any], None]:
    """A hook that limits size and duration of a response's body.

    The client's own timeout begins anew with every byte.
    """
    http = next(base.__module__ for base in client.__mro__ if base.__name__ in ("Client", "AsyncClient"))
    package = importlib.import_module(http.partition(".")[0])  # httpx, or openai's fork of it

    class Bounded(package.SyncByteStream, package.AsyncByteStream):
        def __init__(self, stream: Any) -> None:
            self.stream, self.size, self.deadline = stream, 0, time.monotonic() + timeout_seconds

        def _count(self, chunk: bytes) -> bytes:
            self.size += len(chunk)
            if self.size > LONGEST_BODY:
                raise package.ReadError(f"the body of the answer exceeds {LONGEST_BODY:,} bytes")
            if time.monotonic() > self.deadline:
                raise package.ReadTimeout(f"the body of the answer took over {timeout_seconds:g} s")
            return chunk

        def __iter__(self) -> Iterator[bytes]:
            return map(self._count, self.stream)

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for chunk in self.stream:
                yield self._count(chunk)

        def close(self) -> None:
            self.stream.close()

        async def aclose(self) -> None:
            await self.stream.aclose()

    def bound(response: Any) -> None:
        response.stream = Bounded(response.stream)

    return bound


def _package() -> Any:
    try:
        import openai
    except ImportError as error:
        raise ConfigError(
            "an endpoint is called through the `openai` package, which is not installed.",
            next_step="pip install 'codestill[api]'",
        ) from error
    return openai
