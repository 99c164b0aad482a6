"""Logits over HTTP: a server that speaks as vLLM does, over the bundled teacher's own probabilities."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.tiny import CPU
from tests.support.worlds import metrics, open_run, student

from codestill.capture import CaptureRun, capture, capture_run
from codestill.errors import LogitsError
from codestill.examples import training_examples
from codestill.logits import LogitCache
from codestill.losses import Distillation
from codestill.run import Run
from codestill.sandbox import Sandbox, SandboxConfig
from codestill.teachers import LocalTeacherConfig
from codestill.teachers.cached import CachedLogits
from codestill.teachers.frozen import LocalTeacher
from codestill.train import TrainConfig, fit

Answer = Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]


@dataclass
class Server:
    """What it was asked, and how it answers."""

    url: str
    answer: Answer
    asked: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture(scope="module")
def teacher() -> LocalTeacher:
    return LocalTeacherConfig(model="pocket", dtype="float32").build(CPU)


@pytest.fixture
def server(teacher: LocalTeacher) -> Iterator[Server]:
    """The completions endpoint, with the teacher's real probabilities."""
    busy = threading.Lock()

    def answer(asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        tokens, top = asked["prompt"], asked["prompt_logprobs"]
        with torch.no_grad(), busy:
            log_p = teacher.model(input_ids=torch.tensor([tokens])).logits[0].log_softmax(-1)
        listed: list[dict[str, Any] | None] = [None]  # nothing predicts the first token
        for place, token in enumerate(tokens[1:]):
            values, ids = log_p[place].topk(top)
            found = dict(zip(ids.tolist(), values.tolist(), strict=True)) | {
                token: float(log_p[place, token])
            }
            listed.append({str(i): {"logprob": v, "rank": 1, "decoded_token": ""} for i, v in found.items()})
        choice = {"index": 0, "text": "", "finish_reason": "length", "prompt_logprobs": listed}
        return 200, {"id": "1", "object": "text_completion", "created": 0, "model": "m", "choices": [choice]}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.asked.append(asked | {"path": self.path, "key": self.headers["Authorization"]})
            status, body = made.answer(asked)
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        made = Server(f"http://127.0.0.1:{http.server_port}/v1", answer)
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield made
        http.shutdown()


def settings(server: Server, **changes: Any) -> CaptureRun:
    tasks = {"source": "pocket", "split": "train", "count": 5, "depths": [2]}
    return CaptureRun.model_validate(
        {
            "server": {
                "base_url": server.url,
                "model": "served-pocket",
                "tokenizer": "pocket",
                "top": 8,
                "retries": 2,
            },
            "examples": {"tasks": tasks, "validation": None},
            "temperatures": [1.0],
            "execution": {"capture_batch_tokens": 200},
        }
        | changes
    )


def captured(server: Server, directory: Path, **changes: Any) -> LogitCache:
    config = settings(server, **changes)
    with Run.open(directory, config) as run:
        capture_run(config, run)
    return LogitCache.open(directory / "logits")


def test_the_servers_tokens_are_the_teachers(server: Server, teacher: LocalTeacher, tmp_path: Path) -> None:
    served = captured(server, tmp_path / "served")
    manifest = served.manifest
    assert (manifest.source, manifest.support, manifest.teacher) == ("server", 8, "served-pocket")
    assert manifest.error == ()
    config = settings(server)
    with Run.open(tmp_path / "local", config) as run, Sandbox(SandboxConfig()) as sandbox:
        examples = training_examples(config.examples, None, sandbox, run)
        local = capture(examples, teacher, [1.0], config.capture, tmp_path / "local" / "logits", run)
    assert set(served) == set(local)
    for name in served:
        ours, theirs = (cache.targets([name], 1.0) for cache in (served, local))
        for row in range(len(ours)):
            listed, likely = (
                {
                    int(i): v
                    for i, v in zip(one.ids_NK[row], one.log_probabilities_NK[row], strict=True)
                    if v > -6
                }
                for one in (ours, theirs)
            )
            assert listed == pytest.approx({i: v for i, v in likely.items() if i in listed}, abs=0.1)
            assert len(listed) >= min(len(likely), 8)
    assert {one["path"] for one in server.asked} == {"/v1/completions"}
    assert all(one["temperature"] == 0 and one["prompt_logprobs"] == 8 for one in server.asked)


def test_a_student_trains_from_them_at_temperature_one_alone(server: Server, tmp_path: Path) -> None:
    cache = captured(server, tmp_path / "cache")
    with pytest.raises(LogitsError, match="cannot serve temperature 2"):
        CachedLogits(cache, 2.0)
    config = settings(server)
    with open_run(tmp_path / "run") as run, Sandbox(SandboxConfig()) as sandbox:
        examples = training_examples(config.examples, None, sandbox, run)
        steps = TrainConfig(max_steps=3, batch_tokens=400, accumulation=1, precision="float32")
        fit(student(), examples, Distillation(temperature=1.0), steps, run, teacher=CachedLogits(cache, 1.0))
    assert len(metrics(tmp_path / "run")) == 3


def test_what_has_come_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    """The fourth request fails for good; the five of others are kept, and only it is asked for later."""
    whole = server.answer
    failing: list[list[int]] = []

    def fails_for_one(asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if not failing and len(server.asked) >= 4:
            failing.append(asked["prompt"])
        return (400, {"error": {"message": "broken"}}) if asked["prompt"] in failing else whole(asked)

    server.answer = fails_for_one
    with pytest.raises(LogitsError, match="did not answer for pocket/train-0/"):
        captured(server, tmp_path)
    answered = [one["prompt"] for one in server.asked if one["prompt"] not in failing]
    server.answer = whole
    server.asked.clear()
    captured(server, tmp_path)
    assert not [one for one in server.asked if one["prompt"] in answered]
    assert len(answered) + len(server.asked) == 5


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    whole, refused = server.answer, []

    def busy_once(asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if asked["prompt"] in refused:
            return whole(asked)
        refused.append(asked["prompt"])
        return 429, {"error": {"message": "busy"}}

    server.answer = busy_once
    assert len(captured(server, tmp_path)) == 5
    assert len(server.asked) == 10


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({}, "returned no prompt_logprobs"),
        ({"prompt_logprobs": [None]}, "returned 1 positions"),
    ],
)
def test_answers_without_logprobs_are_refused(
    choice: dict, said: str, server: Server, tmp_path: Path
) -> None:
    body = {"index": 0, "text": "", "finish_reason": "length"} | choice
    server.answer = lambda _: (
        200,
        {"id": "1", "object": "text_completion", "created": 0, "model": "m", "choices": [body]},
    )
    with pytest.raises(LogitsError, match=said) as raised:
        captured(server, tmp_path)
    assert "--max-logprobs" in raised.value.next_step


def test_a_key_is_sent_and_never_written(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-secret")
    captured(server, tmp_path)
    assert {one["key"] for one in server.asked} == {"Bearer sk-planted-secret"}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not any(b"planted-secret" in path.read_bytes() for path in files)
