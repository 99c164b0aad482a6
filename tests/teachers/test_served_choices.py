"""A choice between words over HTTP: the endpoint's probabilities where it gives them, else its text."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.teachers import endpoint
from tests.teachers.endpoint import Behaviour, Server, serving

from codestill.models import Decoding
from codestill.models.settings import SamplingConfig
from codestill.teachers import ApiTeacherConfig
from codestill.teachers.endpoint import ApiTeacher
from codestill.teachers.replay import Replayed
from codestill.types import Request

SAMPLING = SamplingConfig(max_new_tokens=50)


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def served(server: Server, **settings: Any) -> ApiTeacher:
    return ApiTeacherConfig.model_validate(
        {"model": "big", "base_url": server.url, "retries": 0, "timeout_seconds": 5} | settings
    ).build()


def asked_for(count: int) -> list[Request]:
    return [Request(task_id=f"t/{n}", prompt=f"say {n}") for n in range(count)]


def _lists(first: list[tuple[str, float]]) -> Behaviour:
    """Answers ``Yes.`` with these first tokens and log-probabilities, in the form that is asked for."""

    def behave(handler: endpoint.Handler, asked: dict[str, Any], before: int) -> None:
        body = json.loads(endpoint.answer(asked))
        if "prompt" in asked:
            body["choices"][0] |= {"text": "Yes.", "logprobs": {"top_logprobs": [dict(first), {"x": -1.0}]}}
        else:
            listed = [{"token": token, "logprob": value} for token, value in first]
            body["choices"][0]["message"]["content"] = "Yes."
            body["choices"][0]["logprobs"] = {"content": [{"token": "Yes", "top_logprobs": listed}, {}]}
        handler.send(200, json.dumps(body).encode())

    return behave


CHOICE = Decoding(SAMPLING, choices=("yes", "no"))


@pytest.mark.parametrize(
    ("form", "listing"),
    [("chat", {"logprobs": True, "top_logprobs": 20}), ("completions", {"logprobs": 20})],
)
def test_a_choice_has_the_endpoints_probabilities(form: str, listing: dict[str, Any], tmp_path: Path) -> None:
    first = [("Yes", -0.5), (" yes", -2.0), ("No", -1.5), ("The", -3.0)]
    with serving(_lists(first)) as server:
        kept = Replayed(served(server, endpoint=form), tmp_path)
        (answer,) = kept.complete(asked_for(1), CHOICE)
        assert answer.probabilities == pytest.approx((0.606531 + 0.135335, 0.223130), abs=1e-6)
        assert answer.text == "Yes."
        assert listing.items() <= server.asked[0].items()
        (again,) = kept.complete(asked_for(1), CHOICE)
        assert again == answer and len(server.asked) == 1  # kept as it was given
        (text,) = kept.complete(asked_for(1), Decoding(SAMPLING))
        assert text.probabilities == () and "logprobs" not in server.asked[1]  # another request


def test_an_endpoint_without_probabilities_answers_with_text(tmp_path: Path) -> None:
    def refuses(handler: endpoint.Handler, asked: dict[str, Any], before: int) -> None:
        if "logprobs" in asked:
            body = {"error": {"message": "logprobs is not supported by this model"}}
            handler.send(400, json.dumps(body).encode())
        else:
            endpoint.behaves(handler, asked, before)

    told: list[str] = []
    with serving(refuses) as server:
        one = served(server, concurrency=1)
        one.tell = lambda stage, message: told.append(message)
        found = list(one.complete(asked_for(3), CHOICE))
        assert [(answer.text, answer.probabilities) for answer in found] == [
            (f"SAY {n}", ()) for n in range(3)
        ]
        assert ["logprobs" in asked for asked in server.asked] == [True, False, False, False]
        assert "top_logprobs" not in server.asked[1]
    assert told == ["the endpoint refuses logprobs: from now on logprobs is not sent"]


@pytest.mark.parametrize(
    "logprobs",
    [None, [], {}, {"content": []}, {"content": [None]}, {"content": [{"top_logprobs": [5, {"token": 1}]}]},
     {"top_logprobs": [None]}, {"content": [{"top_logprobs": [{"token": "Yes", "logprob": None}]}]}],
)  # fmt: skip
def test_probabilities_in_no_known_form_are_none(logprobs: Any) -> None:
    def behave(handler: endpoint.Handler, asked: dict[str, Any], before: int) -> None:
        body = json.loads(endpoint.answer(asked))
        body["choices"][0]["logprobs"] = logprobs
        handler.send(200, json.dumps(body).encode())

    with serving(behave) as server:
        (answer,) = served(server).complete(asked_for(1), CHOICE)
    assert (answer.text, answer.probabilities) == ("SAY 0", ())
