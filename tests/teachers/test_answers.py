"""The body of an answer: what is one, what is not and why, and which counts of tokens are believed."""

import json
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestill.teachers.answers import Answer, NotAnAnswer, read_answer

CHAT: dict[str, Any] = {
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "x = 1"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}
COMPLETION = CHAT | {"choices": [{"index": 0, "text": "x = 1", "finish_reason": "stop", "logprobs": None}]}


def chat(message: Any, finish: Any = "stop", **changes: Any) -> dict[str, Any]:
    return CHAT | {"choices": [{"index": 0, "message": message, "finish_reason": finish}]} | changes


def read(body: Any, endpoint: Literal["chat", "completions"] = "chat", prompt: str = "f") -> Answer:
    return read_answer(body if isinstance(body, bytes) else json.dumps(body).encode(), endpoint, prompt)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "its body is not JSON: .*it is empty"),
        (b"<!DOCTYPE html><html>", "not JSON.*'<!DOCTYPE html>"),
        (json.dumps(CHAT).encode()[:60], "not JSON"),
        (json.dumps(CHAT).encode() + b"{}", "not JSON: Extra data"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"choices": ' + b"[" * 200_000, "nested too deeply"),
        (b'{"choices": "\xff"}', "not UTF-8"),
        (b'{"n": ' + b"1" * 5000 + b"}", "digits"),
        (None, "the answer is null, not an object"),
        ([CHAT], "the answer is a list"),
        ("text", "the answer is a string"),
        (float("nan"), "the answer is a number"),
        ({"error": {"message": "overloaded"}}, "holds an error: .*overloaded"),
        ({}, "choices is missing"),
        ({"choices": []}, "choices is empty"),
        ({"choices": {"a": None}}, "choices is an object"),
        ({"choices": None}, "choices is null"),
        ({"choices": ["5"]}, r"choices\[0\] is a string, not an object"),
        ({"choices": [None]}, r"choices\[0\] is null"),
        ({"choices": [{}]}, r"choices\[0\].message is missing"),
        (chat([]), r"choices\[0\].message is a list"),
        (chat({}), r"choices\[0\].message.content is missing"),
        (chat({"content": 5}), r"message.content is a number, not a string"),
        (chat({"content": {"text": "x"}}), r"message.content is an object"),
        (chat({"content": True}), r"message.content is a boolean"),
        (chat({"content": ["x"]}), r"message.content\[0\] is a string, not an object"),
        (chat({"content": [{"type": "text"}]}), r"message.content\[0\].text is a number"),
        (chat({"content": "ab\ud800"}), r"message.content holds half of a surrogate pair.* character 2"),
        (chat({"content": "x"}, finish=5), r"choices\[0\].finish_reason is a number"),
        (chat({"content": "x"}, finish=["stop"]), "finish_reason is a list"),
        (chat({"content": "x"}, finish="error"), "finish_reason is 'error'"),
        (chat({"content": "x"}, finish="abort"), "finish_reason is 'abort'"),
        (chat({"content": "x"}, model=["m"]), "model is a list"),
    ],
)
def test_what_is_no_answer_is_named(body: Any, said: str) -> None:
    with pytest.raises(NotAnAnswer, match=said):
        read(body)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"finish_reason": "stop"}, r"choices\[0\].text is missing"),
        ({"text": 1}, r"choices\[0\].text is a number"),
        ({"text": "\udfff"}, "half of a surrogate pair"),
    ],
)
def test_what_is_no_completion_is_named(choice: dict[str, Any], said: str) -> None:
    assert read(COMPLETION, "completions").text == "x = 1"
    with pytest.raises(NotAnAnswer, match=said):
        read({"choices": [choice]}, "completions")


