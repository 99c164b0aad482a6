"""Calls to an OpenAI-compatible endpoint: many at once, retried, counted, none lost."""

import asyncio
import os
import queue
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

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 30.0
_WAIT_SECONDS = 0.02
_CHARACTERS_PER_TOKEN = 2.0
"""Of the densest prompts: what a call may cost is estimated from above."""
_TRANSIENT = frozenset({408, 409, 425, 429})


class ApiTeacherConfig(Settings):
    """A model that answers over HTTP, in words. Its key stands in the environment and nowhere else."""

    type: Literal["api"] = "api"
    """An endpoint, which gives text alone."""
    model: str = "bigcode/starcoder2-3b"
    """A directory or hub id (`pocket` is the bundled teacher); of an endpoint, the model's name there."""
    base_url: str | None = None
    """Where the API lies, as `http://host:8000/v1` (default: OpenAI's)."""
    endpoint: Literal["chat", "completions"] = "chat"
    """`completions` continues the prompt as it stands; `chat` answers it."""
    system: str | None = None
    """System message, for `chat`."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; an endpoint of one's own needs none."""
    concurrency: PositiveInt = 8
    """Calls at once."""
    timeout_seconds: PositiveFloat = 120.0
    """For one call, from beginning to end, however slowly it drips."""
    retries: NonNegativeInt = 6
    """Calls more, with growing pauses, where the endpoint is busy, broken, or answers nonsense."""
    also_named: tuple[str, ...] = ()
    """Names under which the endpoint may answer besides `model` and its dated versions."""
    prices: Prices | None = None
    """What tokens cost; unknown prices are said to be unknown."""

    def build(self, placement: Placement | None = None) -> "ApiTeacher":
        """The teacher; nothing is called yet. Raises ConfigError where the key is missing."""
        require_key(self.model, self.base_url, self.key_variable, "teacher")
        return ApiTeacher(self)


class _Unusable(Exception):
    """An answer, or a failure to answer, that another try may mend."""

    def __init__(self, reason: str, pause_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.pause_seconds = pause_seconds


@dataclass
class ApiTeacher:
    """A text teacher. With a ledger every call is written down, and the budget is kept."""

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
        """Yield one Completion per request as it arrives; ``text`` is not yet cut.

        When a call fails for good, or the budget is at its end, no further one is begun; those under way are
        paid for, and are yielded first. Raises TeacherError or BudgetError then.
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
            for request in waiting:  # shared: each takes the next
                if halt.is_set():
                    return
                try:
                    arrived.put(await self._one(client, request, decoding))
                except CodestillError as error:
                    halt.set()
                    arrived.put(error)

        config = self.config  # without retries of the client's own: ours are counted
        client = async_openai_client(config.base_url, config.timeout_seconds, 0, config.key_variable)
        async with client:
            await asyncio.gather(*(serve(client) for _ in range(min(self.config.concurrency, len(requests)))))

    async def _one(self, client: Any, request: Request, decoding: Decoding) -> Completion:
        prices, sampling = self.config.prices, decoding.sampling
        read = int(len(request.prompt + (self.config.system or "")) / _CHARACTERS_PER_TOKEN) + 16
        most = read + sampling.max_new_tokens, prices and prices.cost(read, sampling.max_new_tokens)
        if self.ledger is not None:
            await _set_aside(self.ledger, *most)
        started, reasons = time.monotonic(), []
        try:
            while True:
                try:
                    text, finish, usage = await self._ask(client, request, decoding)
                    break
                except _Unusable as error:
                    reasons.append(str(error))
                    if len(reasons) > self.config.retries:
                        raise TeacherError(
                            f"{self.name} gave no usable answer to {request.key} in {len(reasons)} calls; "
                            f"last: {error}",
                            next_step="Look at the endpoint; everything answered is kept, and the same "
                            "command continues.",
                        ) from error
                    pause = min(_FIRST_PAUSE_SECONDS * 2 ** (len(reasons) - 1), _LONGEST_PAUSE_SECONDS)
                    await asyncio.sleep(pause if error.pause_seconds is None else error.pause_seconds)
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
                self.ledger.release(*most)
        return Completion(
            task_id=request.task_id, sample=request.sample, text=text, tokens=usage[1], finish=finish
        )

    async def _ask(
        self, client: Any, request: Request, decoding: Decoding
    ) -> tuple[str, Any, tuple[int, int]]:
        """Text, finish and (prompt, completion) tokens of one call."""
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
            raise _Unusable(f"the connection broke: {error.__cause__ or error}") from error
        except openai.APIStatusError as error:
            said = self._without_key(str(error))
            if error.status_code in _TRANSIENT or error.status_code >= 500:
                raise _Unusable(said, _retry_after(error.response.headers.get("retry-after"))) from error
            raise TeacherError(
                f"{self.name} refused {request.key}: {said}",
                next_step="Mend model, key or request; everything answered is kept.",
            ) from error
        except (openai.APIError, ValueError) as error:  # JSON that is cut, or no answer's
            raise _Unusable(f"not an answer: {self._without_key(str(error))}") from error
        return self._read(answer)

    def _read(self, answer: Any) -> tuple[str, Any, tuple[int, int]]:
        choices = getattr(answer, "choices", None)
        if not choices:
            raise _Unusable("an answer without choices")
        names = (self.config.model, *self.config.also_named)
        served = str(getattr(answer, "model", "") or "")
        if served and not any(served == name or served.startswith(f"{name}-") for name in names):
            raise TeacherError(
                f"{self.name} was asked for, and {served!r} answered.",
                next_step="Name the model as the endpoint does, or list that name in teacher.also_named.",
            )
        choice = choices[0]
        text = choice.message.content if self.config.endpoint == "chat" else choice.text
        if not isinstance(text, str):
            raise _Unusable("an answer without text")
        usage = getattr(answer, "usage", None)
        counted = (usage.prompt_tokens or 0, usage.completion_tokens or 0) if usage else (0, 0)
        return text, "length" if choice.finish_reason == "length" else "stop", counted

    def _without_key(self, text: str) -> str:
        key = os.environ.get(self.config.key_variable)
        return (text.replace(key, "***") if key else text).strip().split("\n")[0][:300]


async def _set_aside(ledger: Ledger, tokens: int, money: float | None) -> None:
    """What calls under way turn out not to take may still be spent: only without any is the budget at its
    end."""
    while True:
        try:
            return ledger.promise(tokens, money)
        except BudgetError:
            if not ledger.promised.calls:
                raise
            await asyncio.sleep(_WAIT_SECONDS)


def _retry_after(header: str | None) -> float | None:
    try:
        return None if header is None else max(0.0, float(header))
    except ValueError:  # a date: the growing pause will do
        return None
