"""The calls behind one ``complete`` of an endpoint: concurrent, retried, each recorded in the ledger."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from codestill.errors import BudgetError
from codestill.files.serialize import write_atomic
from codestill.models.completer import Decoding
from codestill.openai_client import async_openai_client, pause_seconds
from codestill.teachers.api_settings import ApiSettings
from codestill.teachers.calling import (
    CONTINUES,
    Arrived,
    Calling,
    RefusedParameter,
    Unanswered,
    Unusable,
)
from codestill.teachers.ledger import AnswerFile, Ledger
from codestill.teachers.parameters import Parameters
from codestill.teachers.refusals import pause_asked
from codestill.types import Call, Completion, Request

FAILURES_IN_A_ROW = 16
"""After so many requests without an answer in between, the endpoint is taken to answer none."""
_WAIT_SECONDS = 0.02


@dataclass
class Asking:
    """Requests on their way: ``run`` fills ``arrived``, in a thread of its own."""

    config: ApiSettings
    parameters: Parameters
    decoding: Decoding
    requests: list[Request]
    ledger: Ledger | None
    stage: str
    files: Callable[[Completion], AnswerFile | None] | None
    """Gives an answer its file; None where it is not to be kept."""
    halt: threading.Event = field(default_factory=threading.Event)
    """Set, no further call starts."""
    arrived: "queue.SimpleQueue[Completion | Unanswered | str | BaseException | None]" = field(
        default_factory=queue.SimpleQueue
    )
    """Completions, requests that get none, what to tell, errors that end everything; None is the last."""
    gave_up: bool = False
    """Whether so many requests in a row got no answer that no further one was tried."""
    probing: bool = False
    """Whether answers without log-probabilities are given, where these are asked for."""
    _failures_in_a_row: int = 0

    def __post_init__(self) -> None:
        self._calling = Calling(self.config, self.parameters, self.decoding, self.arrived.put, self.probing)

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
        prompt_tokens = self._calling.prompt_tokens(request)
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
                listed=found.listed,
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

    async def _retrying(self, client: Any, request: Request, reasons: list[str]) -> Arrived:
        """The answer, after retries; ``reasons`` collects why they were needed. Raises Unanswered."""
        refused = frozenset(self.parameters.refused)
        while True:
            refused |= self.parameters.refused
            try:
                arrived = await self._calling.ask(client, request, refused)
            except RefusedParameter as error:
                refused |= {error.name}
                continue
            except Unusable as error:
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

    def _pause(self, request: Request, error: Unusable, reasons: list[str]) -> float:
        """Seconds until the next try. Raises Unanswered if there is none."""
        if len(reasons) > self.config.retries:
            raise self._unanswered(request, reasons) from error
        asked, longest = pause_asked(error.retry_after), self.config.longest_pause_seconds
        if asked is None:
            return pause_seconds(len(reasons) - 1)
        if asked > longest:
            header = self._calling.shown(error.retry_after or "")[:40]
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
            f"Check the endpoint; {CONTINUES}",
        )
