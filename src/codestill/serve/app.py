"""The routes."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from codestill.serve.answers import (
    Shape,
    chat_choice,
    chat_delta,
    completion_choice,
    gap,
    headed,
    usage,
)
from codestill.serve.gate import read, require_key
from codestill.serve.jobs import Answer, Job, Part
from codestill.serve.protocol import ChatBody, CompletionBody, FimBody, InfillBody
from codestill.serve.refusal import Refusal
from codestill.serve.service import Service

T = TypeVar("T")
Chunks = AsyncIterator[Shape]


class HungUp(Exception):
    """The client does not wait any longer."""


def application(service: Service, key: str | None) -> FastAPI:
    """The server of a student, whose engine runs as long as it does; ``key`` is what clients must send."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.engine.start()
        yield
        await asyncio.to_thread(service.engine.close)

    async def allowed(request: Request) -> None:
        require_key(request, key, service.config.key_variable)

    app = FastAPI(openapi_url=None, lifespan=lifespan)
    app.add_middleware(_Counted, service=service)
    app.include_router(_open_routes())
    app.include_router(_routes(service), dependencies=[Depends(allowed)])
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(HungUp, _nobody)
    return app


def _open_routes() -> APIRouter:
    router = APIRouter()

    @router.get("/health")
    async def health() -> Shape:
        return {"status": "ok"}

    return router


