"""Calls to an OpenAI-compatible endpoint: concurrent, retried, each recorded in the ledger."""

import asyncio
import logging
import os
import queue
import re
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from codestill.errors import BudgetError, CodestillError, TeacherError
from codestill.models.completer import Decoding
from codestill.models.settings import Placement
from codestill.openai_client import async_openai_client, require_key
from codestill.serialize import seed_for
from codestill.teachers.ledger import Ledger, Prices
from codestill.types import Call, Completion, Request, Settings

_log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 30.0
_WAIT_SECONDS = 0.02
_CHARACTERS_PER_TOKEN = 2.0
"""Of the densest prompts: the cost of a call is bounded from above."""
_NO_ROOM = re.compile(r"(context|prompt|input|model) (length|window)|prompt is too long|max_model_len", re.I)
_CONTEXT = re.compile(r"(?:context|model) (?:length|window) (?:is|of) (\d+)", re.I)
_TRANSIENT = frozenset({408, 409, 425, 429})


class ApiTeacherConfig(Settings):
    """A text-only model behind an HTTP endpoint. Its key is read from the environment and stored nowhere."""

    type: Literal["api"] = "api"
    """An OpenAI-compatible endpoint, which gives text and no logits."""
    model: str = "bigcode/starcoder2-3b"
    """A directory or hub id (`pocket` is the bundled teacher); of an endpoint, the model's name there."""
    base_url: str | None = None
    """URL of the API, as `http://host:8000/v1` (default: OpenAI's)."""
    endpoint: Literal["chat", "completions"] = "chat"
    """`completions` continues the prompt as it is; `chat` answers it as a user message."""
    system: str | None = None
    """System message, for `chat`."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable with the key; a self-hosted endpoint needs none."""
    concurrency: PositiveInt = 8
    """Number of concurrent calls."""
    timeout_seconds: PositiveFloat = 120.0
    """Limit on the total duration of a call, even while its response still arrives."""
    retries: NonNegativeInt = 6
    """Retries of a call, with exponential backoff, if the endpoint is busy, fails or answers invalidly."""
    also_named: tuple[str, ...] = ()
    """Names under which the endpoint may answer besides `model` and its dated versions."""
    prices: Prices | None = None
    """Prices of tokens; without them, costs are reported as unknown."""

    def build(self, placement: Placement | None = None) -> "ApiTeacher":
        """The teacher; no call is made yet. Raises ConfigError if the key is missing."""
        require_key(self.model, self.base_url, self.key_variable, "teacher")
        return ApiTeacher(self)


