"""Logits over HTTP: a server that speaks as vLLM does, over the bundled teacher's own probabilities."""

import json
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tests.support.tiny import CPU, tiny_tokenizer
from tests.support.worlds import metrics, open_run, student

from codestill import openai_client
from codestill.capture import CaptureRun, capture, capture_run
from codestill.capture.fill import BARREN_BATCHES
from codestill.capture.served import _position, _prompt_logprobs
from codestill.errors import LogitsError
from codestill.examples import training_examples
from codestill.logits import CaptureSpec, LogitCache, Threshold
from codestill.losses import Distillation
from codestill.openai_client import noting_twice, parse_json
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


def settings(server: Server, /, **changes: Any) -> CaptureRun:
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


def captured(server: Server, directory: Path, /, **changes: Any) -> LogitCache:
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
        examples = training_examples(config.examples, teacher, None, sandbox, run)
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
        learner = student()
        examples = training_examples(config.examples, learner, None, sandbox, run)
        steps = TrainConfig(max_steps=3, batch_tokens=400, accumulation=1, precision="float32")
        fit(learner, examples, Distillation(temperature=1.0), steps, run, teacher=CachedLogits(cache, 1.0))
    assert len(metrics(tmp_path / "run")) == 3


def test_a_student_with_another_tokenizer_is_named_and_the_servers_tokens_are_sent(
    server: Server, teacher: LocalTeacher, tmp_path: Path
) -> None:
    tiny_tokenizer(320).save_pretrained(str(tmp_path / "tokenizer"))
    learner = {"preset": "pocket-0.1m", "tokenizer": str(tmp_path / "tokenizer")}
    cache = captured(server, tmp_path / "cache", student=learner)
    texts = {str(teacher.tokenizer.decode(one["prompt"])) for one in server.asked}
    assert len(cache) == len(texts) == 5 and all(text.startswith("def ") for text in texts)
    accounted = json.loads((tmp_path / "cache" / "accounting.json").read_text())
    assert 0.2 < accounted["aligned_one_to_one"] < 1 and "aligned_lost_T1" in accounted


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


SPEC: dict[str, Any] = {
    "teacher": "m",
    "weights": "w",
    "tokenizer": "t",
    "dtype": "unknown",
    "source": "server",
    "support": 8,
    "temperatures": (1.0,),
    "truncation": Threshold(),
    "tail_samples": 0,
    "seed": 0,
}
FAR = -9999.0  # vLLM's for a token that cannot be


def rows(body: str | bytes, vocabulary: int = 50) -> Any:
    """What a capture keeps of three scored positions, from this body of an answer."""
    data = body if isinstance(body, bytes) else body.encode()
    listed = _prompt_logprobs(parse_json(data, noting_twice))
    spec = CaptureSpec.model_validate(SPEC | {"vocabulary": vocabulary})
    return [_position(listed[number], f"position {number}", spec) for number in range(2, 5)]


def with_position(listed: Any) -> str:
    """The body of an answer for five tokens, in which position 3 is listed so."""
    even = json.dumps({str(n): {"logprob": -2.0} for n in range(4)})
    position = listed if isinstance(listed, str) else json.dumps(listed)
    positions = ", ".join(["null", even, even, position, even])
    return f'{{"choices": [{{"prompt_logprobs": [{positions}]}}]}}'


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ({"1": {"logprob": 0.5}}, "token 1 the log-probability 0.5"),
        ({"1": {"logprob": float("nan")}}, "log-probability nan"),
        ({"1": {"logprob": float("inf")}}, "log-probability inf"),
        ({"1": {"logprob": float("-inf")}}, "log-probability -inf"),
        ('{"1": {"logprob": 1e999}}', "log-probability inf"),
        ('{"1": {"logprob": -1' + "0" * 400 + "}}", "log-probability -1"),
        ({"1": {"logprob": -0.1}, "2": {"logprob": -0.1}}, "the probability 1.81 together"),
        ({"1": {"logprob": -1.0}, "01": {"logprob": -2.0}}, "lists token 1 twice"),
        ('{"1": {"logprob": -1}, "1": {"logprob": -2}}', "lists a token twice"),
        ('{"1": {"logprob": -1, "logprob": -2}}', "'1', which is no token id with one logprob"),
        ({"x": {"logprob": -1.0}}, "'x', which is no token id"),
        ({"-1": {"logprob": -1.0}}, "'-1', which is no token id"),
        ({" 1": {"logprob": -1.0}}, "' 1', which is no token id"),
        ({"٣": {"logprob": -1.0}}, "which is no token id"),
        ({"1": {"logprob": True}}, "which is no token id"),
        ({"1": {"logprob": "-1"}}, "which is no token id"),
        ({"1": {"logprob": None}}, "which is no token id"),
        ({"1": -1.0}, "which is no token id"),
        ({"99": {"logprob": -0.1}}, "lists token 99, but the tokenizer has 50"),
        ({}, "lists no token"),
        ("null", "lists no token"),
        ("[[1, -1.0]]", "lists no token"),
    ],
)
def test_what_is_no_distribution_is_refused_by_position(listed: Any, said: str) -> None:
    with pytest.raises(ValueError, match=rf"^position 3 .*{said}"):
        rows(with_position(listed))


