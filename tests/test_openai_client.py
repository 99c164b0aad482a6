"""Clients of endpoints: key, address, limits of a body, and a message where the package is missing."""

import base64
import copy
import json
import pickle
import sys
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.teachers import endpoint

from codestill import openai_client as module
from codestill.embeddings import EndpointEmbedderConfig
from codestill.errors import ConfigError, TeacherError
from codestill.openai_client import (
    Address,
    BaseUrl,
    ask_for_json,
    async_openai_client,
    key,
    openai_client,
    presentable,
    require_key,
)
from codestill.types import Settings


@pytest.mark.parametrize("make", [openai_client, async_openai_client])
def test_a_client_has_the_key_of_the_environment_or_none(make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    client = make("http://127.0.0.1:9/v1", 3.0, 2, "MY_KEY")
    assert (client.api_key, client.timeout, client.max_retries) == ("secret", 3.0, 2)
    assert str(client.base_url).rstrip("/") == "http://127.0.0.1:9/v1"
    assert make("http://127.0.0.1:9/v1", 3.0, 0).api_key == "none"


def test_a_key_is_stripped_and_no_error_shows_what_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", " planted\n")
    assert key("MY_KEY") == "planted"
    for wrong in ("plan\nted", "planté"):
        monkeypatch.setenv("MY_KEY", wrong)
        with pytest.raises(ConfigError, match="MY_KEY holds characters that no key has") as refused:
            require_key("m", "http://h/v1", "MY_KEY", "teacher")
        assert "plan" not in str(refused.value)


@pytest.mark.parametrize("make", [openai_client, async_openai_client])
def test_a_missing_package_says_what_to_install(make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ConfigError, match="not installed") as refused:
        make(None, 1.0, 0)
    assert refused.value.next_step == "pip install 'codestill[api]'"


def test_openai_itself_needs_a_key_and_an_endpoint_of_ones_own_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_KEY", "")
    assert key("MY_KEY") is None
    require_key("m", "http://127.0.0.1:9/v1", "MY_KEY", "embedder")
    with pytest.raises(ConfigError, match="m needs a key, and MY_KEY is not set") as refused:
        EndpointEmbedderConfig(model="m", key_variable="MY_KEY").build()
    assert "set embedder.base_url" in refused.value.next_step


# addresses

SECRET = "http://user:pl%40nted@host:8000/v1?api_key=planted&api-version=2"


class Addressed(Settings):
    base_url: BaseUrl | None = None


def test_credentials_of_an_address_are_used_and_never_shown() -> None:
    config = Addressed.model_validate({"base_url": SECRET})
    shown = "http://***@host:8000/v1?api_key=***&api-version=2"
    assert config.model_dump() == {"base_url": shown} and shown in repr(config)
    assert config.model_dump_json() == f'{{"base_url":"{shown}"}}'
    for same in (
        config,
        config.model_copy(),
        copy.deepcopy(config),
        pickle.loads(pickle.dumps(config)),
        Addressed.model_validate(config.model_dump()),
    ):
        address = same.base_url
        assert isinstance(address, Address) and address.login == ("user", "pl@nted")
        assert (address.bare, address.parameters["api_key"]) == ("http://host:8000/v1", "planted")
        assert same == config
    said = f"no: pl@nted pl%40nted planted {base64.b64encode(b'user:pl@nted').decode()} {SECRET}\nmore"
    assert "nted" not in presentable(said, config.base_url) and "more" not in presentable(
        said, config.base_url
    )


@pytest.mark.parametrize(
    "url",
    [
        "host:8000/v1",
        "ftp://host/v1",
        "http://",
        "http://user:planted/x@host/v1",
        "http://user:12/planted@host/v1",
        "http://user:planted#x@host/v1",
        "http://[planted/v1",
        "http://host:99999/planted",
        "http://host/\nplanted",
    ],
)
def test_what_is_no_address_is_refused_unseen(url: str) -> None:
    with pytest.raises(ValidationError, match="not the URL of an API") as refused:
        Addressed.model_validate({"base_url": url})
    assert "planted" not in str(refused.value)


def test_an_address_from_a_file_of_results_has_lost_its_credentials() -> None:
    shown = Addressed.model_validate({"base_url": SECRET}).model_dump_json()
    with pytest.raises(ConfigError, match=r"credentials of http://\*\*\*@host.* are hidden"):
        openai_client(Addressed.model_validate_json(shown).base_url, 1.0, 0)


_PARTS = st.text("abc:/@?#[]%&=. *é\n1", max_size=8)


def hides_whatever_it_accepts(user: str, password: str, host: str, query: str) -> None:
    quoted = quote(f"planted{password}", safe="")
    for url in (
        f"http://{user}:{quoted}@{host}/v1",
        f"http://u:planted{password}@h/v1",
        f"http://{quoted}@h/v1",
        f"http://h/v1?{query}=planted",
        f"http://h/v1?planted{query.replace('=', '')}",
    ):
        try:
            address = Address(url)
        except ValueError as error:
            assert "planted" not in str(error)
        else:
            assert "planted" not in address and "planted" not in repr(address)
            assert "planted" not in presentable(address.url, address)


@given(_PARTS, _PARTS, _PARTS, _PARTS)
@settings(max_examples=50, deadline=None)
def test_any_address_hides_its_credentials(user: str, password: str, host: str, query: str) -> None:
    hides_whatever_it_accepts(user, password, host, query)


@pytest.mark.slow
@given(_PARTS, _PARTS, _PARTS, _PARTS)
@settings(max_examples=5000, deadline=None)
def test_any_of_many_addresses_hides_its_credentials(user: str, password: str, host: str, query: str) -> None:
    hides_whatever_it_accepts(user, password, host, query)


# bodies


def test_a_log_of_urls_shows_no_credentials(caplog: pytest.LogCaptureFixture) -> None:
    with endpoint.serving() as server, caplog.at_level("DEBUG"):
        client = openai_client(server.url.replace("//", "//user:planted@") + "?api_key=secret-key", 3.0, 0)
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "a"}])
    assert server.keys == {"Basic dXNlcjpwbGFudGVk"}
    assert "api_key=***" in caplog.text
    assert not [word for word in ("planted", "secret-key") if word in caplog.text]