class _Unusable(Exception):
    """An invalid answer or a failed call that a retry may remedy."""

    def __init__(self, reason: str, pause_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.pause_seconds = pause_seconds


@dataclass
class ApiTeacher:
    """A text-only teacher. With a ledger, every call is recorded and the budget enforced."""

    config: ApiTeacherConfig
    ledger: Ledger | None = None
    stage: str = ""

    @property
    def name(self) -> str:
        return self.config.model

    @property
    def identity(self) -> dict[str, Any]:
        """What an answer depends on besides request, sampling and seed."""
        return {"model": self.config.model, "endpoint": self.config.endpoint, "system": self.config.system}

    def complete(self, requests: Iterable[Request], decoding: Decoding) -> Iterator[Completion]:
        """Yield one Completion per request as it arrives; ``text`` is not yet truncated at stop sequences.

        When a call fails for good, or the budget is exhausted, no further call starts; those in flight are
        awaited and yielded. Raises TeacherError or BudgetError then.
        """
        arrived: queue.SimpleQueue[Completion | BaseException | None] = queue.SimpleQueue()
        halt = threading.Event()
        worker = threading.Thread(
            target=self._work, args=(list(requests), decoding, arrived, halt), daemon=True
        )
        worker.start()
        failure: BaseException | None = None
        try:
            while (item := arrived.get()) is not None:
                if isinstance(item, BaseException):
                    failure = failure or item
                else:
                    yield item
        finally:
            halt.set()
        if failure is not None:
            raise failure

    def _work(
        self,
        requests: list[Request],
        decoding: Decoding,
        arrived: "queue.SimpleQueue[Completion | BaseException | None]",
        halt: threading.Event,
    ) -> None:
        try:
            asyncio.run(self._all(requests, decoding, arrived, halt))
        except BaseException as error:
            arrived.put(error)
        finally:
            arrived.put(None)

    async def _all(
        self,
        requests: list[Request],
        decoding: Decoding,
        arrived: "queue.SimpleQueue[Completion | BaseException | None]",
        halt: threading.Event,
    ) -> None:
        waiting = iter(requests)

        async def serve(client: Any) -> None:
            for request in waiting:  # shared by all workers: each takes the next
                if halt.is_set():
                    return
                try:
                    arrived.put(await self._complete(client, request, decoding))
                except CodestillError as error:
                    halt.set()
                    arrived.put(error)

        config = self.config  # 0 retries of the client's own: only ours are recorded
        client = async_openai_client(config.base_url, config.timeout_seconds, 0, config.key_variable)
        async with client:
            await asyncio.gather(*(serve(client) for _ in range(min(self.config.concurrency, len(requests)))))

    async def _complete(self, client: Any, request: Request, decoding: Decoding) -> Completion:
        prices, sampling = self.config.prices, decoding.sampling
        prompt_tokens = int(len(request.prompt + (self.config.system or "")) / _CHARACTERS_PER_TOKEN) + 16
        bound = (
            prompt_tokens + sampling.max_new_tokens,
            prices and prices.cost(prompt_tokens, sampling.max_new_tokens),
        )
        if self.ledger is not None:
            await _reserve(self.ledger, *bound)
        started, reasons = time.monotonic(), list[str]()
        try:
            text, finish, usage = await self._retrying(client, request, decoding, reasons)
        except TeacherError as error:
            if not _too_long(error, decoding.sampling.max_new_tokens):
                raise
            _log.warning("%s has no room for %s: its answer is empty", self.name, request.key)
            return Completion(
                task_id=request.task_id, sample=request.sample, text="", finish="length", too_long=True
            )
        else:
            if self.ledger is not None:
                call = Call(
                    key=request.key,
                    stage=self.stage,
                    model=self.name,
                    prompt_tokens=usage[0],
                    completion_tokens=usage[1],
                    cost=prices.cost(*usage) if prices else None,
                    retries=tuple(reasons),
                    seconds=round(time.monotonic() - started, 3),
                )
                self.ledger.record(call)
        finally:
            if self.ledger is not None:
                self.ledger.release(*bound)
        return Completion(
            task_id=request.task_id, sample=request.sample, text=text, tokens=usage[1], finish=finish
        )

    async def _retrying(
        self, client: Any, request: Request, decoding: Decoding, reasons: list[str]
    ) -> tuple[str, Any, tuple[int, int]]:
        """What :meth:`_ask` returns, after retries; ``reasons`` collects why they were needed."""
        while True:
            try:
                return await self._ask(client, request, decoding)
            except _Unusable as error:
                reasons.append(str(error))
                if len(reasons) > self.config.retries:
                    raise TeacherError(
                        f"{self.name} gave no usable answer to {request.key} in {len(reasons)} calls; "
                        f"last: {error}",
                        next_step="Check the endpoint; all answers so far are kept, and the same command "
                        "continues.",
                    ) from error
                pause = min(_FIRST_PAUSE_SECONDS * 2 ** (len(reasons) - 1), _LONGEST_PAUSE_SECONDS)
                await asyncio.sleep(pause if error.pause_seconds is None else error.pause_seconds)

    async def _ask(
        self, client: Any, request: Request, decoding: Decoding
    ) -> tuple[str, Any, tuple[int, int]]:
        """Text, finish reason and (prompt, completion) tokens of one call."""
        import openai

        options = {
            "model": self.config.model,
            "temperature": decoding.sampling.temperature,
            "top_p": decoding.sampling.top_p,
            "max_tokens": decoding.sampling.max_new_tokens,
            "seed": seed_for(decoding.seed, request.key) % 2**31,
            "stream": False,
        }
        try:
            async with asyncio.timeout(self.config.timeout_seconds):
                if self.config.endpoint == "chat":
                    system = [{"role": "system", "content": self.config.system}] if self.config.system else []
                    messages = [*system, {"role": "user", "content": request.prompt}]
                    answer = await client.chat.completions.create(messages=messages, **options)
                else:
                    answer = await client.completions.create(prompt=request.prompt, **options)
        except (TimeoutError, openai.APITimeoutError) as error:
            raise _Unusable(f"no answer in {self.config.timeout_seconds:g} s") from error
        except openai.APIConnectionError as error:
            raise _Unusable(f"the connection failed: {error.__cause__ or error}") from error
        except openai.APIStatusError as error:
            message = self._without_key(str(error))
            if error.status_code in _TRANSIENT or error.status_code >= 500:
                raise _Unusable(message, _retry_after(error.response.headers.get("retry-after"))) from error
            raise TeacherError(
                f"{self.name} refused {request.key}: {message}",
                next_step="Correct the model, key or request; all answers so far are kept.",
            ) from error
        except (openai.APIError, ValueError) as error:  # truncated JSON, or not the format of an answer
            raise _Unusable(f"invalid answer: {self._without_key(str(error))}") from error
        return self._read(answer)

    def _read(self, answer: Any) -> tuple[str, Any, tuple[int, int]]:
        choices = getattr(answer, "choices", None)
        if not choices:
            raise _Unusable("the answer has no choices")
        names = (self.config.model, *self.config.also_named)
        served = str(getattr(answer, "model", "") or "")
        if served and not any(served == name or served.startswith(f"{name}-") for name in names):
            raise TeacherError(
                f"{self.name} was requested, but {served!r} answered.",
                next_step="Use the endpoint's name of the model, or add that name to teacher.also_named.",
            )
        choice = choices[0]
        text = choice.message.content if self.config.endpoint == "chat" else choice.text
        if not isinstance(text, str):
            raise _Unusable("the answer has no text")
        usage = getattr(answer, "usage", None)
        tokens = (usage.prompt_tokens or 0, usage.completion_tokens or 0) if usage else (0, 0)
        return text, "length" if choice.finish_reason == "length" else "stop", tokens

    def _without_key(self, text: str) -> str:
        key = os.environ.get(self.config.key_variable)
        return (text.replace(key, "***") if key else text).strip().split("\n")[0][:300]


async def _reserve(ledger: Ledger, tokens: int, money: float | None) -> None:
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


def _too_long(error: TeacherError, answer_tokens: int) -> bool:
    """Whether the endpoint refused a prompt for its length, and the longest answer would fit by itself."""
    said = _NO_ROOM.search(error.message)
    if said is None and getattr(error.__cause__, "code", None) != "context_length_exceeded":
        return False
    stated = _CONTEXT.search(error.message)
    return stated is None or answer_tokens < int(stated[1])


def _retry_after(header: str | None) -> float | None:
    try:
        return None if header is None else max(0.0, float(header))
    except ValueError:  # a date: the exponential backoff applies
        return None
