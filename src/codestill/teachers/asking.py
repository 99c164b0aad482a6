"""The calls behind one ``complete`` of an endpoint: concurrent, retried, each recorded in the ledger."""

import asyncio
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from codestill.errors import BudgetError, TeacherError
from codestill.files.serialize import write_atomic
from codestill.models.completer import Decoding, shares
from codestill.openai_client import async_openai_client, pause_seconds, presentable
from codestill.teachers.answers import (
    TEMPLATE_TOKENS,
    Answer,
    NotAnAnswer,
    estimated_tokens,
    read_answer,
)
from codestill.teachers.api_settings import ApiSettings
from codestill.teachers.ledger import Ledger
from codestill.teachers.parameters import Parameters
from codestill.teachers.refusals import is_filtered, is_too_long, pause_asked, refused_parameter
from codestill.teachers.replay import AnswerFiles
from codestill.types import Call, Completion, Finish, Request

FAILURES_IN_A_ROW = 16
"""After so many requests without an answer in between, the endpoint is taken to answer none."""
_WAIT_SECONDS = 0.02
_TRANSIENT = frozenset({408, 409, 425, 429})
_OF_EVERY_REQUEST = frozenset({401, 402, 403, 404, 405})
"""Statuses that refuse the client, not the request."""
_CONTINUES = "all answers so far are kept, and the same command continues."


