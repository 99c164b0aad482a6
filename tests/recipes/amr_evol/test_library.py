"""The library: what is found, what is new, and what a kill leaves of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.worlds import assert_killed, die
from tests.teachers import endpoint

from codestill.embeddings import (
    AnyEmbedderConfig,
    EndpointEmbedderConfig,
    SentenceEmbedderConfig,
    TfidfEmbedderConfig,
    cosines,
)
from codestill.errors import ConfigError, RunError, TeacherError
from codestill.files.serialize import write_object
from codestill.recipes.amr_evol.library import Function, Library, LibrarySpec, read_library
from codestill.recipes.amr_evol.library import store as module

WORDS = {
    "add": "Return the sum of two numbers.",
    "is_prime": "Tell whether a number has no divisor but one and itself.",
    "reverse": "Return the text read backwards.",
    "vowels": "Count the vowels of a text.",
    "flatten": "Make one list of the items of nested lists.",
}


def function(name: str, description: str, code: str = "") -> Function:
    code = code or f"def {name}(x):\n    return x\n"
    return Function(name=name, signature="(x: int) -> int", description=description, code=code)


FUNCTIONS = [function(name, words) for name, words in WORDS.items()]


def names(library: Library, words: str, k: int = 1) -> list[str]:
    return [hit.function.name for hit in library.search([function("", words)], k)[0]]


@pytest.mark.parametrize("neural", [False, True])
def test_texts_are_compared_row_by_row(neural: bool, minilm: SentenceEmbedderConfig) -> None:
    config: AnyEmbedderConfig = minilm if neural else TfidfEmbedderConfig()
    a, b = ["return a + b", "for x in y: print(x)"], ["return a + b", "raise ValueError(text)"]
    same, forth, back = cosines(config.build(), a, a, b)
    assert same == pytest.approx([1, 1], abs=1e-5)
    assert forth[0] == pytest.approx(1, abs=1e-5)
    assert -1 <= forth[1] < 0.9
    assert back == pytest.approx(forth, abs=1e-6)


def test_finds_by_words_in_the_order_of_nearness(tmp_path: Path) -> None:
    library = Library(tmp_path)
    assert library.search([FUNCTIONS[0]]) == [[]]
    library.add("seed", FUNCTIONS)
    assert names(library, "sum of two") == ["add"]
    cosines_of = [hit.cosine for hit in library.search([FUNCTIONS[0]], 99)[0]]
    assert len(cosines_of) == 5 and cosines_of == sorted(cosines_of, reverse=True)
    assert names(library, "count the items of a text, vowels first", 2) == ["vowels", "flatten"]
    hit = library.search([FUNCTIONS[3]])[0][0]
    assert (hit.function, hit.cosine) == (FUNCTIONS[3], 1.0)


def test_a_neural_embedder_finds_by_meaning(tmp_path: Path, minilm: SentenceEmbedderConfig) -> None:
    """A real one, on words that the functions do not share with the queries."""
    asked = {
        "Join sublists into a single flat sequence.": "flatten",
        "Mirror a string.": "reverse",
        "How many of a, e, i, o, u occur?": "vowels",
        "Primality test of an integer.": "is_prime",
        "Plus.": "add",
    }
    library = Library(tmp_path / "neural", LibrarySpec(embedder=minilm))
    library.add("seed", FUNCTIONS[:2])
    library.add("more", FUNCTIONS[2:])
    assert [names(library, words) for words in asked] == [[name] for name in asked.values()]
    again = read_library(tmp_path / "neural")
    assert [names(again, words) for words in asked] == [[name] for name in asked.values()]
    plain = Library(tmp_path / "words")
    plain.add("seed", FUNCTIONS)
    assert sum(names(plain, words) == [name] for words, name in asked.items()) < 5
    rows = library._encode(FUNCTIONS)
    assert rows.shape == (5, 384) and rows.dtype == "float32"
    assert abs((rows**2).sum(axis=1) - 1).max() < 1e-5


@pytest.fixture
def embedding_server() -> Iterator[endpoint.Server]:
    def embeds(handler: endpoint.Handler, asked: dict[str, Any], before: int) -> None:
        rows = []
        for place, text in enumerate(asked["input"]):
            row = [float(text.lower().count(letter)) for letter in "abcdefghijklmnopqrstuvwxyz"]
            rows.append({"object": "embedding", "index": place, "embedding": row})
        if asked["model"] == "short":
            rows.pop()
        body = {"object": "list", "model": asked["model"], "data": rows[::-1], "usage": {}}
        handler.send(200, json.dumps(body).encode())

    with endpoint.serving(embeds) as server:
        yield server


def test_an_endpoint_embeds(tmp_path: Path, embedding_server: endpoint.Server) -> None:
    config = EndpointEmbedderConfig(model="letters", base_url=embedding_server.url, batch_size=2)
    library = Library(tmp_path / "a", LibrarySpec(embedder=config))
    library.add("seed", FUNCTIONS)
    assert len(embedding_server.asked) == 3
    assert library.search([FUNCTIONS[1]])[0][0].function == FUNCTIONS[1]
    # Rows are kept: opened again, only the query is embedded.
    asked = len(embedding_server.asked)
    assert Library(tmp_path / "a", LibrarySpec(embedder=config)).search([FUNCTIONS[1]])[0][0].cosine == 1.0
    assert len(embedding_server.asked) == asked + 1
    short = Library(
        tmp_path / "b", LibrarySpec(embedder=config.model_copy(update={"model": "short", "retries": 0}))
    )
    with pytest.raises(TeacherError, match="1 embeddings"):
        short.add("seed", FUNCTIONS)
    assert len(Library(tmp_path / "b")) == 0


def test_an_endpoint_without_key_and_a_model_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        EndpointEmbedderConfig().build()
    with pytest.raises(ConfigError, match="nowhere"):
        SentenceEmbedderConfig(model="./nowhere").build()


def test_only_what_is_new_enters(tmp_path: Path) -> None:
    library = Library(tmp_path)
    twin = FUNCTIONS[0].model_copy(update={"code": "def add(x):\n    return 0\n"})
    assert library.novel([FUNCTIONS[0], twin, FUNCTIONS[1]], 0.1) == [0, 2]
    library.add("seed", FUNCTIONS[:2])
    assert library.novel([twin, FUNCTIONS[2], FUNCTIONS[1], FUNCTIONS[2]], 0.1) == [1]
    assert library.novel([twin], 0.0) == []
    assert library.novel([], 0.1) == []


@pytest.mark.parametrize("neural", [False, True])
def test_a_library_that_is_opened_again_is_the_same(
    neural: bool, tmp_path: Path, minilm: SentenceEmbedderConfig
) -> None:
    config: AnyEmbedderConfig = minilm if neural else TfidfEmbedderConfig()
    library = Library(tmp_path, LibrarySpec(embedder=config))
    library.add("seed", FUNCTIONS[:3])
    library.add("wave-1", [])
    library.add("wave-2", FUNCTIONS[3:])
    with pytest.raises(ValueError, match="wave-1"):
        library.add("wave-1", FUNCTIONS)
    before = [(hit.function, hit.cosine) for hit in library.search([FUNCTIONS[4]], 5)[0]]
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    again = Library(tmp_path)
    assert again.functions == FUNCTIONS
    assert again.batches == {"seed": 3, "wave-1": 0, "wave-2": 2}
    assert [(hit.function, hit.cosine) for hit in again.search([FUNCTIONS[4]], 5)[0]] == before
    # Rows are made again where they are lost or damaged, and are the same.
    (tmp_path / "0000-seed.npz").unlink()
    (tmp_path / "0002-wave-2.npz").write_bytes(b"PK\x03\x04 damaged")
    healed = Library(tmp_path)
    assert [(hit.function, hit.cosine) for hit in healed.search([FUNCTIONS[4]], 5)[0]] == before
    assert neural or {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def killed_before(directory: Path, name: str) -> None:
    """Dies when a file of this kind is about to appear."""
    library = Library(directory)
    library.add("seed", FUNCTIONS[:2])
    write_jsonl, write_rows = module.write_jsonl, module._write_rows

    def whole(path: Path, functions: Any) -> None:
        if path.name.endswith(name):
            die()
        write_jsonl(path, functions)

    def rows(path: Path, found: Any) -> None:
        if path.name.endswith(name):
            die()
        write_rows(path, found)

    module.write_jsonl, module._write_rows = whole, rows
    library.add("wave-1", FUNCTIONS[2:])


@pytest.mark.parametrize("name", ["1.npz", "1.jsonl"])
def test_a_batch_that_is_killed_never_was(name: str, tmp_path: Path) -> None:
    assert_killed(killed_before, tmp_path / "killed", name)
    library = Library(tmp_path / "killed")
    assert library.functions == FUNCTIONS[:2]
    library.add("wave-1", FUNCTIONS[2:])
    whole = Library(tmp_path / "whole")
    whole.add("seed", FUNCTIONS[:2])
    whole.add("wave-1", FUNCTIONS[2:])
    found, wanted = [
        {path.name: path.read_bytes() for path in (tmp_path / which).iterdir()}
        for which in ("killed", "whole")
    ]
    assert found == wanted


def test_two_processes_do_not_grow_one_library(tmp_path: Path) -> None:
    first, second = Library(tmp_path), Library(tmp_path)
    with first._alone(), pytest.raises(RunError, match="Another process is adding"):
        second.add("seed", FUNCTIONS[:1])
    first.add("seed", FUNCTIONS[:1])
    with pytest.raises(RunError, match=r"has added to .* since it was opened"):
        second.add("seed", FUNCTIONS[1:])
    assert Library(tmp_path).functions == FUNCTIONS[:1]
    Library(tmp_path).add("wave-1", FUNCTIONS[1:])
    assert Library(tmp_path).functions == FUNCTIONS


def test_no_bit_of_a_library_may_change(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.add("seed", FUNCTIONS[:2])
    library.add("wave-1", [])
    before = [(hit.function, hit.cosine) for hit in library.search([FUNCTIONS[1]], 2)[0]]
    for path in sorted(tmp_path.glob("*.json*")):
        data = path.read_bytes()
        for position in range(0, len(data), 7):
            damaged = bytearray(data)
            damaged[position] ^= 1 << position % 8
            path.write_bytes(damaged)
            with pytest.raises(RunError, match=path.name) as caught:
                Library(tmp_path)
            assert "Delete the library's directory" in caught.value.next_step
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(RunError, match=path.name):
            Library(tmp_path)
        path.write_bytes(data)
    rows = tmp_path / "0000-seed.npz"
    data = rows.read_bytes()
    for position in range(0, len(data), 41):
        damaged = bytearray(data)
        damaged[position] ^= 4
        rows.write_bytes(damaged)
        assert [
            (hit.function, hit.cosine) for hit in Library(tmp_path).search([FUNCTIONS[1]], 2)[0]
        ] == before
        assert rows.read_bytes() == data  # it was computed again


def test_another_embedder_and_what_is_no_library_are_refused(tmp_path: Path) -> None:
    Library(tmp_path / "a", LibrarySpec(parts=("code",)))
    with pytest.raises(RunError, match="another embedder, or from other parts"):
        Library(tmp_path / "a", LibrarySpec())
    assert Library(tmp_path / "a").spec.parts == ("code",)
    with pytest.raises(RunError, match="no function library"):
        read_library(tmp_path)
    write_object(tmp_path / "b" / "library.json", {"format": 9, "embedder": {"type": "tfidf"}})
    with pytest.raises(RunError, match="format: Input should be 1"):
        read_library(tmp_path / "b")


def test_near_ties_stand_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    library = Library(tmp_path)
    twins = [function(f"twin{letter}", "Do the same.") for letter in "abcd"]
    same = [one.model_copy(update={"name": "twin"}) for one in twins]
    library.add("seed", same)
    found = library.search([same[0]], 4)[0]
    assert [hit.function.code for hit in found] == [one.code for one in twins]
