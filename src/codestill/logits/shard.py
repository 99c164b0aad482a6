"""A shard: a head, an index, and one record of bytes per sequence. Nothing here touches the disk.

    head    24 bytes: magic "CSLOGIT" and version 1, fingerprint of the capture's spec, vocabulary (uint32),
            number of sequences (uint32)
    index   32 bytes per sequence: digest, length, prompt length, entries, CRC-32 of the record
    check   CRC-32 of head and index (uint32)
    records in the index's order

All integers are little-endian. docs/logit-cache.md has the record's layout.
"""

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from codestill.errors import LogitsError, VocabularyError
from codestill.files.serialize import fingerprint
from codestill.logits import packing
from codestill.logits.manifest import CaptureSpec
from codestill.logits.rows import CapturedRows, SparseRows
from codestill.logits.truncation import MAX_K

MAGIC = b"CSLOGIT\x01"
HEAD = np.dtype([("magic", "V8"), ("spec", "V8"), ("vocabulary", "<u4"), ("sequences", "<u4")])
INDEX = np.dtype(
    [("digest", "V16"), ("length", "<u4"), ("prompt_length", "<u4"), ("entries", "<u4"), ("crc", "<u4")]
)


def digest(tokens: Sequence[int], prompt_length: int) -> str:
    """32 hex digits that name a sequence: of SHA-256 over prompt length and token ids, 8 bytes each."""
    numbers = np.asarray([prompt_length, *tokens], dtype="<i8")
    return hashlib.sha256(numbers.tobytes()).hexdigest()[:32]


def spec_mark(spec: CaptureSpec) -> bytes:
    """8 bytes that tie a shard to the capture that it belongs to."""
    plain = {name: getattr(spec, name) for name in CaptureSpec.model_fields}
    return bytes.fromhex(fingerprint(CaptureSpec(**plain)))


class Sizes(NamedTuple):
    """Where the parts of a record end, in bytes."""

    tokens: int
    counts: int
    tails: int
    gaps: int
    ids: int
    samples: int