@pytest.mark.parametrize(
    ("message", "finish", "text", "read_as"),
    [
        ({"content": "x"}, None, "x", "stop"),
        ({"content": "x"}, "length", "x", "length"),
        ({"content": "x"}, "max_tokens", "x", "length"),
        ({"content": "😀 \x00"}, "eos", "😀 \x00", "stop"),
        ({"content": None}, "stop", "", "stop"),
        ({"content": None, "reasoning_content": "hm"}, "length", "", "length"),
        ({"reasoning": "hm"}, "length", "", "length"),
        ({"reasoning": "hm"}, "stop", "", "stop"),
        ({"content": None, "refusal": "no"}, "stop", "", "stop"),
        ({"content": None}, "content_filter", "", "content_filter"),
        ({}, "content_filter", "", "content_filter"),
        ({"content": None, "tool_calls": [{"id": "1"}]}, "tool_calls", "", "tool_calls"),
        ({"tool_calls": [{"id": "1"}]}, "function_call", "", "tool_calls"),
        (
            {"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "x"}]},
            "stop",
            "x",
            "stop",
        ),
    ],
)
def test_an_answer_without_text_is_an_empty_one(
    message: dict[str, Any], finish: str | None, text: str, read_as: str
) -> None:
    answer = read(chat(message, finish))
    assert (answer.text, answer.finish) == (text, read_as)


@pytest.mark.parametrize(
    "usage", [None, [], [None], "7", 7, {}, {"prompt_tokens": None}, {"total_tokens": 5}]
)
def test_counts_that_are_missing_are_left_out(usage: Any) -> None:
    answer = read(CHAT | {"usage": usage})
    assert (answer.prompt_tokens, answer.completion_tokens) == (None, None)
    without = {name: value for name, value in CHAT.items() if name != "usage"}
    assert read(without).prompt_tokens is None


@pytest.mark.parametrize(
    ("count", "believed"),
    [
        (1, 1),
        (5_000, 5_000),  # thought, or a prompt of the server's own
        (0, None),
        (-1, None),
        (2.5, None),
        (3.0, None),
        (float("nan"), None),
        (float("inf"), None),
        (1e300, None),
        (2**63, None),
        (10**400, None),
        (True, None),
        ("3", None),
        ([3], None),
    ],
)
def test_counts_that_cannot_be_right_are_left_out(count: Any, believed: int | None) -> None:
    found = read(CHAT | {"usage": {"prompt_tokens": count, "completion_tokens": 2}})
    assert (found.prompt_tokens, found.completion_tokens) == (believed, 2)
    found = read(CHAT | {"usage": {"prompt_tokens": 2, "completion_tokens": count}})
    assert (found.prompt_tokens, found.completion_tokens) == (2, believed)
    assert read(chat({"content": None}, usage={"completion_tokens": 0})).completion_tokens == 0


# every body is an answer, or is refused by name

_ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["\ud800", "length", "error", -1, 2**70, "x" * 300]),
)
_JSON = st.recursive(
    _ODD,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
_NAMES = st.sampled_from(
    [
        "choices",
        "message",
        "content",
        "text",
        "finish_reason",
        "usage",
        "prompt_tokens",
        "completion_tokens",
        "model",
        "error",
        "refusal",
        "type",
    ]
)
_ALIKE = st.recursive(
    _ODD,
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(_NAMES, inner, max_size=4)),
    max_leaves=12,
)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A right answer in which one to three values are replaced or removed."""
    body = json.loads(json.dumps(draw(st.sampled_from([CHAT, COMPLETION]))))
    for _ in range(draw(st.integers(1, 3))):
        inner: Any = body
        while True:
            places = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
            if not places:
                break
            place = draw(st.sampled_from(places))
            if isinstance(inner[place], dict | list) and draw(st.booleans()):
                inner = inner[place]
                continue
            if draw(st.booleans()):
                inner[place] = draw(_JSON)
            else:
                del inner[place]
            break
    return body


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """What a server may send: JSON of any shape, right answers with faults, cut or damaged bytes."""
    whole = draw(st.one_of(_JSON, _ALIKE, mutated()))
    body = json.dumps(whole, ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")
    damage = draw(st.sampled_from(["none", "none", "cut", "byte", "bytes"]))
    if damage == "cut":
        return body[: draw(st.integers(0, len(body)))]
    if damage == "byte" and body:
        place = draw(st.integers(0, len(body) - 1))
        return body[:place] + draw(st.binary(min_size=1, max_size=2)) + body[place + 1 :]
    return draw(st.binary(max_size=40)) if damage == "bytes" else body


def is_an_answer_or_refused_by_name(body: bytes, endpoint: Literal["chat", "completions"]) -> None:
    try:
        answer = read_answer(body, endpoint, "prompt")
    except NotAnAnswer as error:
        assert str(error)
        return
    assert answer.text.encode() is not None
    for count in (answer.prompt_tokens, answer.completion_tokens):
        assert count is None or (type(count) is int and 0 <= count < 2**21)


@given(bodies(), st.sampled_from(["chat", "completions"]))
@settings(max_examples=30, deadline=None)
def test_any_body_is_an_answer_or_refused_by_name(
    body: bytes, endpoint: Literal["chat", "completions"]
) -> None:
    is_an_answer_or_refused_by_name(body, endpoint)


@pytest.mark.slow
@given(bodies(), st.sampled_from(["chat", "completions"]))
@settings(max_examples=5000, deadline=None)
def test_any_of_many_bodies_is_an_answer_or_refused_by_name(
    body: bytes, endpoint: Literal["chat", "completions"]
) -> None:
    is_an_answer_or_refused_by_name(body, endpoint)
