"""What is not answered, and what is said instead."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import httpx
import openai
import pytest
from tests.serve.conftest import ENDLESS, Served

from codestill.errors import ConfigError
from codestill.models import Placement
from codestill.models.student import Student
from codestill.serve import ServeConfig

Start = Callable[..., AbstractContextManager[Served]]
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
HI = [{"role": "user", "content": "a"}]


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        (COMPLETIONS, {}, 400, "prompt"),
        (COMPLETIONS, {"prompt": 5}, 400, "prompt"),
        (COMPLETIONS, {"prompt": []}, 400, "empty list"),
        (COMPLETIONS, {"prompt": [[]]}, 400, "the prompt is empty"),
        (COMPLETIONS, {"prompt": [10**6]}, 400, "token id 1000000 is not one of the tokenizer's 323"),
        (COMPLETIONS, {"prompt": "a", "wat": 1}, 400, "wat is no field"),
        (COMPLETIONS, {"prompt": "a", "frequency_penalty": 0.5}, 400, "frequency_penalty is not supported"),
        (COMPLETIONS, {"prompt": "a", "top_k": 5, "temperature": 1}, 400, "top_k is not supported"),
        (COMPLETIONS, {"prompt": "a", "temperature": -1}, 400, "temperature"),
        (COMPLETIONS, {"prompt": "a", "stop": ""}, 400, "stop"),
        (COMPLETIONS, {"prompt": "a", "logprobs": 10**4}, 400, "limits.logprobs is 256"),
        (COMPLETIONS, {"prompt": "a", "prompt_logprobs": 10**4}, 400, "limits.logprobs is 256"),
        (COMPLETIONS, {"prompt": "a", "max_tokens": 10**6}, 400, "limits.new_tokens is 4,096"),
        (COMPLETIONS, {"prompt": "a", "n": 65}, 400, "limits.answers is 64"),
        (COMPLETIONS, {"prompt": ["a"] * 65}, 400, "limits.answers is 64"),
        (COMPLETIONS, {"prompt": "a b " * 600}, 400, "511 are the most"),
        (COMPLETIONS, {"prompt": "a", "model": "gpt-4"}, 404, "The one that is served is 'tiny'"),
        (COMPLETIONS, {"prompt": [1], "suffix": "b"}, 400, "suffix goes with a prompt that is text"),
        (COMPLETIONS, {"prompt": "a", "echo": True, "stream": True}, 400, "leave out stream"),
        (CHAT, {"messages": []}, 400, "messages"),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "text alone"),
        (
            CHAT,
            {"messages": [{"role": "user", "content": "a"}], "tools": [{}]},
            400,
            "tools is not supported",
        ),
        (CHAT, {"messages": [{"role": "user", "content": "a"}], "top_logprobs": 2}, 400, "needs logprobs"),
        ("/infill", {"input_prefix": 5}, 400, "input_prefix"),
        ("/v1/nothing", {}, 404, "The server has /v1/completions"),
    ],
)
def test_a_wrong_body_is_refused_by_what_is_wrong(
    path: str, body: dict[str, Any], status: int, said: str, served: Served
) -> None:
    answer = served.post(path, body)
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"top_k": 5, "temperature": 0, "frequency_penalty": 0, "user": "me", "logit_bias": {}},
        {"best_of": 1, "presence_penalty": 0.0, "stop": None, "seed": None, "model": None},
    ],
)
def test_what_changes_nothing_is_accepted(body: dict[str, Any], served: Served) -> None:
    assert served.post(COMPLETIONS, {"prompt": "a", "max_tokens": 1, **body}).status_code == 200


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"prompt": "a"}', "text/plain", 415),
        (b'{"prompt": "' + b"a" * 5_000_000 + b'"}', "application/json", 413),
    ],
)
def test_what_is_no_body_is_refused(content: bytes, kind: str, status: int, served: Served) -> None:
    url = served.url + COMPLETIONS
    answer = httpx.post(url, content=content, headers={"Content-Type": kind}, timeout=60)
    assert answer.status_code == status and answer.json()["error"]["message"]


def test_a_page_of_another_name_does_not_reach_a_server_without_a_key(served: Served) -> None:
    assert served.post(COMPLETIONS, {"prompt": "a"}, host="evil.example:80").status_code == 403
    assert served.post(COMPLETIONS, {"prompt": "a", "max_tokens": 1}, host="localhost").status_code == 200


def test_only_the_key_opens(start: Start, student: Student) -> None:
    with start(student, key="s3cret") as served:
        body = {"prompt": "a", "max_tokens": 1}
        for sent in ({}, {"authorization": "Bearer wrong"}, {"authorization": "s3cret"}):
            answer = served.post(COMPLETIONS, body, **sent)
            assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_api_key"
        for path in ("/v1/models", "/metrics"):
            assert httpx.get(served.url + path).status_code == 401
        assert httpx.get(served.url + "/health").json() == {"status": "ok"}
        opened = served.post(COMPLETIONS, body, authorization="Bearer s3cret", host="any.example")
        assert opened.status_code == 200
        with pytest.raises(openai.AuthenticationError):
            served.client.models.list()


def test_an_address_that_others_reach_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CODESTILL_KEY", raising=False)
    for host in ("0.0.0.0", "192.168.1.2", "example.org", "::"):
        with pytest.raises(ConfigError, match="needs a key, and CODESTILL_KEY is not set"):
            _ = ServeConfig(model="m", host=host).key
    for host in ("127.0.0.1", "localhost", "::1"):
        assert ServeConfig(model="m", host=host).key is None
    monkeypatch.setenv("CODESTILL_KEY", "k")
    assert ServeConfig(model="m", host="0.0.0.0").key == "k"


def test_a_full_queue_asks_to_come_back(start: Start, student: Student) -> None:
    narrow = replace(student, placement=Placement(device="cpu", decode_batch=1))
    with start(narrow, limits={"queue": 2}) as served, ThreadPoolExecutor(3) as pool:
        running = pool.submit(served.post, COMPLETIONS, ENDLESS)
        served.until(lambda: served.number("codestill_batch_rows") == 1)
        short = ENDLESS | {"max_tokens": 1}
        waiting = [pool.submit(served.post, COMPLETIONS, short) for _ in range(2)]
        served.until(lambda: served.number("codestill_queue") == 2)
        refused = served.post(COMPLETIONS, short | {"stream": True})
        assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
        assert "limits.queue is 2" in refused.json()["error"]["message"]
        with pytest.raises(openai.RateLimitError):
            served.client.completions.create(model="tiny", prompt="a", max_tokens=1)
        assert running.result().status_code == 200
        assert [one.result().status_code for one in waiting] == [200, 200]


def test_time_ends_an_answer_and_a_wait(start: Start, student: Student) -> None:
    narrow = replace(student, placement=Placement(device="cpu", decode_batch=1))
    with start(narrow, limits={"seconds": 0.1}) as served:
        late = served.post(COMPLETIONS, ENDLESS | {"n": 2})
        assert late.status_code == 503  # of its two samples, the second never had a place
        assert late.headers["retry-after"] == "1"
        (choice,) = served.post(COMPLETIONS, ENDLESS).json()["choices"]
        assert choice["finish_reason"] == "length" and choice["text"]
        served.until(lambda: served.number("codestill_batch_rows") == 0)
