"""One call of an endpoint: what is sent, and what its response means."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from codestill.errors import TeacherError
from codestill.models.completer import Decoding, shares
from codestill.openai_client import presentable
from codestill.teachers.answers import (
    TEMPLATE_TOKENS,
    Answer,
    NotAnAnswer,
    estimated_tokens,
    read_answer,
)
from codestill.teachers.api_settings import ApiSettings
from codestill.teachers.parameters import Parameters
from codestill.teachers.refusals import is_filtered, is_too_long, refused_parameter
from codestill.types import Finish, Listed, Request

CONTINUES = "all answers so far are kept, and the same command continues."
LISTS_NONE = (
    "Ask a server that lists them (vLLM with --max-logprobs, llama.cpp's, Ollama from 0.12.11 on), for no "
    "more than it allows, or unset teacher.logprobs; see docs/logit-cache.md."
)
_TRANSIENT = frozenset({408, 409, 425, 429})
_OF_EVERY_REQUEST = frozenset({401, 402, 403, 404, 405})
"""Statuses that refuse the client, not the request."""


class Unusable(Exception):
    """An invalid answer or a failed call that a retry may remedy."""

    def __init__(self, reason: str, retry_after: str | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class RefusedParameter(Exception):
    """A refusal that names a parameter."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(eq=False)
class Unanswered(Exception):
    """A request that gets no answer."""

    key: str
    what: str
    """What happened, after the teacher's name."""
    reason: str
    next_step: str


@dataclass(frozen=True)
class Arrived:
    """An answer with its cost."""

    text: str
    finish: Finish
    prompt_tokens: int
    completion_tokens: int
    estimated: bool = False
    without: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    listed: Listed | None = None


