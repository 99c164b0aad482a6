"""One way to make a client: key, address, and a message where the package is missing."""

import sys

import pytest

from codestill.embeddings import EndpointEmbedderConfig
from codestill.errors import ConfigError
from codestill.openai_client import async_openai_client, key, openai_client, require_key


@pytest.mark.parametrize("make", [openai_client, async_openai_client])
def test_a_client_has_the_key_of_the_environment_or_none(make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    client = make("http://127.0.0.1:9/v1", 3.0, 2, "MY_KEY")
    assert (client.api_key, client.timeout, client.max_retries) == ("secret", 3.0, 2)
    assert str(client.base_url).rstrip("/") == "http://127.0.0.1:9/v1"
    assert make("http://127.0.0.1:9/v1", 3.0, 0).api_key == "none"


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
