"""The thread that owns the model: requests of all clients are decoded in one batch, step by step."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch

from codestill import matmul
from codestill.errors import ServerBusy
from codestill.models.batch import Batch
from codestill.models.decode import NO_LIMIT
from codestill.models.rows import Finish, Row, ending, text_so_far
from codestill.models.student import Student
from codestill.serve.config import Limits
from codestill.serve.jobs import Answer, Event, Job, Listed, Overdue
from codestill.serve.metrics import Metrics
from codestill.serve.scoring import score

_log = logging.getLogger(__name__)

JOIN_EVERY = 16
"""Steps that a group waits at most to join a batch at work, and as many as rows go on where these are fewer:
every group costs each later step some time, so that they are the larger the more there is to slow down."""


@dataclass
class _Scoring:
    """A prompt whose tokens' log-probabilities are asked for."""

    ids: Sequence[int]
    top: int
    future: "Future[list[Listed | None]]" = field(default_factory=Future)


class Engine:
    """Decodes jobs. Its methods may be called from any thread."""

    def __init__(
        self, student: Student, limits: Limits, metrics: Metrics, threads: int | None = None
    ) -> None:
        self.student, self.limits, self.metrics, self.threads = student, limits, metrics, threads
        self.stop_ids = student.stop_ids
        self._awake = threading.Condition()
        self._new: deque[Job] = deque()
        self._scorings: deque[_Scoring] = deque()
        self._waiting: list[Row] = []
        self._joining: list[Row] = []
        self._events: list[tuple[Job, Event]] = []
        self._closing = False
        self._since_joined = 0
        self.thread = threading.Thread(target=self._run, name="codestill-engine", daemon=True)

    @property
    def positions(self) -> int:
        """Longest sequence that the model reads."""
        return self.student.positions or NO_LIMIT

    def start(self) -> None:
        """Begin to work."""
        self.thread.start()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Put jobs into the queue, all or none. Raises ServerBusy where it is full, or the server ends."""
        with self._awake:
            self._require_room(len(jobs))
            self._new.extend(jobs)
            self.metrics.queue.set(self._queued)
            self._awake.notify()

    def score(self, ids: Sequence[int], top: int) -> "Future[list[Listed | None]]":
        """For every token of a prompt its log-probability and the ``top`` likeliest; None for the first.
        Raises ServerBusy as :meth:`submit` does."""
        with self._awake:
            self._require_room(1)
            scoring = _Scoring(ids, top)
            self._scorings.append(scoring)
            self._awake.notify()
        return scoring.future

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Nobody waits for these any longer."""
        for job in jobs:
            job.cancelled = True
        with self._awake:
            self._awake.notify()

    def close(self) -> None:
        """Take no more jobs, end those that are there, and return when all are done."""
        with self._awake:
            self._closing = True
            self._awake.notify()
        if self.thread.ident is not None:
            self.thread.join()

    @property
    def _queued(self) -> int:
        return len(self._new) + len(self._waiting) + len(self._scorings)

    def _require_room(self, more: int) -> None:
        if self._closing:
            raise ServerBusy("the server is shutting down.", next_step="Ask again when it is back.")
        if self._queued + more > self.limits.queue:
            raise ServerBusy(
                f"{self._queued} answers wait already, and limits.queue is {self.limits.queue}.",
                next_step="Ask again in a second, or raise limits.queue.",
            )

    def _run(self) -> None:
        if self.threads:
            torch.set_num_threads(self.threads)  # of this thread, whatever others have
        model, placement = self.student.model.eval(), self.student.placement
        with torch.inference_mode(), matmul.inference(model):
            self._batch = Batch(
                model,
                self.student.tokenizer,
                longest=self.positions,
                size=placement.decode_batch,
                prefill_tokens=placement.prefill_tokens,
            )
            while self._has_work():
                try:
                    self._step()
                except Exception as error:  # whatever a model's own code raises: the server goes on
                    _log.exception("a step failed; the answers that were being generated are lost")
                    self._fail(error)
                self._tell()

    def _has_work(self) -> bool:
        """Wait for some. False when there is none, and no more comes."""
        with self._awake:
            while not (self._new or self._waiting or self._scorings or self._batch.rows):
                if self._closing:
                    return False
                self._awake.wait()
            self._waiting.extend(self._new)
            self._new.clear()
        return True

    def _step(self) -> None:
        self._drop()
        if self._scorings:
            self._score(self._scorings.popleft())
        batch, ended = self._batch, None
        try:
            batch.advance()
            self._join()
            ended = batch.append(self._finish)
        except torch.OutOfMemoryError:
            if batch.tried == 1:
                raise
        if ended is None:  # outside the handler, whose traceback holds what is to be freed
            self._waiting, self._joining = [*batch.halve(), *self._waiting], []
            return
        now = time.monotonic()
        if batch.rows:
            self.metrics.step_rows.observe(batch.going + len(ended))
            self.metrics.tokens.inc(batch.going + len(ended))
        for row in batch.rows:
            job = _job(row)
            if not job.first:
                job.first = now
                self.metrics.first_token.observe(now - job.begun)
            if job.streams and not row.ended and (part := job.part()):
                self._events.append((job, part))
        for row, how in ended:
            self._end(_job(row), how)

    def _drop(self) -> None:
        """Let rows go that nobody waits for, or whose time has come."""
        now = time.monotonic()
        for row in self._waiting:
            job = _job(row)
            if job.cancelled:
                self.metrics.hang_ups.inc()
            elif now > job.deadline:
                self._events.append((job, Overdue()))
                job.cancelled = True
        self._waiting = [row for row in self._waiting if not _job(row).cancelled]
        for row in self._batch.rows:
            job = _job(row)
            if row.ended:
                continue
            if job.cancelled:
                row.ended = True
                self.metrics.hang_ups.inc()
            elif now > job.deadline or self._has_its_lines(job, now):
                row.ended = True
                self._end(job, "length")

    def _has_its_lines(self, job: Job, now: float) -> bool:
        """Whether its time for lines is over, and one is complete."""
        late = job.line_seconds is not None and job.first and now - job.first > job.line_seconds
        return bool(late) and "\n" in text_so_far(self.student.codec, job)

    def _join(self) -> None:
        """Let waiting rows join, as many as memory holds, the longest prompts first in their group."""
        batch = self._batch
        self._since_joined += 1
        if not self._waiting or not batch.takes_more:
            return
        if self._since_joined < min(JOIN_EVERY, batch.going):
            return
        group = self._waiting[: batch.affordable(self._waiting)]
        if not group:
            return
        self._since_joined, self._joining = 0, group
        now = time.monotonic()
        for row in group:
            _job(row).joined = now
            self.metrics.prompt_tokens.inc(len(row.prompt))
        # Alike lengths share a cohort (codestill.models.shared).
        batch.join(sorted(group, key=lambda row: -len(row.prompt)))
        self._waiting, self._joining = self._waiting[len(group) :], []

    def _finish(self, row: Row) -> Finish | None:
        return ending(self.student.codec, row, self.stop_ids)

    def _end(self, job: Job, how: Finish) -> None:
        """Tell the whole answer."""
        by_token = bool(job.tokens) and job.tokens[-1] in self.stop_ids
        plain = self.student.codec.decode(job.prompt, job.tokens[:-1] if by_token else job.tokens)
        whole, now = job.opening + plain, time.monotonic()
        text = job.stops.cut(whole)
        answer = Answer(
            text=text,
            finish="stop" if len(text) < len(whole) else how,
            tokens=tuple(job.tokens),
            likeliest=tuple(job.likeliest[: self._spelling(job, text, whole)]),
            word=job.stops.word(whole),
            ended_by_token=by_token,
            queue_seconds=job.joined - job.begun,
            prompt_seconds=job.first - job.joined if job.first else 0.0,
            seconds=now - job.first if job.first else 0.0,
        )
        self.metrics.answers.labels(answer.finish).inc()
        self.metrics.answer_seconds.observe(now - job.begun)
        self._events.append((job, answer))

    def _spelling(self, job: Job, text: str, whole: str) -> int:
        """How many tokens it takes to spell a text that may have been cut."""
        count = len(job.tokens)
        while len(text) < len(whole) and count:
            spelled = job.opening + self.student.codec.decode(job.prompt, job.tokens[: count - 1])
            if len(spelled) < len(text):
                break
            count -= 1
        return count

    def _score(self, scoring: _Scoring) -> None:
        if scoring.future.set_running_or_notify_cancel():
            try:
                listed = score(self.student, scoring.ids, scoring.top)
            except Exception as error:  # as above
                scoring.future.set_exception(error)
            else:
                self.metrics.prompt_tokens.inc(len(scoring.ids))
                scoring.future.set_result(listed)

    def _fail(self, error: Exception) -> None:
        """Every row in the batch, and every one that was to join it, gets the error for an answer."""
        lost = [*(row for row in self._batch.rows if not row.ended), *self._joining]
        self._events += [(_job(row), error) for row in lost]
        self._waiting, self._joining = self._waiting[len(self._joining) :], []
        self._batch.clear()

    def _tell(self) -> None:
        """Hand over what has happened, to every client's loop at once."""
        self.metrics.queue.set(self._queued)
        self.metrics.rows.set(self._batch.going)
        loops: dict[asyncio.AbstractEventLoop, list[tuple[Job, Event]]] = {}
        for job, event in self._events:
            loops.setdefault(job.loop, []).append((job, event))
        self._events = []
        for loop, events in loops.items():
            _call(loop, lambda events=events: _put(events))


def _job(row: Row) -> Job:
    assert isinstance(row, Job)
    return row


def _put(events: Sequence[tuple[Job, Event]]) -> None:
    for job, event in events:
        job.events.put_nowait((job, event))


def _call(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(what)
    except RuntimeError:  # it is closed: nobody waits
        _log.debug("answers came after the server had ended")