def test_a_body_that_is_too_large_or_too_slow_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_BODY", 10_000)
    faults = {"large": endpoint.says(b" " * 20_000), "slow": endpoint.drips}
    with endpoint.serving(lambda *asked: faults[endpoint.said(asked[1])](*asked)) as server:
        client = openai_client(server.url, 1.0, 0)
        for name, said in (("large", "exceeds 10,000 bytes"), ("slow", "APITimeoutError")):
            with pytest.raises(ValueError, match=said):
                ask_for_json(
                    lambda name=name: client.chat.completions.with_raw_response.create(
                        model="m", messages=[{"role": "user", "content": name}]
                    ),
                    lambda found: found,
                    0,
                    server.url,
                )


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (5, "data holds no list for 2 texts"),
        ([[1.0], [2.0]], r"data\[0\].embedding is no list of finite numbers"),
        ([{"index": 0, "embedding": [1.0]}], "data holds 1 embeddings for 2 texts"),
        ([{"index": 0, "embedding": []}] * 2, r"data\[0\].embedding"),
        ([{"index": 0, "embedding": [float("nan")]}] * 2, r"data\[0\].embedding"),
        ([{"index": 0, "embedding": [1e300]}] * 2, r"data\[0\].embedding"),
        ([{"index": 0, "embedding": ["1"]}] * 2, r"data\[0\].embedding"),
        ([{"index": 0, "embedding": "AAAA"}] * 2, r"data\[0\].embedding"),
        ([{"index": 0, "embedding": [1.0]}] * 2, r"data\[1\].index is 0, or stands twice"),
        ([{"index": 2, "embedding": [1.0]}] * 2, r"data\[0\].index is 2"),
        ([{"index": "0", "embedding": [1.0]}] * 2, r"data\[0\].index"),
        ([{"embedding": [1.0]}, {"embedding": [1.0, 2.0]}], "not equally long"),
    ],
)
def test_what_are_no_embeddings_is_named(data: object, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_SECONDS", 0.001)
    with endpoint.serving(endpoint.says(json.dumps({"data": data}).encode())) as server:
        embedder = EndpointEmbedderConfig(model="e", base_url=server.url, retries=2).build()
        with pytest.raises(TeacherError, match=f"e gave no embeddings: .*{said}"):
            embedder.encode(["a", "b"])
    assert len(server.asked) == (1 if "equally" in said else 3)


def test_embeddings_come_in_the_texts_order() -> None:
    data = [{"index": 1, "embedding": [0, 2]}, {"index": 0, "embedding": [3.0, 0]}]
    with endpoint.serving(endpoint.says(json.dumps({"data": data}).encode())) as server:
        embedder = EndpointEmbedderConfig(model="e", base_url=server.url).build()
        assert embedder.encode(["a", "b"]).tolist() == [[1, 0], [0, 1]]
