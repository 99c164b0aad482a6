"""What servers list of the tokens that they generate: every form, and what is no distribution."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from codestill.openai_client import noting_twice, parse_json
from codestill.teachers.answers import NotAnAnswer, read_answer
from codestill.teachers.listing import Listing, Token, read_listing


def chat(*positions: list[tuple[dict[str, Any], float]]) -> dict[str, Any]:
    """As the chat endpoint lists positions; the first entry was generated."""
    entries = [[name | {"logprob": log_p} for name, log_p in one] for one in positions]
    return {"content": [one[0] | {"top_logprobs": one} for one in entries]}


def positions(listing: Listing | None) -> list[list[tuple[Token, float]]]:
    assert listing is not None
    ends = np.cumsum(listing.counts_N)
    return [
        [
            (listing.tokens[place], round(float(log_p), 4))
            for place, log_p in zip(listing.places_E[a:b], listing.log_p_E[a:b], strict=True)
        ]
        for a, b in zip(ends - listing.counts_N, ends, strict=True)
    ]


def text(token: str, data: list[int] | None = None) -> dict[str, Any]:
    return {"token": token, "bytes": data}


@pytest.mark.parametrize(
    ("names", "tokens"),
    [
        ([text("a") | {"id": 7}, text("b") | {"id": 0}], [7, 0]),
        ([text("token_id:7", [116]), text("token_id:0", [116])], [7, 0]),  # the bytes are of the spelling
        ([text("a", [97]), text("\ufffd", [240, 159])], [b"a", b"\xf0\x9f"]),
        ([text("a"), text("é", None)], [b"a", "é".encode()]),
        ([text("<|end|>", None), text("b", [98])], [b"<|end|>", b"b"]),
    ],
)
def test_tokens_go_by_their_surest_name(names: list[dict[str, Any]], tokens: list[Token]) -> None:
    first, second = names
    found = read_listing(chat([(first, -0.5), (second, -1.0)], [(second, -0.25), (first, -2.0)]))
    a, b = tokens
    assert positions(found) == [[(a, -0.5), (b, -1.0)], [(b, -0.25), (a, -2.0)]]
    assert found is not None and found.generated == [a, b] and found.most == 2
    assert found.has_ids == isinstance(a, int)


def test_a_completions_form_is_read() -> None:
    logprobs = {
        "tokens": ["a", "z"],
        "token_logprobs": [-0.5, -9.0],
        "top_logprobs": [{"b": -2.0, "a": -0.5}, {"a": -0.1, "b": -3.0}],
    }
    found = read_listing(logprobs)
    assert positions(found) == [[(b"a", -0.5), (b"b", -2.0)], [(b"z", -9.0), (b"a", -0.1), (b"b", -3.0)]]


def test_a_listing_is_kept_as_it_was() -> None:
    for names in ([{"token": "", "id": 5}, {"token": "", "id": 70000}], [text("a"), text("\x00")]):
        listing = read_listing(chat([(names[0], -0.123456), (names[1], -7.5)], [(names[1], -1e-6)]))
        assert listing is not None
        kept = listing.packed()
        assert json.loads(kept.model_dump_json()) == kept.model_dump(mode="json")
        assert positions(Listing.unpack(kept)) == positions(listing)


def test_what_was_not_packed_is_refused() -> None:
    listing = read_listing(chat([(text("a"), -0.5)]))
    assert listing is not None
    kept = listing.packed()
    for data in ("", "!!", kept.data[:-4], kept.data.swapcase()):
        with pytest.raises(ValueError):
            Listing.unpack(kept.model_copy(update={"data": data}))


A, B = {"token": "a", "id": 1}, {"token": "b", "id": 2}


@pytest.mark.parametrize(
    ("logprobs", "said"),
    [
        (chat([(A, -0.1)], [(A, 0.5)]), "position 1 gives token 'a' the log-probability 0.5"),
        (
            chat([(A, -0.1)], [(A, -0.1), (B, -0.1)]),
            "position 1 gives its tokens the probability 1.81 together",
        ),
        (chat([(A, -1.0), (B, -2.0), (B, -3.0)]), "position 0 lists token 2 twice"),
        (chat([(A, float("nan"))]), "log-probability nan"),
        (chat([(A, float("-inf"))]), "log-probability -inf"),
        (chat([(A, None)]), "log-probability None"),  # type: ignore[list-item]
        (chat([(A, -1.0), (text("b"), -2.0)]), "some tokens have ids, and others do not"),
        (chat([({"id": 1}, -1.0)]), "position 0 lists a token without text"),
        ({"content": [A | {"logprob": -1.0}]}, "position 0 has no list top_logprobs"),
        ({"content": [5]}, "position 0 lists what is no token"),
        ({"tokens": ["a"], "token_logprobs": [-1.0]}, "are no lists of the same length"),
        ({"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": [None]}, "position 0 maps no tokens"),
    ],
)
def test_what_is_no_distribution_is_refused_by_position(logprobs: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_listing(logprobs)
    body = {"model": "m", "choices": [{"message": {"content": "a"}, "logprobs": logprobs}]}
    with pytest.raises(NotAnAnswer, match=rf"choices\[0\].logprobs is no distribution: .*{said}"):
        read_answer(json.dumps(body).encode(), "chat", "p", listed=True)
    assert read_answer(json.dumps(body).encode(), "chat", "p").text == "a"  # where nobody asked for it


def test_a_name_that_stands_twice_in_an_object_is_refused() -> None:
    body = b'{"tokens": ["a"], "token_logprobs": [-1], "top_logprobs": [{"a": -1, "b": -2, "a": -1}]}'
    with pytest.raises(ValueError, match="position 0 lists a token twice"):
        read_listing(parse_json(body, noting_twice))


def test_two_tokens_may_have_the_same_text() -> None:
    found = read_listing(chat([(text("\ufffd"), -1.0), (text("\ufffd"), -1.5), (text("a"), -3.0)]))
    assert [token for token, _ in positions(found)[0]] == ["\ufffd".encode()] * 2 + [b"a"]


@pytest.mark.parametrize("logprobs", [None, [], {}, {"content": []}, {"content": None}, {"tokens": []}])
def test_nothing_listed_is_none(logprobs: Any) -> None:
    assert read_listing(logprobs) is None


_VALUES = st.one_of(st.floats(), st.integers(), st.none(), st.booleans(), st.text(max_size=3), st.just(-0.5))
_ENTRIES = st.fixed_dictionaries(
    {"token": st.one_of(st.text(max_size=3), _VALUES), "logprob": _VALUES},
    optional={"id": _VALUES, "bytes": st.one_of(_VALUES, st.lists(st.integers(-1, 300), max_size=3))},
)
_POSITIONS = st.one_of(st.dictionaries(st.just("top_logprobs"), st.lists(_ENTRIES, max_size=3)), _VALUES)


@given(_ENTRIES, _POSITIONS)
@hypothesis_settings(max_examples=100, deadline=None)
def test_any_position_is_a_distribution_or_refused(own: dict[str, Any], rest: Any) -> None:
    try:
        found = read_listing({"content": [own | rest if isinstance(rest, dict) else rest]})
    except ValueError:
        return
    assert found is not None and len(found) == 1
    assert sum(math.exp(log_p) for _, log_p in positions(found)[0]) <= 1.0101
    assert positions(Listing.unpack(found.packed())) == positions(found)
