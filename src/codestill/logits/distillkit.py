"""Import of DistillKit's offline cache (arcee-ai/DistillKit 1.0, commit a61c2e7): a decoder of our own.

A row of its Parquet files has three columns: ``input_ids``, ``compressed_logprobs`` and
``bytepacked_indices``; of the last two, entry t belongs to the position that predicts token t + 1. The
``compression_config.yaml`` beside the files is needed to read them. Per position:

    bytepacked_indices    k token ids of ceil(log2 d) bits, highest bit first, zero-padded to a byte
    compressed_logprobs   the first exact_k values; polynomial coefficients, if there are terms; then per
                          residual bin a scale and its elements, as unsigned fields of element_bits, highest
                          bit first, zero-padded to a byte, above their lowest value -2^(element_bits - 1)
                          (one bit: 0 is minus the scale, 1 is plus the scale)

Numbers are little-endian floats of the dtypes that the config names. The values after the first exact_k are
polynomial plus residual; under ``delta_encoding`` all are differences from the one before. The older format
(``packed_indices``, ``exact_values``, ``coeffs``) is not supported.

DistillKit stores neither prompt boundaries nor the tail's mass: the caller gives the boundaries, and the mass
is one minus the sum, at temperature 1.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from codestill.errors import LogitsError
from codestill.logits.manifest import CaptureSpec
from codestill.logits.rows import rows_from_top
from codestill.logits.writer import LogitWriter
from codestill.types import Record, Settings

FloatType = Literal["float16", "bfloat16", "float32", "float64"]
_BYTES: dict[FloatType, int] = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


class ResidualBin(Record):
    """Some consecutive residuals that share a scale."""

    scale_dtype: FloatType
    element_bits: int = Field(ge=1, le=32)
    num_elements: int = Field(ge=1)


class Codec(Settings):
    """``compression_config.yaml``, or ``logprob_compressor`` of a DistillKit training config."""

    d: int = Field(ge=2)
    """Size of the vocabulary."""
    k: int = Field(ge=1)
    """Entries per position."""
    exact_k: int = Field(ge=0)
    """Leading entries stored as floats."""
    exact_dtype: FloatType = "float32"
    polynomial_terms: tuple[int | Literal["sqrt", "exp"], ...] | None = None
    """Powers of the entry's number after the exact ones, its root, or its exponential."""
    term_dtype: FloatType = "float32"
    residual_bins: tuple[ResidualBin, ...]
    delta_encoding: bool = True
    error_diffusion: bool = False
    """Concerns only the encoder."""
    normalize_t: bool = False
    """Entries are numbered from 0 to 1 in equal steps, not 0, 1, 2, ..."""

    @model_validator(mode="after")
    def _fits(self) -> "Codec":
        if self.exact_k + sum(residual.num_elements for residual in self.residual_bins) > self.k:
            raise ValueError("exact_k and the residual bins together exceed k")
        return self

    @property
    def index_bits(self) -> int:
        """Bits of a token id."""
        return (self.d - 1).bit_length()

    @property
    def value_bytes(self) -> int:
        """Bytes of one position's values."""
        return (
            self.exact_k * _BYTES[self.exact_dtype]
            + len(self.polynomial_terms or ()) * _BYTES[self.term_dtype]
            + sum(
                _BYTES[residual.scale_dtype] + (residual.num_elements * residual.element_bits + 7) // 8
                for residual in self.residual_bins
            )
        )