def test_rounding_and_ids_that_pad_the_vocabulary_are_no_mistakes() -> None:
    assert rows(with_position({"1": {"logprob": 0.004}}))[1] == [(1, 0.004)]
    assert rows(with_position({"1": {"logprob": -0.01}, "2": {"logprob": FAR}}))[1] == [(1, -0.01), (2, FAR)]
    assert rows(with_position({"1": {"logprob": -0.01}, "99": {"logprob": -9}}))[1] == [(1, -0.01)]


@pytest.mark.parametrize(
    ("log_p", "said"), [(0.7, "log-probability 0.7"), (float("nan"), "nan"), (-0.01, "together")]
)
def test_a_server_that_gives_no_distribution_is_named_and_the_others_are_kept(
    log_p: float, said: str, server: Server, tmp_path: Path
) -> None:
    whole, odd = server.answer, []

    def behave(asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        status, body = whole(asked)
        odd[:] = odd or [asked["prompt"]]
        if asked["prompt"] == odd[0]:
            last = body["choices"][0]["prompt_logprobs"][-1]
            body["choices"][0]["prompt_logprobs"][-1] = {name: {"logprob": log_p} for name in last}
        return status, body

    server.answer = behave
    named = r"prompt_logprobs for pocket/train-\d/.* are no distribution: position \d+ .*" + said
    with pytest.raises(LogitsError, match=named):
        captured(server, tmp_path, execution={"capture_batch_tokens": 50})  # a sequence per batch
    assert len(server.asked) == 5
    server.answer = whole
    captured(server, tmp_path, execution={"capture_batch_tokens": 50})
    assert len(server.asked) == 6


def test_a_server_that_answers_nothing_is_not_asked_for_ever(server: Server, tmp_path: Path) -> None:
    server.answer = lambda _: (400, {"error": {"message": "broken"}})
    with pytest.raises(LogitsError, match="did not answer"):
        captured(server, tmp_path, execution={"capture_batch_tokens": 50})
    assert len(server.asked) == BARREN_BATCHES == 4


@pytest.mark.parametrize("body", [None, [], {}, {"choices": None}, {"choices": {}}, {"choices": ["5"]}])
def test_what_is_no_answer_is_asked_for_again(
    body: Any, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_client, "_FIRST_PAUSE_SECONDS", 0.01)
    whole, odd = server.answer, []

    def once(asked: dict[str, Any]) -> tuple[int, Any]:
        new = asked["prompt"] not in odd
        odd.append(asked["prompt"])
        return (200, body) if new else whole(asked)

    server.answer = once
    assert len(captured(server, tmp_path)) == 5 and len(server.asked) == 10
    server.answer = lambda _: (200, body)
    with pytest.raises(LogitsError, match=r"did not answer for pocket/train.*choices is no list"):
        captured(server, tmp_path / "again")


_VALUES = st.one_of(st.floats(), st.integers(), st.none(), st.booleans(), st.text(max_size=3), st.just(-0.5))
_ENTRIES = st.one_of(
    st.fixed_dictionaries({"logprob": _VALUES}), st.dictionaries(st.text(max_size=3), _VALUES)
)
_TOKENS = st.one_of(st.integers(-2, 60).map(str), st.text(max_size=3))
_POSITIONS = st.one_of(st.dictionaries(_TOKENS, st.one_of(_ENTRIES, _VALUES), max_size=4), _VALUES)


def is_a_distribution_or_refused_by_position(listed: Any) -> None:
    try:
        found = rows(with_position(json.dumps(listed)))[1]
    except ValueError as error:
        assert str(error).startswith("position 3 ")
        return
    ids = [token for token, _ in found]
    assert len(set(ids)) == len(ids) and all(0 <= token < 50 for token in ids)
    assert all(log_p <= 0.01 for _, log_p in found)
    assert sum(math.exp(log_p) for _, log_p in found) <= 1.01


@given(_POSITIONS)
@hypothesis_settings(max_examples=50, deadline=None)
def test_any_position_is_a_distribution_or_refused(listed: Any) -> None:
    is_a_distribution_or_refused_by_position(listed)


@pytest.mark.slow
@given(_POSITIONS)
@hypothesis_settings(max_examples=5000, deadline=None)
def test_any_of_many_positions_is_a_distribution_or_refused(listed: Any) -> None:
    is_a_distribution_or_refused_by_position(listed)


def test_credentials_of_the_address_reach_no_file(server: Server, tmp_path: Path) -> None:
    address = server.url.replace("//", "//user:planted-password@") + "?api_key=planted-key"
    spec = {"base_url": address, "model": "m", "tokenizer": "pocket", "top": 8}
    captured(server, tmp_path, server=spec)
    assert {one["key"] for one in server.asked} == {"Basic dXNlcjpwbGFudGVkLXBhc3N3b3Jk"}
    assert {one["path"] for one in server.asked} == {"/v1/completions?api_key=planted-key"}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not [path for path in files if b"planted" in path.read_bytes()]
    assert "***@127.0.0.1" in (tmp_path / "config.yaml").read_text()
    server.answer = lambda _: (400, {"error": {"message": f"bad key planted-key for {address}"}})
    with pytest.raises(LogitsError) as raised:
        captured(server, tmp_path / "again", server=spec)
    assert "bad key ***" in str(raised.value) and "planted" not in str(raised.value)


def test_a_key_is_sent_and_never_written(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-secret")
    captured(server, tmp_path)
    assert {one["key"] for one in server.asked} == {"Bearer sk-planted-secret"}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not any(b"planted-secret" in path.read_bytes() for path in files)
