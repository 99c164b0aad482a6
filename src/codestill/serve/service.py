"""What a request asks for, as jobs for the engine, and their answers as they come."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence

from codestill.errors import ModelError, ServerBusy
from codestill.models import Decoding, SamplingConfig
from codestill.models.chat import ChatCodec
from codestill.models.codec import TextCodec
from codestill.models.rows import CHECK_EVERY
from codestill.models.student import Student
from codestill.models.tokenizers import id_count
from codestill.serve.config import ServeConfig
from codestill.serve.engine import Engine
from codestill.serve.jobs import Answer, Event, Job, Listed, Overdue
from codestill.serve.metrics import Metrics
from codestill.serve.protocol import Body, ChatBody, CompletionBody, InfillBody
from codestill.serve.refusal import Refusal, later
from codestill.serve.spelling import Spelling
from codestill.serve.stops import Stops
from codestill.types import Request

TASK = "served"
"""Task of every request: with it, the sample's number and the seed, ``complete`` gives the same answer."""
_RANDOM = 2**31


class Service:
    """One student, asked by many."""

    def __init__(self, student: Student, config: ServeConfig, name: str) -> None:
        self.student, self.config, self.name = student, config, name
        self.metrics = Metrics()
        self.engine = Engine(student, config.limits, self.metrics, config.threads)
        self.text = TextCodec(student.tokenizer)
        self.chat = student.codec if isinstance(student.codec, ChatCodec) else None
        self.spelling = Spelling(self.text)
        self.begun = int(time.time())

    @property
    def no_infill(self) -> str:
        """Why editors should not ask it to fill gaps; empty where they can."""
        return self.student.unfit_for_gaps

    @property
    def longest_prompt(self) -> int:
        """Tokens of a prompt at most."""
        return min(self.engine.positions - 1, self.config.limits.prompt_tokens or self.engine.positions)

    # What is asked

    def completion(self, body: CompletionBody) -> list[Job]:
        """A job for each prompt and sample, prompt by prompt."""
        self._require_model(body.model)
        jobs: list[Job] = []
        for prompt in body.prompts:
            if isinstance(prompt, str):
                ids = (
                    self.infill(prompt, body.suffix) if body.suffix is not None else self.text.prompt(prompt)
                )
                request = Request(task_id=TASK, prompt=prompt, suffix=body.suffix)
            else:
                ids, request = self._checked(prompt), Request(task_id=TASK, prompt="")
            jobs += self._jobs(body, request, ids, body.max_tokens, top=body.logprobs)
        return jobs

    def conversation(self, body: ChatBody) -> list[Job]:
        """A job for each sample. Raises Refusal where the student does not chat."""
        self._require_model(body.model)
        if self.chat is None:
            raise Refusal(
                404,
                f"{self.name} continues text: it was not trained to answer in a chat.",
                "Use /v1/completions; or, if its tokenizer has a chat template that it knows, start the "
                "server with --chat true.",
                code="no_chat",
            )
        if body.top_logprobs is not None and not body.logprobs:
            raise Refusal(400, "top_logprobs needs logprobs: true.", param="top_logprobs")
        roles = {"developer": "system"}
        turns = [{"role": roles.get(one.role, one.role), "content": one.content} for one in body.messages]
        try:
            ids = self.chat.conversation(turns)
        except ModelError as error:
            raise Refusal(400, error.message, error.next_step, param="messages") from error
        request = Request(task_id=TASK, prompt=turns[-1]["content"])
        most = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
        top = (body.top_logprobs or 0) if body.logprobs else None
        return self._jobs(body, request, ids, most, top=top, opening=self.chat.config.answer_prefix)

    def gap(self, body: InfillBody) -> tuple[list[Job], bool]:
        """A job for each answer to an editor, and whether its texts had to be cut to fit."""
        self._require_model(body.model)
        wanted = body.max_tokens if body.n_predict is None else body.n_predict
        most = self.config.sampling.max_new_tokens if wanted in (None, -1) else wanted
        most = min(most or 1, self.config.limits.new_tokens)
        prefix, suffix, cut = self._fitting(body, self.longest_prompt - most)
        ids = self.infill(prefix, suffix)
        request = Request(task_id=TASK, prompt=prefix, suffix=suffix)
        jobs = self._jobs(
            body.model_copy(update={"n": body.n_cmpl, "seed": None if (body.seed or 0) < 0 else body.seed}),
            request,
            ids,
            most,
            temperature=body.temperature or 0.0,
            indent=body.n_indent,
        )
        for job in jobs:
            job.line_seconds = body.t_max_predict_ms / 1000 if body.t_max_predict_ms else None
        return jobs, cut

    def infill(self, prefix: str, suffix: str) -> list[int]:
        """Ids of a gap. Raises Refusal for a student without tokens for it."""
        try:
            return self.text.gap(prefix, suffix)
        except ModelError as error:
            raise Refusal(
                400, error.message, error.next_step, param="suffix", code="no_fill_in_the_middle"
            ) from error

    def _fitting(self, body: InfillBody, room: int) -> tuple[str, str, bool]:
        """Prefix and suffix of at most ``room`` tokens, and whether they were cut: the suffix to a quarter
        from its beginning, the prefix to the rest from its end; pieces of other files stand before the prefix
        where all of it fits, the latest ones first to be taken."""
        suffix, cut = self._head(body.input_suffix, room // 4)
        room -= len(self.text.text([suffix])[0]) + 8  # the gap's own tokens
        whole = body.input_prefix + body.prompt
        tail = self._tail(whole, room)
        room -= len(self.text.text([tail])[0])
        before: list[str] = []
        for extra in reversed(body.input_extra) if tail == whole else ():
            room -= len(self.text.text([extra.text])[0]) + 1
            if room < 0:
                break
            before.insert(0, extra.text if extra.text.endswith("\n") else extra.text + "\n")
        return "".join(before) + tail, suffix, cut or tail != whole

    def _head(self, text: str, room: int) -> tuple[str, bool]:
        """The whole lines at the beginning of a text that have at most so many tokens."""
        ids = self.text.text([text])[0]
        if len(ids) <= room:
            return text, False
        kept = self.text.decode((), ids[: max(0, room)])
        return kept[: kept.rfind("\n") + 1], True

    def _tail(self, text: str, room: int) -> str:
        """The whole lines at the end."""
        ids = self.text.text([text])[0]
        if len(ids) <= room:
            return text
        kept = self.text.decode((), ids[len(ids) - max(0, room) :])
        return kept[kept.find("\n") + 1 :]

    def _jobs(
        self,
        body: Body,
        request: Request,
        ids: Sequence[int],
        most: int | None,
        *,
        top: int | None = None,
        temperature: float | None = None,
        indent: int = 0,
        opening: str = "",
    ) -> list[Job]:
        """A job for each sample of a prompt. Raises Refusal for what exceeds a limit."""
        limits, default = self.config.limits, self.config.sampling
        count = body.n or 1
        self._require("n", count, limits.answers, "answers")
        self._require("max_tokens", most or 0, limits.new_tokens, "new_tokens")
        self._require("logprobs", top or 0, limits.logprobs, "logprobs")
        if len(ids) > self.longest_prompt:
            raise Refusal(
                400,
                f"the prompt has {len(ids):,} tokens, and {self.longest_prompt:,} are the most.",
                param="prompt",
                code="context_length_exceeded",
            )
        temperature = body.temperature if temperature is None else temperature
        temperature = default.temperature if temperature is None else temperature
        stops, streams = Stops(tuple(body.stop), indent), bool(body.stream)
        decoding = Decoding(
            SamplingConfig(
                temperature=temperature,
                top_p=default.top_p if body.top_p is None else body.top_p,
                max_new_tokens=(default.max_new_tokens if most is None else most) or 1,
            ),
            stopped=(lambda text: stops.ended(opening + text)) if stops or streams else None,
            seed=(secrets.randbelow(_RANDOM) if temperature else 0) if body.seed is None else body.seed,
        )
        events: asyncio.Queue[tuple[Job, Event]] = asyncio.Queue()
        return [
            Job(
                request=request.model_copy(update={"sample": sample}),
                prompt=tuple(ids),
                room=min(decoding.sampling.max_new_tokens, self.engine.positions - len(ids)),
                decoding=decoding,
                top=top,
                events=events,
                loop=asyncio.get_running_loop(),
                stops=stops,
                streams=streams,
                opening=opening,
                deadline=time.monotonic() + limits.seconds,
                check_every=1 if streams else CHECK_EVERY,
            )
            for sample in range(count)
        ]

    def _require(self, field: str, value: int, limit: int, name: str) -> None:
        if value > limit:
            raise Refusal(400, f"{field} is {value:,}; limits.{name} is {limit:,} here.", param=field)

    def _require_model(self, model: str | None) -> None:
        if model not in (None, "", self.name, self.config.model):
            raise Refusal(
                404,
                f"there is no model {model!r} here.",
                f"The one that is served is {self.name!r}.",
                param="model",
                code="model_not_found",
            )

    def _checked(self, ids: Sequence[int]) -> list[int]:
        known = id_count(self.student.tokenizer)
        if not ids:
            raise Refusal(400, "the prompt is empty.", param="prompt")
        if max(ids) >= known:
            raise Refusal(
                400, f"token id {max(ids)} is not one of the tokenizer's {known:,}.", param="prompt"
            )
        return [*ids]

    # Answers

    def submit(self, jobs: Sequence[Job]) -> None:
        """Put jobs into the engine's queue. Raises Refusal where it is full, or the server ends."""
        for job in jobs:
            job.events = jobs[0].events
        self._require("prompt and n", len(jobs), self.config.limits.answers, "answers")
        try:
            self.engine.submit(jobs)
        except ServerBusy as error:
            raise _busy(error) from error

    async def events(self, jobs: Sequence[Job]) -> AsyncIterator[tuple[Job, Event]]:
        """What is told of submitted jobs, until each has its answer. Left early, it cancels the others.
        Raises Refusal for one that is not answered."""
        left = set(jobs)
        try:
            while left:
                job, event = await jobs[0].events.get()
                if isinstance(event, Overdue):
                    raise later(f"no place was free within {self.config.limits.seconds:g} s.")
                if isinstance(event, Exception):
                    raise Refusal(500, f"the model failed: {type(event).__name__}.") from event
                if isinstance(event, Answer):
                    left.discard(job)
                yield job, event
        finally:
            self.engine.cancel([*left])

    async def answers(self, jobs: Sequence[Job]) -> list[Answer]:
        """All answers, in the jobs' order."""
        self.submit(jobs)
        found: dict[Job, Answer] = {}
        async for job, event in self.events(jobs):
            if isinstance(event, Answer):
                found[job] = event
        return [found[job] for job in jobs]

    async def scored(self, ids: Sequence[int], top: int) -> list[Listed | None]:
        """See :meth:`Engine.score`."""
        self._require("prompt_logprobs", top, self.config.limits.logprobs, "logprobs")
        try:
            future = self.engine.score(ids, top)
        except ServerBusy as error:
            raise _busy(error) from error
        return await asyncio.wrap_future(future)


def _busy(error: ServerBusy) -> Refusal:
    return later(str(error).replace("\n ", ""), 503 if "shutting down" in error.message else 429)