def decode_ids(data_NB: NDArray[np.uint8], codec: Codec) -> NDArray[np.int64]:
    """Token ids [N, k]. Raises LogitsError where rows are too short for the codec."""
    _require_width(data_NB, (codec.k * codec.index_bits + 7) // 8, "bytepacked_indices")
    return _fields(data_NB, codec.index_bits, codec.k)


def decode_values(data_NB: NDArray[np.uint8], codec: Codec) -> NDArray[np.float64]:
    """Log-probabilities [N, k] as DistillKit stored them, not necessarily descending after a polynomial.

    Raises LogitsError where rows are not as long as the codec says.
    """
    _require_width(data_NB, codec.value_bytes, "compressed_logprobs")
    start = 0

    def take(size: int) -> NDArray[np.uint8]:
        nonlocal start
        start += size
        return np.ascontiguousarray(data_NB[:, start - size : start])

    exact = _floats(take(codec.exact_k * _BYTES[codec.exact_dtype]), codec.exact_dtype)
    others = np.zeros((len(data_NB), codec.k - codec.exact_k))
    if codec.polynomial_terms:
        terms = codec.polynomial_terms
        coefficients = _floats(take(len(terms) * _BYTES[codec.term_dtype]), codec.term_dtype)
        others += coefficients @ _polynomial(codec, others.shape[1])
    place = 0
    for residual in codec.residual_bins:
        scale = _floats(take(_BYTES[residual.scale_dtype]), residual.scale_dtype)
        packed = take((residual.num_elements * residual.element_bits + 7) // 8)
        fields = _fields(packed, residual.element_bits, residual.num_elements)
        levels = 2 * fields - 1 if residual.element_bits == 1 else fields - 2 ** (residual.element_bits - 1)
        others[:, place : place + residual.num_elements] += levels * scale
        place += residual.num_elements
    values = np.hstack([exact, others])
    return values.cumsum(axis=1) if codec.delta_encoding else values


def import_rows(
    table: Iterable[tuple[Mapping[str, Any], int]], codec: Codec, spec: CaptureSpec, writer: LogitWriter
) -> int:
    """Write DistillKit's rows into a cache of ours; ``table`` gives each with its prompt length.

    ``spec`` describes them: source "server", support ``codec.k``, temperatures (1.0,). A sequence
    that is stored already is not stored twice. Returns the number of rows.

    Raises LogitsError for a row of another format, with too few positions, or that the codec does not fit.
    """
    seen = 0
    for row, prompt_length in table:
        missing = {"input_ids", "compressed_logprobs", "bytepacked_indices"} - row.keys()
        if missing:
            raise LogitsError(
                f"row {seen} has no {' and no '.join(sorted(missing))}",
                next_step="Only DistillKit's current format is supported; decode older caches with it.",
            )
        tokens = [int(token) for token in row["input_ids"]]
        first, last = max(prompt_length, 1) - 1, len(tokens) - 1
        if min(len(row["compressed_logprobs"]), len(row["bytepacked_indices"])) < last:
            raise LogitsError(
                f"row {seen} has {len(tokens)} tokens and values for fewer than {last} positions",
                next_step="Give rows as captured, with all columns of the same length.",
            )
        values = decode_values(_matrix(row["compressed_logprobs"][first:last]), codec)
        ids = decode_ids(_matrix(row["bytepacked_indices"][first:last]), codec)
        writer.add(tokens, prompt_length, rows_from_top(ids, values, spec.truncation))
        seen += 1
    return seen


def _matrix(rows: Sequence[Sequence[int]]) -> NDArray[np.uint8]:
    widths = {len(row) for row in rows}
    if len(widths) > 1:
        raise LogitsError(
            f"positions of one row have {min(widths)} to {max(widths)} bytes",
            next_step="All positions of DistillKit's format have the same size; the file is damaged.",
        )
    return np.array([list(row) for row in rows], dtype=np.uint8).reshape(len(rows), -1)


def _require_width(data_NB: NDArray[np.uint8], width: int, column: str) -> None:
    if len(data_NB) and data_NB.shape[1] != width:
        raise LogitsError(
            f"{column} has {data_NB.shape[1]} bytes per position, and the codec makes {width}",
            next_step="Give the compression_config.yaml that the rows were captured with.",
        )


def _fields(data_NB: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.int64]:
    """Unsigned fields [N, count], highest bit first."""
    flat = np.unpackbits(data_NB, axis=1)[:, : count * bits].astype(np.int64)
    weights = 1 << np.arange(bits - 1, -1, -1)
    return flat.reshape(len(data_NB), count, bits) @ weights


def _floats(data_NB: NDArray[np.uint8], dtype: FloatType) -> NDArray[np.float64]:
    if dtype == "bfloat16":  # the upper half of a float32
        wide = data_NB.view("<u2").astype(np.uint32) << 16
        return wide.view(np.float32).astype(np.float64)
    return data_NB.view(np.dtype(dtype).newbyteorder("<")).astype(np.float64)


def _polynomial(codec: Codec, count: int) -> NDArray[np.float64]:
    """Values of each term at each entry, [terms, count]."""
    t = np.linspace(0, 1, count) if codec.normalize_t else np.arange(count, dtype=np.float64)
    named = {"sqrt": np.sqrt, "exp": np.exp}
    return np.stack(
        [t**term if isinstance(term, int) else named[term](t) for term in codec.polynomial_terms or ()]
    )
