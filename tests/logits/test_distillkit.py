"""DistillKit's format, encoded here from its description, value by value and bit by bit."""

import itertools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codestill.errors import LogitsError
from codestill.logits import CaptureSpec, FixedK, LogitCache, LogitWriter, digest, finish
from codestill.logits.distillkit import Codec, decode_ids, decode_values, import_rows

VOCABULARY, K, TOKENS = 1000, 12, 6


def in_bits(numbers: list[int], bits: int) -> list[int]:
    text = "".join(f"{number:0{bits}b}" for number in numbers)
    text += "0" * (-len(text) % 8)
    return [int(text[start : start + 8], 2) for start in range(0, len(text), 8)]


def as_float(value: float, dtype: str) -> list[int]:
    if dtype == "bfloat16":
        return list(struct.pack("<f", value)[2:])  # cut, not rounded: an encoder may
    return list(struct.pack({"float16": "<e", "float32": "<f", "float64": "<d"}[dtype], value))


def encoded(values: list[float], codec: Codec) -> list[int]:
    """The bytes of one position."""
    if codec.delta_encoding:
        values = [values[0], *(after - before for before, after in itertools.pairwise(values))]
    data = [byte for value in values[: codec.exact_k] for byte in as_float(value, codec.exact_dtype)]
    rest = np.array(values[codec.exact_k :])
    if codec.polynomial_terms:
        t = np.linspace(0, 1, len(rest)) if codec.normalize_t else np.arange(len(rest), dtype=float)
        functions = {"sqrt": np.sqrt, "exp": np.exp}
        terms = [t**one if isinstance(one, int) else functions[one](t) for one in codec.polynomial_terms]
        matrix = np.stack(terms, axis=1)
        coefficients = np.linalg.lstsq(matrix, rest, rcond=None)[0]
        data += [byte for value in coefficients for byte in as_float(value, codec.term_dtype)]
        rest = rest - matrix @ coefficients
    start = 0
    for one in codec.residual_bins:
        part = rest[start : start + one.num_elements]
        start += one.num_elements
        half = 2 ** (one.element_bits - 1)
        scale = max(np.abs(part).max(), 1e-9) / (1 if one.element_bits == 1 else half)
        if one.element_bits == 1:
            fields = [int(value > 0) for value in part]
        else:
            fields = [int(np.clip(np.rint(value / scale), -half, half - 1)) + half for value in part]
        data += as_float(float(scale), one.scale_dtype) + in_bits(fields, one.element_bits)
    return data


def capture(codec: Codec) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """A row, with the ids and log-probabilities that it stands for."""
    random = np.random.default_rng(0)
    logits = np.sort(random.standard_normal((TOKENS - 1, VOCABULARY)) * 3, axis=1)[:, ::-1]
    log_p = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))[:, :K]
    ids = np.stack([random.permutation(VOCABULARY)[:K] for _ in log_p])
    row = {
        "input_ids": random.integers(0, VOCABULARY, TOKENS).tolist(),
        "compressed_logprobs": [encoded(values.tolist(), codec) for values in log_p],
        "bytepacked_indices": [in_bits(one.tolist(), 10) for one in ids],
    }
    return row, ids, log_p


def codec(**fields: Any) -> Codec:
    return Codec.model_validate({"d": VOCABULARY, "k": K, "exact_k": 0, "residual_bins": []} | fields)


def bins(*sizes: tuple[int, int]) -> list[dict[str, Any]]:
    return [{"scale_dtype": "float32", "element_bits": b, "num_elements": n} for b, n in sizes]


EXACT = codec(exact_k=K)
CODECS = {
    "exact": (EXACT, 1e-5),
    "exact float16": (codec(exact_k=K, exact_dtype="float16", delta_encoding=False), 0.01),
    "bfloat16, polynomial": (
        codec(
            exact_k=4,
            exact_dtype="bfloat16",
            polynomial_terms=[0, 1, 2, 3, 4, "sqrt"],
            delta_encoding=False,
            normalize_t=True,
        ),
        0.1,
    ),
    "root and exponential": (
        codec(exact_k=2, polynomial_terms=[0, "sqrt", "exp"], normalize_t=True, delta_encoding=False),
        0.3,
    ),
    "polynomial and residual": (
        codec(exact_k=1, polynomial_terms=[0, 1, "sqrt"], residual_bins=bins((9, 11)), delta_encoding=False),
        0.01,
    ),
    "bins": (codec(exact_k=2, residual_bins=bins((12, 4), (11, 3), (10, 3))), 0.03),
    "one bit": (
        codec(exact_k=3, polynomial_terms=[0, 1, 2], residual_bins=bins((1, 9)), delta_encoding=False),
        0.2,
    ),
}


@pytest.mark.parametrize("name", CODECS)
def test_rows_are_decoded(name: str):
    one, tolerance = CODECS[name]
    row, ids, log_p = capture(one)
    found_ids = decode_ids(np.array(row["bytepacked_indices"], dtype=np.uint8), one)
    np.testing.assert_array_equal(found_ids, ids)
    found = decode_values(np.array(row["compressed_logprobs"], dtype=np.uint8), one)
    np.testing.assert_allclose(found, log_p, atol=tolerance)


SPEC = CaptureSpec(
    teacher="theirs",
    weights="w",
    tokenizer="t",
    vocabulary=VOCABULARY,
    temperatures=(1.0,),
    truncation=FixedK(k=K),
    source="server",
    support=K,
)


@pytest.mark.parametrize("prompt_length", [0, 3])
def test_rows_become_a_cache(tmp_path: Path, prompt_length: int):
    row, ids, log_p = capture(EXACT)
    with LogitWriter.open(tmp_path, SPEC) as writer:
        assert import_rows([(row, prompt_length)] * 2, EXACT, SPEC, writer) == 2
    assert finish(tmp_path).sequences == 1
    cache = LogitCache.open(tmp_path)
    rows = cache.targets([digest(row["input_ids"], prompt_length)], 1.0)
    first = max(prompt_length, 1) - 1  # position t predicts token t + 1
    np.testing.assert_array_equal(rows.ids_NK, ids[first:])
    np.testing.assert_allclose(np.exp(rows.log_probabilities_NK), np.exp(log_p[first:]), atol=0.005)
    np.testing.assert_allclose(np.exp(rows.log_tail_N), 1 - np.exp(log_p[first:]).sum(axis=1), atol=0.001)


def test_what_is_not_that_format_is_refused(tmp_path: Path):
    row, *_ = capture(EXACT)
    older = {"input_ids": [1], "packed_indices": [], "exact_values": [], "coeffs": []}
    short = row | {"bytepacked_indices": row["bytepacked_indices"][:2]}
    ragged = row | {"compressed_logprobs": [*row["compressed_logprobs"][:-1], [0]]}
    with LogitWriter.open(tmp_path, SPEC) as writer:
        for wrong, why in [(older, "no bytepacked"), (short, "fewer than 5"), (ragged, "1 to 48 bytes")]:
            with pytest.raises(LogitsError, match=why):
                import_rows([(wrong, 1)], EXACT, SPEC, writer)
        with pytest.raises(LogitsError, match="48 bytes per position, and the codec makes 24"):
            import_rows([(row, 1)], codec(exact_k=K, exact_dtype="float16"), SPEC, writer)
        with pytest.raises(LogitsError, match="bytepacked_indices has 15 bytes"):
            import_rows([(row, 1)], codec(exact_k=K, d=5000), SPEC, writer)
    with pytest.raises(ValueError, match="exceed k"):
        codec(exact_k=5, residual_bins=bins((8, 8)))
