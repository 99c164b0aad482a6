"""Bodies of responses: OpenAI's completions and chats, Mistral's gaps, llama.cpp's."""

import secrets
import time
from collections.abc import Sequence
from typing import Any

from codestill.serve.jobs import Answer, Job, Listed, Part
from codestill.serve.protocol import CompletionBody, InfillBody
from codestill.serve.spelling import Spelling

Shape = dict[str, Any]


def headed(kind: str, model: str, choices: Sequence[Shape], usage: Shape | None = None) -> Shape:
    """What stands around choices; ``kind`` is the object's."""
    number = secrets.token_hex(12)
    name = "cmpl" if kind == "text_completion" else "chatcmpl"
    head = {"id": f"{name}-{number}", "object": kind, "created": int(time.time()), "model": model}
    return head | {"choices": [*choices]} | ({"usage": usage} if usage else {})


def usage(jobs: Sequence[Job], generated: int) -> Shape:
    """Tokens that were read and generated; samples of a prompt share it."""
    read = sum(len(job.prompt) for job in jobs if job.request.sample == 0)
    return {"prompt_tokens": read, "completion_tokens": generated, "total_tokens": read + generated}


def completion_choice(
    index: int,
    job: Job,
    piece: Part | Answer,
    spelling: Spelling,
    body: CompletionBody,
    start: int = 0,
    prompt: "Sequence[Listed | None] | None" = None,
) -> Shape:
    """A choice of ``/v1/completions``, or what a part of a stream adds to it. ``prompt``: what is listed of
    the prompt's tokens, where it was asked for; with ``echo`` they are repeated before the answer."""
    echo = job.request.prompt or spelling.codec.decode((), job.prompt) if body.echo else ""
    choice: Shape = {
        "index": index,
        "text": echo + piece.text,
        "finish_reason": piece.finish if isinstance(piece, Answer) else None,
        "logprobs": None,
    }
    if body.logprobs is not None:
        as_ids = bool(body.return_tokens_as_token_ids)
        listed = [*piece.likeliest]
        first = None
        if body.echo and prompt is not None:
            first = job.prompt[0]
            listed = [one[: 1 + body.logprobs] for one in prompt if one is not None] + listed
        choice["logprobs"] = spelling.of_completion(listed, start, as_ids, first)
    if body.prompt_logprobs is not None and prompt is not None:
        choice["prompt_logprobs"] = spelling.of_prompt(
            [one and one[: 1 + body.prompt_logprobs] for one in prompt]
        )
    if body.return_token_ids:
        choice |= {"token_ids": [*piece.tokens], "prompt_token_ids": [*job.prompt]}
    return choice


def chat_choice(index: int, job: Job, answer: Answer, spelling: Spelling) -> Shape:
    """A choice of ``/v1/chat/completions``."""
    return {
        "index": index,
        "message": {"role": "assistant", "content": answer.text, "refusal": None},
        "finish_reason": answer.finish,
        "logprobs": spelling.of_chat(answer.likeliest) if job.top is not None else None,
    }


def chat_delta(index: int, job: Job, piece: Part | Answer, spelling: Spelling, first: bool = False) -> Shape:
    """What a part of a stream adds to such a choice."""
    listed = spelling.of_chat(piece.likeliest) if job.top is not None and piece.likeliest else None
    return {
        "index": index,
        "delta": {"content": piece.text} | ({"role": "assistant"} if first else {}),
        "finish_reason": piece.finish if isinstance(piece, Answer) else None,
        "logprobs": listed,
    }


def gap(index: int, job: Job, answer: Answer, model: str, cut: bool, body: InfillBody) -> Shape:
    """An answer of ``/infill``. ``cut``: whether the texts around the gap had to be shortened."""
    kind = "word" if answer.word else "eos" if answer.ended_by_token else "limit"
    sampling = job.decoding.sampling
    shape: Shape = {
        "index": index,
        "content": answer.text,
        "tokens": [],
        "id_slot": -1,
        "stop": True,
        "model": model,
        "tokens_predicted": len(answer.tokens),
        "tokens_evaluated": len(job.prompt),
        "tokens_cached": 0,
        "generation_settings": {
            "n_predict": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": job.decoding.seed,
            "stop": [*job.stops.strings],
            "stream": job.streams,
        },
        "has_new_line": "\n" in answer.text,
        "truncated": cut,
        "stop_type": kind,
        "stopping_word": answer.word,
        "timings": _timings(job, answer),
    }
    return shape if body.response_fields is None else _chosen(shape, body.response_fields)


def _timings(job: Job, answer: Answer) -> Shape:
    return {
        **_rates("prompt", len(job.prompt), answer.prompt_seconds),
        **_rates("predicted", len(answer.tokens), answer.seconds),
    }


def _rates(name: str, tokens: int, seconds: float) -> Shape:
    return {
        f"{name}_n": tokens,
        f"{name}_ms": 1000 * seconds,
        f"{name}_per_token_ms": 1000 * seconds / max(1, tokens),
        f"{name}_per_second": tokens / max(1e-6, seconds),
    }


def _chosen(shape: Shape, fields: Sequence[str]) -> Shape:
    """The fields of these names; ``a/b`` is field b of field a, and stands under that name."""
    found: Shape = {}
    for field in fields:
        outer, _, inner = field.partition("/")
        value = shape.get(outer)
        if inner and isinstance(value, dict) and inner in value:
            found[field] = value[inner]
        elif not inner and outer in shape:
            found[field] = value
    return found
