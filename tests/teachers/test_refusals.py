"""Endpoints that refuse a parameter, a prompt or the moment: what is sent instead, what is not awaited."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.teachers import endpoint
from tests.teachers.endpoint import Behaviour, Server, serving

from codestill import openai_client
from codestill.errors import TeacherError
from codestill.files.serialize import read_jsonl
from codestill.models import Decoding
from codestill.models.settings import SamplingConfig
from codestill.teachers import ApiTeacherConfig
from codestill.teachers.endpoint import ApiTeacher
from codestill.teachers.ledger import Budget, Ledger, Prices
from codestill.teachers.refusals import is_filtered, is_too_long, pause_asked, refused_parameter
from codestill.teachers.replay import Replayed
from codestill.types import Call, Completion, Request

DECODING = Decoding(SamplingConfig(max_new_tokens=50, temperature=0.5, top_p=0.9))


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_client, "_FIRST_PAUSE_SECONDS", 0.01)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


def teacher(server: Server, **given: Any) -> ApiTeacher:
    defaults = {"model": "big", "base_url": server.url, "retries": 2, "timeout_seconds": 5, "concurrency": 1}
    return ApiTeacherConfig.model_validate(defaults | given).build()


def requests(count: int = 4) -> list[Request]:
    return [Request(task_id=f"t/{n}", prompt=f"say {n}") for n in range(count)]


def complete(one: Any, asked: list[Request] | None = None) -> dict[str, Completion]:
    return {done.key: done for done in one.complete(asked or requests(), DECODING)}


def error(status: int, body: Any) -> Behaviour:
    return lambda handler, asked, before: handler.send(status, json.dumps(body).encode())


def openai_error(message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


# parameters

REFUSALS: dict[str, tuple[int, Any]] = {
    "OpenAI": (400, openai_error("Unsupported parameter: '{}' is not supported with this model.", "{}")),
    "Azure": (400, openai_error("Unrecognized request argument supplied: {}")),
    "Mistral": (422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "{}"], "msg": "Extra inputs"}]}),
    "LiteLLM": (400, openai_error("UnsupportedParamsError: m does not support parameters: {{'{}': 1}}")),
}


def refuses_parameters(form: str, *names: str) -> Behaviour:
    status, body = REFUSALS[form]

    def behave(handler: endpoint.Handler, asked: dict[str, Any], before: int) -> None:
        name = next((name for name in names if name in asked), None)
        if name is None:
            endpoint.behaves(handler, asked, before)
        else:
            handler.send(status, json.dumps(body).replace("{}", name).encode())

    return behave


@pytest.mark.parametrize("form", REFUSALS)
@pytest.mark.parametrize("names", [("seed",), ("temperature",), ("top_p", "seed"), ("max_tokens",)])
def test_a_refused_parameter_is_left_out_from_then_on(
    form: str, names: tuple[str, ...], server: Server, tmp_path: Path
) -> None:
    server.behave = refuses_parameters(form, *names)
    one, told = teacher(server), []
    one.ledger = Ledger(tmp_path / "ledger.jsonl")
    one.tell = lambda stage, text: told.append(text)
    assert {key: done.text for key, done in complete(one).items()} == {
        f"t/{n}#0": f"SAY {n}" for n in range(4)
    }
    assert len(server.asked) == 4 + len(names)  # found out once
    assert not set(names) & server.asked[-1].keys()
    assert len(told) == 1 and all(name in told[0] for name in names)
    for call in read_jsonl(one.ledger.path, Call):
        assert call.retries == () and set(call.without) == set(names) - {"max_tokens"}
    complete(one, [Request(task_id="later", prompt="say 9")])
    assert len(server.asked) == 5 + len(names) and len(told) == 1


def test_the_limit_of_tokens_goes_by_its_new_name(server: Server) -> None:
    server.behave = refuses_parameters("OpenAI", "max_tokens")
    complete(teacher(server))
    assert [("max_tokens" in asked, asked.get("max_completion_tokens")) for asked in server.asked] == [
        (True, None),
        *[(False, 50)] * 4,
    ]


def test_without_any_limit_of_tokens_nothing_is_asked(server: Server) -> None:
    """Budgets rest on it: who can do without says so."""
    server.behave = refuses_parameters("OpenAI", "max_tokens", "max_completion_tokens")
    with pytest.raises(TeacherError, match=r"refused t/0#0: .*max_completion_tokens") as raised:
        complete(teacher(server), requests(1))
    assert "omit, rename and extra_body" in raised.value.next_step
    assert len(complete(teacher(server, omit=["max_tokens"]))) == 4


def test_a_temperature_other_than_one_may_be_refused(server: Server) -> None:
    message = (
        "Unsupported value: 'temperature' does not support 0.5 with this model. Only the default (1) is."
    )

    def behave(handler: endpoint.Handler, asked: dict[str, Any], before: int) -> None:
        if asked.get("temperature", 1) != 1:
            body = openai_error(message, "temperature", "unsupported_value")
            handler.send(400, json.dumps(body).encode())
        else:
            endpoint.behaves(handler, asked, before)

    server.behave = behave
    assert len(complete(teacher(server))) == 4 and len(server.asked) == 5
    server.asked.clear()
    fixed = teacher(server, omit=["temperature"], extra_body={"temperature": 1})
    assert len(complete(fixed)) == 4 and {asked["temperature"] for asked in server.asked} == {1}


def test_a_value_out_of_range_is_the_callers_mistake(server: Server) -> None:
    server.behave = error(400, openai_error("temperature must be between 0 and 0.4", "temperature"))
    with pytest.raises(TeacherError, match=r"between 0 and 0.4"):
        complete(teacher(server), requests(1))
    assert len(server.asked) == 1


def test_a_refusal_that_only_seems_to_mean_a_parameter_ends(server: Server) -> None:
    """Each parameter that it names is left out once, and put back for the next request."""
    server.behave = error(400, openai_error("bad request: seed=1, top_p=1, temperature=0, max_tokens=5"))
    one = teacher(server)
    with pytest.raises(TeacherError, match=r"refused t/0#0: .*bad request"):
        complete(one, requests(1))
    assert len(server.asked) == 5 and not one.refused


def test_settings_omit_rename_and_add(server: Server) -> None:
    one = teacher(
        server,
        omit=["seed", "top_p"],
        rename={"max_tokens": "max_completion_tokens"},
        extra_body={"reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False}},
    )
    complete(one)
    assert len(server.asked) == 4
    asked = {name: value for name, value in server.asked[0].items() if name not in ("messages", "model")}
    assert asked == {
        "stream": False,
        "temperature": 0.5,
        "max_completion_tokens": 50,
        "reasoning_effort": "low",
        "chat_template_kwargs": {"enable_thinking": False},
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"extra_body": {"model": "other"}},
        {"extra_body": {"messages": []}},
        {"extra_body": {"n": 4}},
        {"extra_body": {"temperature": 1}},
        {"rename": {"max_tokens": "seed"}},
        {"rename": {"max_tokens": "limit"}, "extra_body": {"limit": 3}},
    ],
)
def test_no_field_is_set_twice(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="would stand in a request twice"):
        ApiTeacherConfig.model_validate({"model": "m", "base_url": "http://h/v1"} | changes)


def test_only_parameters_that_are_known_can_be_renamed() -> None:
    with pytest.raises(ValidationError, match="rename: stop is none of seed, top_p"):
        ApiTeacherConfig(model="m", base_url="http://h/v1", rename={"stop": "end"})


def test_kept_answers_are_found_whatever_the_endpoint_refuses(server: Server, tmp_path: Path) -> None:
    """And an answer to another body is another."""
    server.behave = refuses_parameters("OpenAI", "seed", "max_tokens")
    complete(Replayed(teacher(server), tmp_path))
    asked = len(server.asked)
    complete(Replayed(teacher(server), tmp_path))
    complete(Replayed(teacher(server, rename={"max_tokens": "max_completion_tokens"}), tmp_path))
    assert len(server.asked) == asked
    complete(Replayed(teacher(server, extra_body={"reasoning_effort": "low"}), tmp_path), requests(1))
    assert len(server.asked) > asked
    asked = len(server.asked)
    complete(Replayed(teacher(server, omit=["temperature"]), tmp_path), requests(1))
    assert len(server.asked) > asked


# empty answers

TOO_LONG = [
    "This model's maximum context length is 4096 tokens. However, your messages resulted in 5000 tokens.",
    "This model's maximum context length is 4096 tokens. However, you requested 4100 tokens (4050 in the "
    "messages, 50 in the completion). Please reduce the length of the messages or completion.",
    "'max_tokens' or 'max_completion_tokens' is too large: 50. This model's maximum context length is 4096 "
    "tokens and your request has 4080 input tokens (50 > 4096 - 4080).",
    "prompt is too long: 250251 tokens > 200000 maximum",
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens",
    "the request exceeds the available context size, try increasing it",
    "The input token count (40000) exceeds the maximum number of tokens allowed (32768).",
    "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
    "context_length_exceeded",
]
NOT_TOO_LONG = [
    "max_tokens is too large: 50. This model supports at most 20 completion tokens.",
    "'max_tokens' is too large: 50. This model's maximum context length is 32 tokens and your request has 9.",
    "This model's maximum context length is 50 tokens. However, you requested 70 tokens",
    "Request too large for model m on tokens per minute (TPM): Limit 6000, Requested 7000",
    "max_tokens exceeds the maximum number of tokens",
    "Invalid value for 'messages'",
    "",
]


def test_a_prompt_that_is_too_long_is_told_from_other_mistakes() -> None:
    assert [text for text in TOO_LONG if not is_too_long(text, 50)] == []
    assert [text for text in NOT_TOO_LONG if is_too_long(text, 50)] == []
    assert is_filtered(json.dumps(openai_error("filtered", code="content_filter")))
    assert not is_filtered(json.dumps(openai_error("no")))


@pytest.mark.parametrize(
    ("status", "body", "finish"),
    [
        *[(400, openai_error(text), "prompt_too_long") for text in TOO_LONG],
        (413, openai_error("prompt is too long"), "prompt_too_long"),
        (400, openai_error("filtered", "prompt", "content_filter"), "content_filter"),
    ],
)
def test_a_prompt_that_no_answer_can_have_gets_an_empty_one(
    status: int, body: Any, finish: str, server: Server, tmp_path: Path
) -> None:
    def behave(handler: endpoint.Handler, asked: dict[str, Any], before: int) -> None:
        (error(status, body) if endpoint.said(asked) == "say 1" else endpoint.behaves)(handler, asked, before)

    server.behave = behave
    one, told = teacher(server, prices=Prices(prompt=1, completion=1)), []
    one.ledger, one.tell = Ledger(tmp_path / "ledger.jsonl"), lambda stage, text: told.append(text)
    found = complete(Replayed(one, tmp_path / "answers"))
    assert {key: done.text for key, done in found.items()} == {
        "t/0#0": "SAY 0",
        "t/1#0": "",
        "t/2#0": "SAY 2",
        "t/3#0": "SAY 3",
    }
    assert {key: done.finish for key, done in found.items() if done.finish != "stop"} == {"t/1#0": finish}
    calls = {call.key: call for call in read_jsonl(one.ledger.path, Call)}
    assert calls.keys() == found.keys()
    assert (calls["t/1#0"].finish, calls["t/1#0"].cost, calls["t/1#0"].prompt_tokens) == (finish, 0, 0)
    assert told == [f"1 answers of big are empty: t/1#0 ({finish.replace('_', ' ')})"]
    assert complete(Replayed(one, tmp_path / "answers")) == found and len(server.asked) == 4


def without_content(finish: str, **message: Any) -> Behaviour:
    def behave(handler: endpoint.Handler, asked: dict[str, Any], before: int) -> None:
        choice = {"index": 0, "message": {"role": "assistant", "content": None} | message}
        changes = {"choices": [choice | {"finish_reason": finish}]} if endpoint.said(asked) == "say 1" else {}
        handler.send(200, endpoint.answer(asked, **changes))

    return behave


@pytest.mark.parametrize(
    ("behave", "finish"),
    [
        (without_content("length", reasoning_content="let me think"), "length"),
        (without_content("content_filter"), "content_filter"),
        (without_content("tool_calls", tool_calls=[{"id": "1"}]), "tool_calls"),
    ],
    ids=["thought", "filter", "tool call"],
)
def test_null_content_is_an_empty_answer_that_is_paid_for_once(
    behave: Behaviour, finish: str, server: Server, tmp_path: Path
) -> None:
    server.behave = behave
    one, told = teacher(server, concurrency=4), []
    one.ledger, one.tell = Ledger(tmp_path / "ledger.jsonl"), lambda stage, text: told.append(text)
    found = complete(one)
    assert (found["t/1#0"].text, found["t/1#0"].finish, found["t/1#0"].tokens) == ("", finish, 3)
    assert len(found) == len(server.asked) == one.ledger.spent.calls == 4
    assert told == [f"1 answers of big are empty: t/1#0 ({finish.replace('_', ' ')})"]


def test_half_of_a_surrogate_pair_in_a_prompt_leaves_the_others_alone(server: Server) -> None:
    found = {}
    asked = [Request(task_id="odd", prompt="say \ud800"), *requests()]
    with pytest.raises(TeacherError, match="refused odd#0: its prompt holds half of a surrogate pair"):
        for done in teacher(server).complete(asked, DECODING):
            found[done.key] = done.text
    assert len(found) == 4


# usage


def with_usage(usage: Any) -> Behaviour:
    return lambda handler, asked, before: handler.send(200, endpoint.answer(asked, usage=usage))


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        [],
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": -(9**9), "completion_tokens": 1},
    ],
)
def test_tokens_that_are_not_given_are_estimated_and_budgets_hold(
    usage: Any, server: Server, tmp_path: Path
) -> None:
    server.behave = with_usage(usage)
    one, told = teacher(server, prices=Prices(prompt=1.0, completion=2.0)), []
    one.ledger = Ledger(tmp_path / "ledger.jsonl", Budget(tokens=300))
    one.tell = lambda stage, text: told.append(text)
    with pytest.raises(Exception, match="budget of 300 tokens"):
        complete(one, requests(40))
    calls = list(read_jsonl(one.ledger.path, Call))
    assert len(calls) == len(server.asked) and 5 <= len(calls) < 40
    assert all(call.estimated and call.prompt_tokens == 19 for call in calls)  # 5 bytes, and a template
    given = isinstance(usage, dict) and usage.get("completion_tokens")
    assert {call.completion_tokens for call in calls} == {1 if given else 3}
    assert 200 < one.ledger.spent.tokens <= 300 and (one.ledger.spent.money or 0) > 0
    assert told == ["the endpoint does not say how many tokens it took: they are estimated"]


def test_tokens_that_are_given_are_not_estimated(server: Server, tmp_path: Path) -> None:
    one = teacher(server)
    one.ledger = Ledger(tmp_path / "ledger.jsonl")
    complete(one)
    assert not any(call.estimated for call in read_jsonl(one.ledger.path, Call))
    assert '"estimated"' not in one.ledger.path.read_text()


def test_estimates_go_no_further_than_the_limit_and_thoughts_reach_it(server: Server, tmp_path: Path) -> None:
    def behave(handler: endpoint.Handler, asked: dict[str, Any], before: int) -> None:
        long = endpoint.said(asked) == "say 0"
        message = {"role": "assistant", "content": "x" * 500 if long else None}
        choice = {"index": 0, "message": message, "finish_reason": "stop" if long else "length"}
        handler.send(200, endpoint.answer(asked, usage=None, choices=[choice]))

    server.behave = behave
    one = teacher(server)
    one.ledger = Ledger(tmp_path / "ledger.jsonl")
    assert {done.tokens for done in complete(one).values()} == {50}


# pauses


def test_a_pause_is_a_number_or_a_date() -> None:
    assert pause_asked("7") == 7 and pause_asked(" 0.5 ") == 0.5 and pause_asked("0") == 0
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 97 < (pause_asked(soon) or 0) <= 100
    assert pause_asked("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert (pause_asked("9" * 400) or 0) > 1e300
    garbage = [None, "", "soon", "-5", "nan", "inf", "1e9", "1_000", "٣", "5 s", "\x00", "Wed, 99 Oct 2015"]
    assert [pause_asked(header) for header in garbage] == [None] * len(garbage)


@pytest.mark.parametrize(
    "header",
    ["1000000000", "301", "9" * 400, "Wed, 21 Oct 2099 07:28:00 GMT"],
    ids=["e9", "301", "9s", "date"],
)
def test_a_pause_that_is_too_long_ends_the_call(header: str, server: Server, tmp_path: Path) -> None:
    def behave(handler: endpoint.Handler, asked: dict[str, Any], before: int) -> None:
        if endpoint.said(asked) == "say 1":
            handler.send(429, b"{}", ("Retry-After", header))
        else:
            endpoint.behaves(handler, asked, before)

    server.behave = behave
    started, found = time.monotonic(), []
    named = rf"t/1#0 in 1 call; .*Retry-After: {header[:40]}\) longer than longest_pause_seconds, 300"
    with pytest.raises(TeacherError, match=named):
        for done in teacher(server).complete(requests(), DECODING):
            found.append(done.key)
    assert found == ["t/0#0", "t/2#0", "t/3#0"] and time.monotonic() - started < 5


@pytest.mark.parametrize("header", ["nan", "soon", "-3", ""])
def test_a_pause_that_is_no_pause_is_ones_own(header: str, server: Server) -> None:
    server.behave = endpoint.at_first(endpoint.refuses(429, ("Retry-After", header)))
    started = time.monotonic()
    assert len(complete(teacher(server))) == 4 and time.monotonic() - started < 5


def test_the_longest_pause_is_a_setting(server: Server) -> None:
    server.behave = endpoint.at_first(endpoint.refuses(429, ("Retry-After", "0.3")))
    with pytest.raises(TeacherError, match=r"longer than longest_pause_seconds, 0\.2"):
        complete(teacher(server, longest_pause_seconds=0.2), requests(1))


# whatever a refusal says

_TEXT = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.sampled_from(
            [
                "seed",
                "top_p",
                "temperature",
                "max_tokens",
                "max_completion_tokens",
                "context",
                "length",
                "is",
                "too",
                "long",
                "prompt",
                "tokens",
                "maximum",
                "exceeds",
                "the",
                "4096",
                "9" * 30,
                "unsupported",
                "parameter",
                "only",
                "between",
            ]
        ),
        max_size=12,
    ).map(" ".join),
)


def reads_any_refusal(text: str, header: str) -> None:
    sent = ("seed", "top_p", "temperature", "max_tokens")
    assert refused_parameter(text, sent) in (*sent, None)
    assert is_too_long(text, 50) in (True, False) and is_filtered(text) in (True, False)
    pause = pause_asked(header)
    assert pause is None or pause >= 0


_HEADERS = st.one_of(
    st.text(max_size=40),
    st.from_regex(r"[A-Z][a-z]{2}, \d{1,4} [A-Z][a-z]{2} \d{1,6} \d\d:\d\d:\d\d( GMT| [+-]\d{4})?"),
    st.floats().map(str),
    st.integers().map(str),
)


@given(_TEXT, _HEADERS)
@settings(max_examples=50, deadline=None)
def test_any_refusal_can_be_read(text: str, header: str) -> None:
    reads_any_refusal(text, header)


@pytest.mark.slow
@given(_TEXT, _HEADERS)
@settings(max_examples=5000, deadline=None)
def test_any_of_many_refusals_can_be_read(text: str, header: str) -> None:
    reads_any_refusal(text, header)