def _routes(service: Service) -> APIRouter:
    router, limits = APIRouter(), service.config.limits

    @router.get("/metrics")
    async def metrics() -> Response:
        return PlainTextResponse(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @router.get("/v1/models")
    async def models() -> Shape:
        return {"object": "list", "data": [_model(service)]}

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> Shape:
        if name != service.name:
            raise Refusal(404, f"there is no model {name!r} here.", code="model_not_found")
        return _model(service)

    @router.post("/v1/completions")
    async def completions(request: Request) -> Response:
        body = await read(request, CompletionBody, limits)
        jobs = service.completion(body)
        if body.stream:
            return _streamed(service, jobs, _completion_chunks(service, body, jobs))
        return JSONResponse(await _unless_gone(request, _completion(service, body, jobs)))

    @router.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body = await read(request, ChatBody, limits)
        jobs = service.conversation(body)
        with_usage = bool(body.stream_options and body.stream_options.include_usage)
        return await _chatted(service, request, jobs, bool(body.stream), with_usage)

    @router.post("/v1/fim/completions")
    async def fim(request: Request) -> Response:
        body = await read(request, FimBody, limits)
        same = body.model_dump(
            exclude_unset=True, include={"model", "temperature", "top_p", "stop", "stream"}
        )
        most = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
        seed = body.seed if body.random_seed is None else body.random_seed
        asked = CompletionBody(
            prompt=body.prompt, suffix=body.suffix or "", max_tokens=most, seed=seed, **same
        )
        jobs = service.completion(asked)
        return await _chatted(service, request, jobs, bool(body.stream), with_usage=False)

    @router.post("/infill")
    async def infill(request: Request) -> Response:
        body = await read(request, InfillBody, limits)
        if (body.max_tokens if body.n_predict is None else body.n_predict) == 0:
            # An editor warms up a server that keeps prompts; this one has nothing to warm.
            service.infill("", "")
            fields = body.response_fields
            return JSONResponse({} if fields is not None and "content" not in fields else {"content": ""})
        jobs, cut = service.gap(body)
        if body.stream:
            return _streamed(service, jobs, _gap_chunks(service, body, jobs, cut), ends="")
        answers = await _unless_gone(request, service.answers(jobs))
        shapes = [
            gap(index, job, answer, service.name, cut, body)
            for index, (job, answer) in enumerate(zip(jobs, answers, strict=True))
        ]
        return JSONResponse(shapes[0] if len(shapes) == 1 else shapes)

    return router


def _model(service: Service) -> Shape:
    return {
        "id": service.name,
        "object": "model",
        "created": service.begun,
        "owned_by": "codestill",
        "max_model_len": service.student.positions,
    }


# Whole answers


async def _completion(service: Service, body: CompletionBody, jobs: Sequence[Job]) -> Shape:
    """The answer to a request for completions, with what is listed of its prompts."""
    listed: dict[tuple[int, ...], Any] = {}
    tops = [body.prompt_logprobs, body.logprobs if body.echo else None]
    if any(top is not None for top in tops):
        top = max(top or 0 for top in tops)
        prompts = list(dict.fromkeys(job.prompt for job in jobs))
        scored = await asyncio.gather(*(service.scored(prompt, top) for prompt in prompts))
        listed = dict(zip(prompts, scored, strict=True))
    if body.max_tokens == 0:
        answers = [_NOTHING] * len(jobs)
    else:
        answers = await service.answers(jobs)
    choices = [
        completion_choice(index, job, answer, service.spelling, body, prompt=listed.get(job.prompt))
        for index, (job, answer) in enumerate(zip(jobs, answers, strict=True))
    ]
    return headed("text_completion", service.name, choices, _used(jobs, answers))


async def _chatted(
    service: Service, request: Request, jobs: Sequence[Job], streams: bool, with_usage: bool
) -> Response:
    """The answers in the shape of a chat's, whole or as a stream."""
    if streams:
        return _streamed(service, jobs, _chat_chunks(service, jobs, with_usage))
    answers = await _unless_gone(request, service.answers(jobs))
    choices = [
        chat_choice(index, job, answer, service.spelling)
        for index, (job, answer) in enumerate(zip(jobs, answers, strict=True))
    ]
    return JSONResponse(headed("chat.completion", service.name, choices, _used(jobs, answers)))


_NOTHING = Answer("", "length", (), (), "", False, 0, 0, 0)


def _used(jobs: Sequence[Job], answers: Sequence[Answer]) -> Shape:
    return usage(jobs, sum(len(answer.tokens) for answer in answers))


async def _unless_gone(request: Request, answer: Awaitable[T]) -> T:
    """The answer. Raises HungUp, and ends the work, where the client does not wait for it."""
    working, gone = asyncio.ensure_future(answer), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise HungUp
        return working.result()
    finally:
        gone.cancel()
        working.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


# Streams


def _streamed(service: Service, jobs: Sequence[Job], chunks: Chunks, ends: str = "[DONE]") -> Response:
    """Server-sent events, each a chunk; ``ends`` is the last one's data."""
    service.submit(jobs)  # what is refused has a status of its own

    async def lines() -> AsyncIterator[str]:
        try:
            async for chunk in chunks:
                yield _line(json.dumps(chunk))
        except Refusal as refusal:
            yield _line(json.dumps(refusal.body))
        if ends:
            yield _line(ends)

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _line(data: str) -> str:
    return f"data: {data}\n\n"


async def _pieces(service: Service, jobs: Sequence[Job]) -> AsyncIterator[tuple[int, Job, Part | Answer]]:
    """(index, job, what is new): of an answer the rest that was not told."""
    index = {job: place for place, job in enumerate(jobs)}
    async for job, event in service.events(jobs):
        if isinstance(event, Answer):
            tokens, likeliest = event.tokens[job.told :], event.likeliest[job.told :]
            event = replace(event, text=event.text[job.shown :], tokens=tokens, likeliest=likeliest)
        if isinstance(event, Answer | Part):
            yield index[job], job, event


async def _completion_chunks(service: Service, body: CompletionBody, jobs: Sequence[Job]) -> Chunks:
    head = headed("text_completion", service.name, [])
    tokens, start = 0, dict.fromkeys(jobs, 0)
    async for index, job, piece in _pieces(service, jobs):
        tokens += len(piece.tokens)
        yield head | {"choices": [completion_choice(index, job, piece, service.spelling, body, start[job])]}
        start[job] += len(b"".join(map(service.spelling.data, piece.tokens)).decode(errors="replace"))
    if body.stream_options and body.stream_options.include_usage:
        yield head | {"choices": [], "usage": usage(jobs, tokens)}


async def _chat_chunks(service: Service, jobs: Sequence[Job], with_usage: bool) -> Chunks:
    head, begun, tokens = headed("chat.completion.chunk", service.name, []), set[Job](), 0
    async for index, job, piece in _pieces(service, jobs):
        tokens += len(piece.tokens)
        yield head | {"choices": [chat_delta(index, job, piece, service.spelling, job not in begun)]}
        begun.add(job)
    if with_usage:
        yield head | {"choices": [], "usage": usage(jobs, tokens)}


async def _gap_chunks(service: Service, body: InfillBody, jobs: Sequence[Job], cut: bool) -> Chunks:
    tokens: dict[Job, tuple[int, ...]] = dict.fromkeys(jobs, ())
    async for index, job, piece in _pieces(service, jobs):
        tokens[job] += piece.tokens
        if isinstance(piece, Answer):
            yield gap(index, job, replace(piece, tokens=tokens[job]), service.name, cut, body)
        else:
            yield {"index": index, "content": piece.text, "tokens": [*piece.tokens], "stop": False}


# Errors, and what is counted


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return JSONResponse(error.body, error.status, error.headers)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    routes = (
        "/v1/completions, /v1/chat/completions, /v1/fim/completions, /infill, /v1/models, /health, /metrics"
    )
    refusal = Refusal(
        error.status_code,
        f"{request.method} {request.url.path}: {error.detail}.",
        f"The server has {routes}.",
    )
    return JSONResponse(refusal.body, error.status_code, error.headers)


async def _nobody(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # as nginx notes it; nobody reads it


class _Counted:
    """Counts requests by route and status."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")
                self.service.metrics.requests.labels(route, message["status"]).inc()
            await send(message)

        await self.app(scope, receive, noted)
