"""What goes in comes out, at every temperature; what does not fit is refused by name."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.logits.made import SPEC, contents, fill, log_softmax, plain_rows, random_logits, sequences

from codestill.errors import LogitsError, VocabularyError
from codestill.files.serialize import read_object, write_object
from codestill.logits import (
    CapturedRows,
    CaptureSpec,
    Expectation,
    FixedK,
    LogitCache,
    LogitWriter,
    Mass,
    Threshold,
    Truncation,
    digest,
    finish,
)

TRUNCATIONS = st.one_of(
    st.builds(Threshold, min_probability=st.sampled_from([1e-5, 1e-3, 0.3]), max_k=st.integers(1, 256)),
    st.builds(Mass, mass=st.sampled_from([0.5, 0.99, 0.99999]), max_k=st.integers(1, 256)),
    st.builds(FixedK, k=st.integers(1, 256)),
)


@settings(max_examples=25, deadline=None)
@given(
    vocabulary=st.one_of(st.integers(1, 40), st.integers(41, 200_000)),
    counts=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    temperatures=st.lists(st.sampled_from([0.5, 1.0, 2.0, 5.0]), min_size=1, max_size=3, unique=True),
    truncation=TRUNCATIONS,
    tail_samples=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    vocabulary: int,
    counts: list[int],
    temperatures: list[float],
    truncation: Truncation,
    tail_samples: int,
    seed: int,
):
    spec = SPEC.model_copy(update={"vocabulary": vocabulary, "temperatures": tuple(sorted(temperatures))})
    spec = spec.model_copy(update={"truncation": truncation, "tail_samples": tail_samples})
    logits = random_logits(sum(counts), vocabulary, seed)
    rows = plain_rows(logits, spec) if len(logits) else empty_rows(spec)
    directory = tmp_path_factory.mktemp("cache")
    pieces, names = list(rows.split(counts)), []
    with LogitWriter.open(directory, spec, shard_tokens=3) as writer:
        for number, piece in enumerate(pieces):
            names.append(writer.add([0] * (len(piece) + number + 1), number + 1, piece))
    finish(directory)
    cache = LogitCache.open(directory)
    for place, temperature in enumerate(spec.temperatures):
        read = cache.targets(names, temperature)
        assert len(read) == len(logits)
        log_p_NV = log_softmax(logits / temperature) if len(logits) else logits
        start = 0
        for row, count in enumerate(rows.counts_N):
            ids = rows.ids_E[start : start + count]
            start += count
            assert read.ids_NK[row, :count].tolist() == ids.tolist()
            assert not read.ids_NK[row, count:].any()
            assert (read.log_probabilities_NK[row, count:] == -np.inf).all()
            expected, found = log_p_NV[row, ids], read.log_probabilities_NK[row, :count]
            # A step is off by at most 1/256 nat plus 1/64 of it; one above 62 nats by more.
            longest = np.maximum.accumulate(-np.diff(expected, prepend=expected[:1])) * temperature
            bound = 0.008 + (0.004 + longest / 64) / temperature
            assert (np.abs(found - expected) <= bound)[longest < 60].all()
        total = np.exp(read.log_probabilities_NK.astype(float)).sum(axis=1) + np.exp(read.log_tail_N)
        np.testing.assert_allclose(total, 1, atol=1e-5)
        np.testing.assert_allclose(np.exp(read.log_tail_N), np.exp(rows.log_tails_NJ[:, place]), atol=1e-3)
        if tail_samples:
            np.testing.assert_array_equal(read.samples_NM, rows.samples_NJM[:, place])
        else:
            assert read.samples_NM is None


def empty_rows(spec: CaptureSpec) -> CapturedRows:
    return next(plain_rows(random_logits(1, spec.vocabulary), spec).split([0]))


def test_sequences_come_back_in_any_order(tmp_path: Path):
    items = sequences(30)
    fill(tmp_path, items)
    manifest = finish(tmp_path)
    cache = LogitCache.open(tmp_path)
    names = [digest(tokens, prompt) for tokens, prompt, _ in items]
    assert set(cache) == set(names)
    assert names[3] in cache
    assert "0" * 32 not in cache
    assert len(manifest.shards) > 3
    assert manifest.tokens == sum(len(rows) for *_, rows in items)
    assert manifest.entries == sum(len(rows.ids_E) for *_, rows in items)
    assert manifest.bytes == sum(path.stat().st_size for path in tmp_path.glob("*.logits"))
    together = cache.targets(names[::-1], 2.0)
    assert len(together) == manifest.tokens
    start = 0
    for name, (tokens, prompt, rows) in list(zip(names, items, strict=True))[::-1]:
        assert cache.tokens(name) == (tokens, prompt)
        alone = cache.targets([name], 2.0)
        end, width = start + len(rows), alone.ids_NK.shape[1]
        np.testing.assert_array_equal(together.ids_NK[start:end, :width], alone.ids_NK)
        np.testing.assert_allclose(
            together.log_probabilities_NK[start:end, :width], alone.log_probabilities_NK, rtol=1e-6
        )
        start = end
    assert len(cache.targets([], 1.0)) == 0
    cache.verify()


def test_digest_tells_the_prompt_apart():
    assert digest([1, 2, 3], 1) != digest([1, 2, 3], 2)
    assert len(digest([], 0)) == 32


def test_same_inputs_give_the_same_bytes(tmp_path: Path):
    for name in ("first", "second"):
        fill(tmp_path / name, sequences(12))
        finish(tmp_path / name)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_an_expectation_that_differs_is_refused_field_by_field(tmp_path: Path):
    fill(tmp_path, sequences(3))
    manifest = finish(tmp_path)
    agreed = Expectation(teacher="maker", temperatures=(2.0,), truncation=SPEC.truncation, data=manifest.data)
    assert len(LogitCache.open(tmp_path, agreed)) == 3
    with pytest.raises(LogitsError) as refused:
        LogitCache.open(
            tmp_path,
            Expectation(
                teacher="another", revision=None, weights="00ff", temperatures=(4.0,), vocabulary=999
            ),
        )
    message = str(refused.value)
    for part in ("teacher", "'another'", "'maker'", "revision", "None", "'main'", "[4.0]", "999", "1000"):
        assert part in message
    assert "weights" not in message
    for field, value in {
        "weights": "x",
        "tokenizer": "x",
        "template": "x",
        "truncation": FixedK(k=3),
        "tail_samples": 5,
        "seed": 9,
        "dtype": "bfloat16",
        "source": "server",
        "support": 20,
        "data": "x",
    }.items():
        with pytest.raises(LogitsError, match=f"{field}: the cache has"):
            LogitCache.open(tmp_path, Expectation.model_validate({field: value}))


def test_what_cannot_be_served_is_refused_with_what_can(tmp_path: Path):
    spec = SPEC.model_copy(update={"tail_samples": 0})
    fill(tmp_path, sequences(2, spec), spec)
    finish(tmp_path)
    cache = LogitCache.open(tmp_path)
    name = next(iter(cache))
    with pytest.raises(LogitsError, match=r"temperature 3: it holds 1, 2"):
        cache.targets([name], 3.0)
    with pytest.raises(LogitsError, match=r"tail rule sampled[\s\S]*bucket, renormalise, drop"):
        cache.require(2.0, "sampled")
    cache.require(2.0, "drop")
    with pytest.raises(LogitsError, match="does not hold sequence"):
        cache.targets(["f" * 32], 1.0)


def test_a_server_that_hides_the_tail_serves_temperature_one_only():
    with pytest.raises(ValidationError, match="temperature 1 only"):
        CaptureSpec(teacher="t", weights="w", tokenizer="k", vocabulary=100, source="server", support=20)
    with pytest.raises(ValidationError, match="nothing can be sampled"):
        CaptureSpec(
            teacher="t",
            weights="w",
            tokenizer="k",
            vocabulary=100,
            temperatures=(1.0,),
            support=20,
            tail_samples=1,
        )
    whole = CaptureSpec(teacher="t", weights="w", tokenizer="k", vocabulary=100, support=100)
    assert whole.temperatures == (1.0, 2.0)


def test_another_spec_in_the_same_directory_is_refused(tmp_path: Path):
    fill(tmp_path, sequences(2))
    with pytest.raises(LogitsError, match="weights: the cache has '00ff', expected '0000'"):
        LogitWriter.open(tmp_path, SPEC.model_copy(update={"weights": "0000"}))
    with pytest.raises(LogitsError, match=r"captures temperatures \[1.0, 2.0\], not \[1.0\]"):
        LogitWriter.open(tmp_path, SPEC.model_copy(update={"temperatures": (1.0,)}))


def test_an_unfinished_capture_is_no_cache(tmp_path: Path):
    fill(tmp_path, sequences(2))
    with pytest.raises(LogitsError, match=r"1 shards and no manifest.json"):
        LogitCache.open(tmp_path)
    with pytest.raises(LogitsError, match="lacks 1 of 2 sequences"):
        finish(tmp_path, expected_digests=["0" * 32, digest(*sequences(1)[0][:2])])
    with pytest.raises(LogitsError, match="holds no capture"):
        finish(tmp_path / "elsewhere")
    manifest = finish(tmp_path)
    assert finish(tmp_path) == manifest
    tokens, prompt, rows = sequences(3)[2]
    with pytest.raises(LogitsError, match="is finished and does not hold this sequence"):
        LogitWriter.open(tmp_path, SPEC).add(tokens, prompt, rows)


def test_a_manifest_of_another_version_is_refused(tmp_path: Path):
    fill(tmp_path, sequences(2))
    finish(tmp_path)
    path = tmp_path / "manifest.json"
    write_object(path, read_object(path) | {"version": 2})
    with pytest.raises(LogitsError, match=r"manifest\.json is not a CacheManifest: version"):
        LogitCache.open(tmp_path)


def test_rows_that_do_not_fit_are_refused(tmp_path: Path):
    tokens, prompt, rows = sequences(4)[3]
    short = next(rows.split([len(rows) - 1]))
    beyond = CapturedRows(
        rows.counts_N, rows.ids_E + 1000, rows.log_probabilities_E, rows.log_tails_NJ, rows.samples_NJM
    )
    none = CapturedRows(
        rows.counts_N * 0, rows.ids_E[:0], rows.log_probabilities_E[:0], rows.log_tails_NJ, rows.samples_NJM
    )
    never = CapturedRows(
        rows.counts_N, rows.ids_E, rows.log_probabilities_E * np.nan, rows.log_tails_NJ, rows.samples_NJM
    )
    one = CapturedRows(
        rows.counts_N, rows.ids_E, rows.log_probabilities_E, rows.log_tails_NJ[:, :1], rows.samples_NJM
    )
    with LogitWriter.open(tmp_path, SPEC) as writer:
        for wrong, why in [(short, "rows:"), (none, "1 to 256"), (never, "not finite"), (one, "tail masses")]:
            with pytest.raises(LogitsError, match=why):
                writer.add(tokens, prompt, wrong)
        with pytest.raises(VocabularyError, match="outside the vocabulary of 1000"):
            writer.add(tokens, prompt, beyond)
        with pytest.raises(VocabularyError, match="token id -1"):
            writer.add([-1, *tokens[1:]], prompt, rows)
        assert writer.stored == frozenset()


@pytest.mark.parametrize("place", ["head", "index", "record", "end"])
def test_damage_is_found_and_named_and_mended(tmp_path: Path, place: str):
    items = sequences(20)
    fill(tmp_path, items)
    finish(tmp_path)
    whole = contents(tmp_path)
    path = tmp_path / "part-000-00001.logits"
    data = bytearray(path.read_bytes())
    if place == "end":
        del data[-1]
    else:
        data[{"head": 12, "index": 30, "record": len(data) - 5}[place]] ^= 1
    path.write_bytes(data)
    with pytest.raises(LogitsError, match=r"part-000-00001\.logits"):
        LogitCache.open(tmp_path).verify()
    path.unlink()
    with pytest.raises(LogitsError, match=r"part-000-00001\.logits is missing"):
        LogitCache.open(tmp_path)
    (tmp_path / "manifest.json").unlink()
    fill(tmp_path, items)
    finish(tmp_path)
    assert contents(tmp_path) == whole


def test_a_shard_of_another_capture_is_refused(tmp_path: Path):
    for name, spec in {"one": SPEC, "two": SPEC.model_copy(update={"seed": 5})}.items():
        fill(tmp_path / name, sequences(4), spec)
        finish(tmp_path / name)
    shard = "part-000-00000.logits"
    (tmp_path / "one" / shard).write_bytes((tmp_path / "two" / shard).read_bytes())
    with pytest.raises(LogitsError, match="belongs to another capture"):
        LogitCache.open(tmp_path / "one")
    fill(tmp_path / "three", sequences(4, seed=1))
    (tmp_path / "one" / shard).write_bytes((tmp_path / "three" / shard).read_bytes())
    with pytest.raises(LogitsError, match="not the file that the manifest names"):
        LogitCache.open(tmp_path / "one")


def test_reading_needs_no_torch():
    code = "import sys, codestill.logits, codestill.logits.distillkit; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