@dataclass(frozen=True)
class Layout:
    """What the spec fixes of a record."""

    vocabulary: int
    temperatures: tuple[float, ...]
    tail_samples: int

    @classmethod
    def of(cls, spec: CaptureSpec) -> "Layout":
        return cls(spec.vocabulary, spec.temperatures, spec.tail_samples)

    @property
    def bits(self) -> int:
        return packing.bits_for(self.vocabulary)

    def ends(self, length: int, rows: int, entries: int) -> Sizes:
        """Ends of a record's parts, for a sequence of ``length`` tokens of which ``rows`` are scored."""
        temperatures = len(self.temperatures)
        tokens = packing.packed_size(length, self.bits)
        counts = tokens + rows
        tails = counts + 2 * rows * temperatures
        gaps = tails + entries - rows
        ids = gaps + packing.packed_size(entries, self.bits)
        sampled = rows * temperatures * self.tail_samples
        return Sizes(tokens, counts, tails, gaps, ids, ids + packing.packed_size(sampled, self.bits))

    def encode(self, tokens: Sequence[int], prompt_length: int, rows: CapturedRows) -> bytes:
        """The record of one sequence.

        Raises LogitsError when rows and tokens do not belong together, VocabularyError for an id beyond the
        vocabulary.
        """
        ids_L = np.asarray(tokens, dtype=np.int64)
        self._check(ids_L, prompt_length, rows)
        width = int(rows.counts_N.max(initial=1))
        kept_NK = np.arange(width) < rows.counts_N[:, None]
        log_p_NK = np.full(kept_NK.shape, -np.inf)
        log_p_NK[kept_NK] = rows.log_probabilities_E
        gaps = packing.encode_gaps(log_p_NK)[kept_NK[:, 1:]]
        return b"".join(
            (
                packing.pack(ids_L, self.bits),
                (rows.counts_N - 1).astype(np.uint8).tobytes(),
                packing.encode_tails(rows.log_tails_NJ).astype("<u2").tobytes(),
                gaps.tobytes(),
                packing.pack(rows.ids_E, self.bits),
                packing.pack(rows.samples_NJM, self.bits),
            )
        )

    def _check(self, ids_L: NDArray[np.int64], prompt_length: int, rows: CapturedRows) -> None:
        scored = scored_positions(len(ids_L), prompt_length)
        shapes = {
            "rows": (len(rows), scored),
            "entries": (len(rows.ids_E), int(rows.counts_N.sum())),
            "log-probabilities": (len(rows.log_probabilities_E), len(rows.ids_E)),
            "tail masses": (rows.log_tails_NJ.shape, (scored, len(self.temperatures))),
            "tail samples": (rows.samples_NJM.shape, (scored, len(self.temperatures), self.tail_samples)),
        }
        wrong = [f"{name}: {found}, not {due}" for name, (found, due) in shapes.items() if found != due]
        if scored and not (rows.counts_N.min() >= 1 and rows.counts_N.max() <= MAX_K):
            wrong.append(f"a row keeps other than 1 to {MAX_K} tokens")
        if not np.isfinite(rows.log_probabilities_E).all() or np.isnan(rows.log_tails_NJ).any():
            wrong.append("a log-probability is not finite")
        if wrong:
            raise LogitsError(
                f"the rows do not fit a sequence of {len(ids_L)} tokens, {scored} of them scored: "
                + "; ".join(wrong),
                next_step="Give one row per token after the prompt, selected with the cache's own spec.",
            )
        for ids in (ids_L, rows.ids_E, rows.samples_NJM):
            if ids.size and not (ids.min() >= 0 and ids.max() < self.vocabulary):
                raise VocabularyError(
                    f"token id {ids.max() if ids.min() >= 0 else ids.min()} is outside the vocabulary of "
                    f"{self.vocabulary}",
                    next_step="Give the number of token ids that teacher and student share.",
                )

    def decode(
        self, records: Sequence[NDArray[np.uint8]], index: NDArray[np.void], temperature: float
    ) -> SparseRows:
        """The rows of some records, one sequence after another, at a captured temperature."""
        lengths = index["length"].tolist()
        rows = [
            scored_positions(*pair) for pair in zip(lengths, index["prompt_length"].tolist(), strict=True)
        ]
        entries = index["entries"].tolist()
        ends = [self.ends(*sizes) for sizes in zip(lengths, rows, entries, strict=True)]
        pairs = list(zip(records, ends, strict=True))
        place = self.temperatures.index(temperature)

        counts_N = _joined([r[e.tokens : e.counts] for r, e in pairs]).astype(np.int64) + 1
        tails = _joined([r[e.counts : e.tails] for r, e in pairs])
        log_tail_N, log_kept_N = packing.decode_tails(
            tails.view("<u2").reshape(-1, len(self.temperatures))[:, place]
        )
        # Depths below each row's first entry: steps summed over all rows, less the sum at the row's start.
        firsts_N = np.cumsum(counts_N) - counts_N
        steps_E = np.zeros(int(counts_N.sum()), dtype=np.int64)
        later_E = np.ones(len(steps_E), dtype=bool)
        later_E[firsts_N] = False
        steps_E[later_E] = packing.GAP_UNITS[_joined([r[e.tails : e.gaps] for r, e in pairs])]
        depth_E = np.cumsum(steps_E)
        depth_E -= np.repeat(depth_E[firsts_N], counts_N)
        log_p_E = depth_E * (-1.0 / (packing.GAP_UNITS_PER_NAT * temperature))
        if len(log_p_E):
            top_N = log_kept_N - np.log(np.add.reduceat(np.exp(log_p_E), firsts_N))
            log_p_E += np.repeat(top_N, counts_N)
        ids_E = self._fields([r[e.gaps : e.ids] for r, e in pairs], entries)

        width = int(counts_N.max(initial=1))
        cells_E = np.arange(len(steps_E)) + np.repeat(np.arange(len(counts_N)) * width - firsts_N, counts_N)
        ids_NK = np.zeros((len(counts_N), width), dtype=np.int64)
        log_p_NK = np.full((len(counts_N), width), -np.inf, dtype=np.float32)
        ids_NK.reshape(-1)[cells_E] = ids_E
        log_p_NK.reshape(-1)[cells_E] = log_p_E
        return SparseRows(
            temperature,
            ids_NK,
            log_p_NK,
            log_tail_N.astype(np.float32),
            self._samples(pairs, rows, place) if self.tail_samples else None,
        )

    def tokens(self, record: NDArray[np.uint8], length: int) -> NDArray[np.int64]:
        """The token ids of one record."""
        return self._fields([record[: packing.packed_size(length, self.bits)]], [length]).astype(np.int64)

    def _samples(
        self, pairs: list[tuple[NDArray[np.uint8], Sizes]], rows: list[int], place: int
    ) -> NDArray[np.int64]:
        shape = (-1, len(self.temperatures), self.tail_samples)
        counts = [n * len(self.temperatures) * self.tail_samples for n in rows]
        samples = self._fields([r[e.ids : e.samples] for r, e in pairs], counts)
        return samples.reshape(shape)[:, place].astype(np.int64)

    def _fields(self, parts: list[NDArray[np.uint8]], counts: list[int]) -> NDArray[np.uint32]:
        """Bit fields of several byte strings, each of which begins on a byte."""
        sizes = np.array([len(part) for part in parts], dtype=np.int64)
        fields = np.array(counts, dtype=np.int64)
        starts = (np.cumsum(sizes) - sizes) * 8 - (np.cumsum(fields) - fields) * self.bits
        bits_E = np.arange(int(fields.sum())) * self.bits + np.repeat(starts, fields)
        return packing.unpack(_joined([*parts, np.zeros(3, dtype=np.uint8)]), bits_E, self.bits)


def scored_positions(length: int, prompt_length: int) -> int:
    """How many tokens of a sequence are predicted: all after the prompt, but never the first."""
    return max(length - max(prompt_length, 1), 0)


def roundtrip(rows: CapturedRows, spec: CaptureSpec, temperature: float) -> SparseRows:
    """What the finished cache will return for these rows: to measure its error before that."""
    layout = Layout.of(spec)
    tokens = [0] * (len(rows) + 1)
    record = np.frombuffer(layout.encode(tokens, 1, rows), dtype=np.uint8)
    entry = np.array([(b"", len(tokens), 1, len(rows.ids_E), 0)], dtype=INDEX)
    return layout.decode([record], entry, temperature)


def assemble(spec: CaptureSpec, index: list[tuple[str, int, int, int]], records: list[bytes]) -> bytes:
    """The bytes of a shard; ``index`` has digest, length, prompt length and entries of each record."""
    head = np.array([(MAGIC, spec_mark(spec), spec.vocabulary, len(records))], dtype=HEAD)
    table = np.array(
        [
            (bytes.fromhex(name), *numbers, zlib.crc32(record))
            for (name, *numbers), record in zip(index, records, strict=True)
        ],
        dtype=INDEX,
    )
    front = head.tobytes() + table.tobytes()
    return b"".join([front, np.uint32(zlib.crc32(front)).astype("<u4").tobytes(), *records])


def _joined(parts: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint8)
