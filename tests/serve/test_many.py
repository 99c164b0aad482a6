"""Many clients at once, and clients that hang up."""

import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.serve.conftest import ENDLESS, Served
from tests.serve.test_completions import PROMPT, own

from codestill.models import Placement
from codestill.models.student import Student
from codestill.serve import engine as engine_module

CLIENTS = 32
Start = Callable[..., AbstractContextManager[Served]]


def requests() -> list[dict[str, Any]]:
    """Of different prompts, lengths and settings."""
    return [
        {
            "prompt": PROMPT[: 20 + 2 * (number % 20)],
            "max_tokens": 8 + number,
            "temperature": (0.0, 0.7, 1.2)[number % 3],
            "top_p": (1.0, 0.9)[number % 2],
            "seed": number,
        }
        for number in range(CLIENTS)
    ]


@pytest.fixture(scope="module")
def expected(continuing: Student) -> list[str]:
    """What ``complete`` answers to each."""
    texts = []
    for asked in requests():
        settings = {"max_new_tokens": asked["max_tokens"], "temperature": asked["temperature"]}
        texts += own(continuing, asked["prompt"], 1, asked["seed"], top_p=asked["top_p"], **settings)
    return texts


@pytest.mark.parametrize("streams", [False, True])
def test_each_of_many_gets_its_own_answer(streams: bool, served: Served, expected: list[str]) -> None:
    together = threading.Barrier(CLIENTS)
    steps = served.number("codestill_step_rows_count"), served.number("codestill_step_rows_sum")

    def ask(asked: dict[str, Any]) -> str:
        together.wait()
        answer: Any = served.client.completions.create(model="tiny", stream=streams, **asked)
        return "".join(part.choices[0].text for part in (answer if streams else [answer]))

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(ask, requests()))
    assert answers == expected
    count = served.number("codestill_step_rows_count") - steps[0]
    rows = served.number("codestill_step_rows_sum") - steps[1]
    assert CLIENTS < rows <= sum(asked["max_tokens"] for asked in requests())
    assert rows / count > 4  # decoded together


def test_few_places_serve_many(start: Start, student: Student, expected: list[str]) -> None:
    narrow = replace(student, placement=Placement(device="cpu", decode_batch=3))
    with start(narrow) as served, ThreadPoolExecutor(12) as pool:
        asked = requests()[:12]
        answers = list(
            pool.map(lambda one: served.client.completions.create(model="tiny", **one).choices[0].text, asked)
        )
    assert answers == expected[:12]


@pytest.mark.parametrize("streams", [False, True])
def test_who_hangs_up_leaves_the_batch_and_nobody_else_notices(
    streams: bool, start: Start, student: Student, expected: list[str]
) -> None:
    with start(student) as served:
        gone = [_asking(served.url, ENDLESS | {"stream": streams}) for _ in range(3)]
        served.until(lambda: served.number("codestill_batch_rows") == 3)
        with ThreadPoolExecutor(4) as pool:
            stay = [
                pool.submit(served.client.completions.create, model="tiny", **one) for one in requests()[:4]
            ]
            for client in gone:
                client.close()
            answers = [one.result().choices[0].text for one in stay]
        served.until(lambda: served.number("codestill_batch_rows") == 0)
        assert answers == expected[:4]
        assert served.number("codestill_hang_ups_total") == 3
        assert served.number("codestill_tokens_total") < 3 * 450


def _asking(url: str, body: dict[str, Any]) -> socket.socket:
    """A connection on which something was asked, and nothing is read."""
    address = urlsplit(url)
    data = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
    sock = socket.create_connection((address.hostname or "", address.port or 0))
    sock.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return sock


def test_a_failing_step_costs_its_answers_and_not_the_server(
    start: Start, student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start(student) as served:
        join = engine_module.Batch.join
        monkeypatch.setattr(engine_module.Batch, "join", lambda *_: 1 / 0)
        failed = served.post("/v1/completions", {"prompt": "a"})
        assert failed.status_code == 500 and "ZeroDivisionError" in failed.json()["error"]["message"]
        monkeypatch.setattr(engine_module.Batch, "join", join)
        assert served.post("/v1/completions", {"prompt": "a", "max_tokens": 2}).status_code == 200
