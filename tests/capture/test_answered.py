"""Rows from log-probabilities that came with answers: those that the same weights give here."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.listing import Form, Listing, pocket
from tests.teachers.endpoint import Handler, Server, serving

from codestill.capture import CaptureRun, capture_run
from codestill.capture.answered import AnswerSource, _distributions
from codestill.logits import LogitCache
from codestill.logits.alignment import ABSENT
from codestill.run import Run
from codestill.teachers import ApiTeacherConfig
from codestill.teachers.frozen import LocalTeacher
from codestill.teachers.listing import read_listing

TASKS = {"source": "pocket", "split": "train", "count": 3, "depths": [2]}
EXAMPLES: dict[str, Any] = {
    "tasks": TASKS,
    "validation": None,
    "answers": "teacher",
    "max_new_tokens": 64,
    "prompts": "continued",
}


@pytest.fixture(scope="module")
def teacher() -> LocalTeacher:
    return pocket()


@pytest.fixture
def server(teacher: LocalTeacher) -> Iterator[Server]:
    with serving(Listing(teacher)) as made:
        yield made


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def settings(server: Server, logprobs: int = 20, endpoint: str = "completions", **changes: Any) -> CaptureRun:
    api = {"type": "api", "model": "served", "base_url": server.url, "endpoint": endpoint}
    api |= {"logprobs": logprobs, "tokenizer": "pocket", "retries": 0}
    given = {"teacher": api, "examples": EXAMPLES, "chat": False, "execution": {"device": "cpu"}}
    return CaptureRun.model_validate(given | changes)


def captured(config: CaptureRun, directory: Path) -> LogitCache:
    with Run.open(directory, config) as run:
        capture_run(config, run)
    return LogitCache.open(directory / "logits")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> LogitCache:
    """What the weights themselves give for the same answers."""
    config = CaptureRun.model_validate(
        {
            "teacher": {"model": "pocket", "dtype": "float32"},
            "examples": EXAMPLES,
            "temperatures": [1.0],
            "execution": {"device": "cpu"},
        }
    )
    return captured(config, tmp_path_factory.mktemp("local"))


def dense(cache: LogitCache, name: str) -> np.ndarray:
    """Probabilities [N, V + 1] of a sequence's rows; the last column is the tail's."""
    rows = cache.targets([name], 1.0)
    table = np.zeros((len(rows), cache.manifest.vocabulary + 1))
    np.add.at(
        table, (np.arange(len(rows))[:, None], rows.ids_NK), np.exp(rows.log_probabilities_NK.astype(float))
    )
    table[:, -1] = np.exp(rows.log_tail_N.astype(float))
    return table


@pytest.mark.parametrize(
    ("form", "endpoint", "as_chat", "logprobs"),
    [
        ("id", "chat", False, 1024),
        ("id", "completions", True, 300),
        ("spelled id", "chat", False, 300),
        ("spelled id", "completions", False, 300),
        ("bytes", "chat", False, 300),
        ("string", "chat", False, 300),
        ("string", "completions", False, 300),
    ],
)
def test_what_comes_with_answers_is_what_the_weights_give(
    form: Form,
    endpoint: str,
    as_chat: bool,
    logprobs: int,
    teacher: LocalTeacher,
    local: LogitCache,
    tmp_path: Path,
) -> None:
    """To float rounding and the format's, where what a cache keeps is listed; once it is the vocabulary."""
    with serving(Listing(teacher, form, as_chat)) as server:
        cache = captured(settings(server, logprobs, endpoint), tmp_path)
    assert set(cache) == set(local) and len(cache) >= 2
    assert cache.manifest.source == "answers" and cache.manifest.temperatures == (1.0,)
    taught = 0
    for name in cache:
        events = cache.has_event(name)
        theirs, ours = dense(cache, name), dense(local, name)
        assert np.abs(theirs - ours)[events].max() < 1e-3
        assert (theirs[~events, -1] == 1).all() and not theirs[~events, :-1].any()
        taught += events.sum()
    assert taught > 0.9 * cache.manifest.tokens


def test_texts_without_one_id_join_the_tail(teacher: LocalTeacher) -> None:
    """Unknown ones, halves of a character, and those that a position lists twice."""
    end = "<|endoftext|>"
    listed = [("x", 0.4), ("\ufffd", 0.1), ("\ufffd", 0.1), ("\u2603\u2603", 0.1), ("1", 0.1), ("1", 0.05)]
    entries = [{"token": token, "logprob": float(np.log(p))} for token, p in listed]
    ended = {"token": end, "logprob": -0.5, "top_logprobs": [{"token": end, "logprob": -0.5}]}
    listing = read_listing({"content": [entries[0] | {"top_logprobs": entries}, ended]})
    assert listing is not None
    source = AnswerSource(ApiTeacherConfig(logprobs=6), teacher.codec, Path("none"), {})
    ids, data = source._named(listing)
    assert data[0] == b"x" and data[-1] == b"" and ids[-1] == teacher.codec.end
    ids_NK, log_p_NK, unnamed = _distributions(listing, ids, np.array([0, ABSENT, 1]))
    assert unnamed == pytest.approx(0.45)
    kept = [ids_NK[row][np.isfinite(log_p_NK[row])].tolist() for row in range(3)]
    assert kept == [[teacher.tokenizer.convert_tokens_to_ids("x")], [], [teacher.codec.end]]


def test_an_answer_that_its_tokens_do_not_spell_teaches_nothing_and_is_counted(
    teacher: LocalTeacher, tmp_path: Path
) -> None:
    whole = Listing(teacher)

    def loses_the_first(handler: Handler, asked: dict[str, Any], before: int) -> None:
        body = whole.body(asked)
        logprobs = body["choices"][0]["logprobs"]
        logprobs["tokens"][0], logprobs["token_logprobs"][0] = "?", -20.0
        handler.send(200, json.dumps(body).encode())

    whole.form = "string"
    with serving(loses_the_first) as server:
        cache = captured(settings(server), tmp_path)
    assert not any(cache.has_event(name).any() for name in cache)
    accounted = json.loads((tmp_path / "accounting.json").read_text())
    assert accounted["answers_unspelled"] == len(cache) and accounted["answers_taught"] == 0
    assert "are not what their tokens spell" in (tmp_path / "metrics.jsonl").read_text()