@dataclass
class Calling:
    """Makes calls, one at a time or several at once."""

    config: ApiSettings
    parameters: Parameters
    decoding: Decoding
    tell: Callable[[str], None]
    """Called with what a reader of the run should know, once."""
    probing: bool = False
    """Whether the caller wants to see an answer without log-probabilities."""
    _told_of_estimates: bool = False

    async def ask(self, client: Any, request: Request, refused: frozenset[str]) -> Arrived:
        """One call. Raises Unusable, RefusedParameter or Unanswered; TeacherError if none can succeed."""
        import openai

        config = self.config
        body = self.parameters.body(request.key, refused)
        if request.suffix is not None:
            body |= {"suffix": self._suffix(request)}
        try:
            async with asyncio.timeout(config.timeout_seconds):
                if config.endpoint == "chat":
                    system = (
                        [{"role": "system", "content": config.system_prompt}] if config.system_prompt else []
                    )
                    messages = [*system, {"role": "user", "content": request.prompt}]
                    response = await client.chat.completions.with_raw_response.create(
                        messages=messages, model=config.model, extra_body=body
                    )
                else:
                    response = await client.completions.with_raw_response.create(
                        prompt=request.prompt, model=config.model, extra_body=body
                    )
                content = cast(bytes, response.content)
        except UnicodeEncodeError as error:
            reason = f"its prompt holds half of a surrogate pair, {error.object[error.start]!r}"
            raise self._refusal(request, reason) from error
        except (TimeoutError, openai.APITimeoutError) as error:
            raise Unusable(f"no answer in {config.timeout_seconds:g} s") from error
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            reason = f"the connection failed: {str(cause) or type(cause).__name__}"
            raise Unusable(self.shown(reason)) from error
        except openai.APIStatusError as error:
            return self._refused(request, error.response, refused)
        except openai.OpenAIError as error:
            raise Unusable(self.shown(f"invalid answer: {error}")) from error
        try:
            answer = read_answer(content, config.endpoint, request.prompt, self.parameters.lists)
        except NotAnAnswer as error:
            raise Unusable(self.shown(f"invalid answer: {error}")) from error
        self._require_model(request, answer.model)
        if self.parameters.lists and answer.listing is None and answer.text and not self.probing:
            raise self._unlisted(request, "answered", "its answer has no log-probabilities")
        return self._counted(request, answer, refused)

    def _suffix(self, request: Request) -> str:
        if self.config.endpoint == "chat" or request.suffix is None:
            raise TeacherError(
                f"{request.key} asks {self.config.model} for what fills a gap, which chat endpoints are not "
                "told of.",
                next_step="Set endpoint to completions, where the server fills gaps: it takes a `suffix`.",
            )
        return request.suffix

    def _refused(self, request: Request, response: Any, refused: frozenset[str]) -> Arrived:
        """What a response with an error status means: an empty answer, or what :meth:`ask` raises."""
        status, text = response.status_code, response.text
        shown = self.shown(f"status {status}: {_message(text)}")
        if status in (400, 413, 422, 500) and is_too_long(text, self.decoding.sampling.max_new_tokens):
            return Arrived("", "prompt_too_long", 0, 0)
        if status in (400, 422):
            if is_filtered(text):
                return Arrived("", "content_filter", 0, 0)
            if self.parameters.lists and "logprobs" in text:
                raise self._unlisted(request, "refused", shown)
            name = refused_parameter(text, self.parameters.sent(refused))
            if name is not None and self.parameters.can_do_without(name, refused):
                raise RefusedParameter(name)
        if status in _TRANSIENT or status >= 500:
            raise Unusable(shown, response.headers.get("retry-after"))
        if status in _OF_EVERY_REQUEST:
            raise TeacherError(
                f"{self.config.model} refused {request.key}: {shown}",
                next_step="Correct the model, key or address; all answers so far are kept.",
            )
        raise self._refusal(request, shown)

    def _refusal(self, request: Request, reason: str) -> Unanswered:
        step = "Correct the request or the teacher's settings omit, rename and extra_body; "
        return Unanswered(request.key, f"refused {request.key}: {reason}", reason, step + CONTINUES)

    def _unlisted(self, request: Request, did: str, reason: str) -> Unanswered:
        what = f"{did} {request.key} without log-probabilities: {reason}"
        return Unanswered(request.key, what, reason, f"{LISTS_NONE} {CONTINUES.capitalize()}")

    def _require_model(self, request: Request, served: str) -> None:
        names = (self.config.model, *self.config.also_named)
        # A dated version of it, or as transformers' server names it: with the revision.
        if served and not any(
            served in (name, f"{name}@main") or served.startswith(f"{name}-") for name in names
        ):
            shown = self.shown(repr(served))
            raise Unanswered(
                request.key,
                f"was requested for {request.key}, but {shown} answered",
                f"{shown} answered",
                "Use the endpoint's name of the model, or add that name to teacher.also_named; " + CONTINUES,
            )

    def _counted(self, request: Request, answer: Answer, refused: frozenset[str]) -> Arrived:
        prompt_tokens, completion_tokens = answer.prompt_tokens, answer.completion_tokens
        names, limit = self.parameters.names(refused), self.decoding.sampling.max_new_tokens
        estimated = prompt_tokens is None or completion_tokens is None
        if estimated and not self._told_of_estimates:
            self._told_of_estimates = True
            self.tell("the endpoint does not say how many tokens it took: they are estimated")
        if prompt_tokens is None:
            prompt_tokens = self.prompt_tokens(request)
        if completion_tokens is None:
            completion_tokens = estimated_tokens(answer.text + answer.thought)
            if "max_tokens" in names:
                at_limit = answer.finish == "length" or completion_tokens > limit
                completion_tokens = limit if at_limit else completion_tokens
        return Arrived(
            answer.text,
            answer.finish,
            prompt_tokens,
            completion_tokens,
            estimated,
            self.parameters.without(refused),
            shares(answer.first, self.decoding.choices),
            None if answer.listing is None else answer.listing.packed(),
        )

    def prompt_tokens(self, request: Request) -> int:
        """At most so many tokens does the request's prompt have."""
        system = self.config.system_prompt or "" if self.config.endpoint == "chat" else ""
        return estimated_tokens(request.prompt + (request.suffix or "") + system) + TEMPLATE_TOKENS

    def shown(self, text: str) -> str:
        """The first line of what the endpoint said, without credentials."""
        return presentable(text, self.config.base_url, self.config.key_variable)


def _message(text: str) -> str:
    """What an error's body says, on one line."""
    return " ".join(text.split()) or "no reason given"