class _Unusable(Exception):
    """An invalid answer or a failed call that a retry may remedy."""

    def __init__(self, reason: str, retry_after: str | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class _RefusedParameter(Exception):
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
class _Arrived:
    """An answer with its cost."""

    text: str
    finish: Finish
    prompt_tokens: int
    completion_tokens: int
    estimated: bool = False
    without: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()


@dataclass
class Asking:
    """Requests on their way: ``run`` fills ``arrived``, in a thread of its own."""

    config: ApiSettings
    parameters: Parameters
    decoding: Decoding
    requests: list[Request]
    ledger: Ledger | None
    stage: str
    files: AnswerFiles | None
    halt: threading.Event = field(default_factory=threading.Event)
    """Set, no further call starts."""
    arrived: "queue.SimpleQueue[Completion | Unanswered | str | BaseException | None]" = field(
        default_factory=queue.SimpleQueue
    )
    """Completions, requests that get none, what to tell, errors that end everything; None is the last."""
    gave_up: bool = False
    """Whether so many requests in a row got no answer that no further one was tried."""
    _failures_in_a_row: int = 0
    _told_of_estimates: bool = False

    def run(self) -> None:
        """Make the calls."""
        try:
            asyncio.run(self._all())
        except BaseException as error:
            self.arrived.put(error)
        finally:
            self.arrived.put(None)

    @property
    def _halted(self) -> bool:
        """Whether no further call starts: the main thread may have ended, and wait for those in flight."""
        return self.halt.is_set() or not threading.main_thread().is_alive()

    async def _all(self) -> None:
        config, waiting = self.config, iter(self.requests)
        # 0 retries of the client's own: only ours are recorded.
        client = async_openai_client(config.base_url, config.timeout_seconds, 0, config.key_variable)
        async with client:
            await asyncio.gather(
                *(self._serve(client, waiting) for _ in range(min(config.concurrency, len(self.requests))))
            )

    async def _serve(self, client: Any, waiting: Iterator[Request]) -> None:
        for request in waiting:  # shared by all workers: each takes the next
            if self._halted:
                return
            try:
                if completion := await self._complete(client, request):
                    self.arrived.put(completion)
                    self._failures_in_a_row = 0
            except Unanswered as error:
                self.arrived.put(error)
                self._failures_in_a_row += 1
                if self._failures_in_a_row >= FAILURES_IN_A_ROW:
                    self.gave_up = True
                    self.halt.set()
            except Exception as error:  # of the budget, the client or the disk: the others are still awaited
                self.halt.set()
                self.arrived.put(error)

    async def _complete(self, client: Any, request: Request) -> Completion | None:
        """The request's completion, entered in the ledger; None if no call may start any more."""
        prices, sampling = self.config.prices, self.decoding.sampling
        prompt_tokens = self._prompt_tokens(request)
        bound = (
            prompt_tokens + sampling.max_new_tokens,
            prices and prices.cost(prompt_tokens, sampling.max_new_tokens),
        )
        if self.ledger is not None:
            await self._reserve(self.ledger, *bound)
        started, reasons = time.monotonic(), list[str]()
        try:
            if self._halted:
                return None
            found = await self._retrying(client, request, reasons)
            completion = Completion(
                task_id=request.task_id,
                sample=request.sample,
                text=found.text,
                tokens=found.completion_tokens,
                finish=found.finish,
                probabilities=found.probabilities,
            )
            file = self.files(completion) if self.files else None
            if self.ledger is not None:
                call = Call(
                    key=request.key,
                    stage=self.stage,
                    model=self.config.model,
                    prompt_tokens=found.prompt_tokens,
                    completion_tokens=found.completion_tokens,
                    estimated=found.estimated,
                    cost=prices.cost(found.prompt_tokens, found.completion_tokens) if prices else None,
                    finish=found.finish,
                    without=found.without,
                    retries=tuple(reasons),
                    seconds=round(time.monotonic() - started, 3),
                )
                self.ledger.record(call, file)
            elif file is not None:
                write_atomic(file.path, file.content)
        finally:
            if self.ledger is not None:
                self.ledger.release(*bound)
        return completion

    async def _reserve(self, ledger: Ledger, tokens: int, money: float | None) -> None:
        """Reserve a call's bound, waiting while calls in flight may still release theirs.

        Raises BudgetError if the budget does not allow the call and none is in flight.
        """
        while True:
            try:
                return ledger.promise(tokens, money)
            except BudgetError:
                if not ledger.promised.calls:
                    raise
                await asyncio.sleep(_WAIT_SECONDS)

    async def _retrying(self, client: Any, request: Request, reasons: list[str]) -> _Arrived:
        """The answer, after retries; ``reasons`` collects why they were needed. Raises Unanswered."""
        refused = frozenset(self.parameters.refused)
        while True:
            refused |= self.parameters.refused
            try:
                arrived = await self._ask(client, request, refused)
            except _RefusedParameter as error:
                refused |= {error.name}
                continue
            except _Unusable as error:
                reasons.append(str(error))
                pause = self._pause(request, error, reasons)
                deadline = time.monotonic() + pause
                while not self._halted and (left := deadline - time.monotonic()) > 0:
                    await asyncio.sleep(min(left, 10 * _WAIT_SECONDS))
                if self._halted:
                    raise self._unanswered(request, reasons, "no further call is started") from error
            else:
                if news := self.parameters.learn(refused):
                    self.arrived.put(news)
                return arrived

    def _pause(self, request: Request, error: _Unusable, reasons: list[str]) -> float:
        """Seconds until the next try. Raises Unanswered if there is none."""
        if len(reasons) > self.config.retries:
            raise self._unanswered(request, reasons) from error
        asked, longest = pause_asked(error.retry_after), self.config.longest_pause_seconds
        if asked is None:
            return pause_seconds(len(reasons) - 1)
        if asked > longest:
            header = self._shown(error.retry_after or "")[:40]
            why = f"it demands a pause (Retry-After: {header})"
            raise self._unanswered(
                request, reasons, f"{why} longer than longest_pause_seconds, {longest:g}"
            ) from error
        return asked

    def _unanswered(self, request: Request, reasons: list[str], why: str = "") -> Unanswered:
        reason = f"{reasons[-1]}; {why}" if why else reasons[-1]
        calls = f"{len(reasons)} call{'s' if len(reasons) > 1 else ''}"
        return Unanswered(
            request.key,
            f"gave no usable answer to {request.key} in {calls}; last: {reason}",
            reason,
            f"Check the endpoint; {_CONTINUES}",
        )

    async def _ask(self, client: Any, request: Request, refused: frozenset[str]) -> _Arrived:
        """One call. Raises _Unusable, _RefusedParameter or Unanswered; TeacherError if none can succeed."""
        import openai

        config = self.config
        body = self.parameters.body(request.key, refused)
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
            raise _Unusable(f"no answer in {config.timeout_seconds:g} s") from error
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            reason = f"the connection failed: {str(cause) or type(cause).__name__}"
            raise _Unusable(self._shown(reason)) from error
        except openai.APIStatusError as error:
            return self._refused(request, error.response, refused)
        except openai.OpenAIError as error:
            raise _Unusable(self._shown(f"invalid answer: {error}")) from error
        try:
            answer = read_answer(content, config.endpoint, request.prompt)
        except NotAnAnswer as error:
            raise _Unusable(self._shown(f"invalid answer: {error}")) from error
        self._require_model(request, answer.model)
        return self._counted(request, answer, refused)

    def _refused(self, request: Request, response: Any, refused: frozenset[str]) -> _Arrived:
        """What a response with an error status means: an empty answer, or what :meth:`_ask` raises."""
        status, text = response.status_code, response.text
        shown = self._shown(f"status {status}: {_message(text)}")
        if status in (400, 413, 422, 500) and is_too_long(text, self.decoding.sampling.max_new_tokens):
            return _Arrived("", "prompt_too_long", 0, 0)
        if status in (400, 422):
            if is_filtered(text):
                return _Arrived("", "content_filter", 0, 0)
            name = refused_parameter(text, self.parameters.sent(refused))
            if name is not None and self.parameters.can_do_without(name, refused):
                raise _RefusedParameter(name)
        if status in _TRANSIENT or status >= 500:
            raise _Unusable(shown, response.headers.get("retry-after"))
        if status in _OF_EVERY_REQUEST:
            raise TeacherError(
                f"{self.config.model} refused {request.key}: {shown}",
                next_step="Correct the model, key or address; all answers so far are kept.",
            )
        raise self._refusal(request, shown)

    def _refusal(self, request: Request, reason: str) -> Unanswered:
        step = "Correct the request or the teacher's settings omit, rename and extra_body; "
        return Unanswered(request.key, f"refused {request.key}: {reason}", reason, step + _CONTINUES)

    def _require_model(self, request: Request, served: str) -> None:
        names = (self.config.model, *self.config.also_named)
        if served and not any(served == name or served.startswith(f"{name}-") for name in names):
            shown = self._shown(repr(served))
            raise Unanswered(
                request.key,
                f"was requested for {request.key}, but {shown} answered",
                f"{shown} answered",
                "Use the endpoint's name of the model, or add that name to teacher.also_named; " + _CONTINUES,
            )

    def _counted(self, request: Request, answer: Answer, refused: frozenset[str]) -> _Arrived:
        prompt_tokens, completion_tokens = answer.prompt_tokens, answer.completion_tokens
        names, limit = self.parameters.names(refused), self.decoding.sampling.max_new_tokens
        estimated = prompt_tokens is None or completion_tokens is None
        if estimated and not self._told_of_estimates:
            self._told_of_estimates = True
            self.arrived.put("the endpoint does not say how many tokens it took: they are estimated")
        if prompt_tokens is None:
            prompt_tokens = self._prompt_tokens(request)
        if completion_tokens is None:
            completion_tokens = estimated_tokens(answer.text + answer.thought)
            if "max_tokens" in names:
                at_limit = answer.finish == "length" or completion_tokens > limit
                completion_tokens = limit if at_limit else completion_tokens
        return _Arrived(
            answer.text,
            answer.finish,
            prompt_tokens,
            completion_tokens,
            estimated,
            self.parameters.without(refused),
            shares(answer.first, self.decoding.choices),
        )

    def _prompt_tokens(self, request: Request) -> int:
        system = self.config.system_prompt or "" if self.config.endpoint == "chat" else ""
        return estimated_tokens(request.prompt + system) + TEMPLATE_TOKENS

    def _shown(self, text: str) -> str:
        return presentable(text, self.config.base_url, self.config.key_variable)


def _message(text: str) -> str:
    """What an error's body says, on one line."""
    return " ".join(text.split()) or "no reason given"
