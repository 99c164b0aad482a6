"""The pocket teacher behind an endpoint, with its real probabilities in every form that servers give."""

import json
import threading
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from tests.support.tiny import CPU
from tests.teachers.endpoint import Handler, said

from codestill.teachers import LocalTeacherConfig
from codestill.teachers.frozen import LocalTeacher

Form = Literal["id", "spelled id", "bytes", "string"]


def pocket() -> LocalTeacher:
    return LocalTeacherConfig(model="pocket", dtype="float32").build(CPU)


@dataclass
class Listing:
    """Answers greedily, and lists the likeliest tokens of each position; in the legacy form where a
    completion is asked for, unless ``as_chat``."""

    teacher: LocalTeacher
    form: Form = "id"
    as_chat: bool = False
    most: int = 2048
    """The most that it lists, whatever is asked for."""
    busy: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.texts = self.teacher.tokenizer.batch_decode([[id] for id in range(self.teacher.vocabulary_size)])

    def __call__(self, handler: Handler, asked: dict[str, Any], before: int) -> None:
        handler.send(200, json.dumps(self.body(asked)).encode())

    def body(self, asked: dict[str, Any]) -> dict[str, Any]:
        codec, chats = self.teacher.codec, "messages" in asked
        prompt = codec.prompt(said(asked))
        with self.busy:
            tokens, log_p_NV = self._generated(prompt, asked["max_tokens"])
        text = codec.decode(prompt, tokens)
        choice: dict[str, Any] = {
            "index": 0,
            "finish_reason": "stop" if tokens[-1] == codec.end else "length",
        }
        choice |= {"message": {"role": "assistant", "content": text}} if chats else {"text": text}
        count = asked.get("top_logprobs") if chats else asked.get("logprobs")
        if count:
            rows = [self._top(log_p_V, min(count, self.most)) for log_p_V in log_p_NV]
            own = [
                self._named(token, float(log_p_V[token]))
                for token, log_p_V in zip(tokens, log_p_NV, strict=True)
            ]
            choice["logprobs"] = self._listed(own, rows, chats or self.as_chat)
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(tokens)}
        return {"id": "1", "created": 0, "model": asked["model"], "choices": [choice], "usage": usage}

    @torch.no_grad()
    def _generated(self, prompt: list[int], limit: int) -> tuple[list[int], torch.Tensor]:
        tokens: list[int] = []
        while len(tokens) < limit and (not tokens or tokens[-1] != self.teacher.codec.end):
            logits = self.teacher.model(input_ids=torch.tensor([[*prompt, *tokens]])).logits
            tokens.append(int(logits[0, -1].argmax()))
        logits = self.teacher.model(input_ids=torch.tensor([[*prompt, *tokens]])).logits
        return tokens, logits[0, len(prompt) - 1 : -1].log_softmax(-1)

    def _top(self, log_p_V: torch.Tensor, count: int) -> list[dict[str, Any]]:
        values, ids = log_p_V.topk(min(count, len(log_p_V)))
        return [self._named(*pair) for pair in zip(ids.tolist(), values.tolist(), strict=True)]

    def _named(self, token: int, log_p: float) -> dict[str, Any]:
        text = self.texts[token]
        if self.form == "spelled id":
            spelled = f"token_id:{token}"
            return {"token": spelled, "logprob": log_p, "bytes": list(spelled.encode())}  # as vLLM does
        named: dict[str, Any] = {"token": text, "logprob": log_p}
        if self.form == "id":
            return named | {"id": token, "bytes": list(text.encode())}
        return named | {"bytes": list(text.encode()) if self.form == "bytes" else None}

    @staticmethod
    def _listed(own: list[dict[str, Any]], rows: list[list[dict[str, Any]]], chats: bool) -> dict[str, Any]:
        if chats:
            return {"content": [one | {"top_logprobs": row} for one, row in zip(own, rows, strict=True)]}
        return {
            "tokens": [one["token"] for one in own],
            "token_logprobs": [one["logprob"] for one in own],
            "top_logprobs": [{entry["token"]: entry["logprob"] for entry in row} for row in rows],
        }
