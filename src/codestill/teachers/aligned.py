"""Cached logits of a teacher whose tokenizer is not the student's.

Both read the same text. Where a token of the student's and one of the teacher's are the same bytes at the
same place, they answer the same question, and the student learns the teacher's distribution in ids of its
own. At every other position it gets one without an event, which costs nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from codestill.errors import LogitsError, VocabularyError
from codestill.files.serialize import fingerprint
from codestill.logits import LogitCache, SparseRows, digest
from codestill.logits.alignment import ABSENT, Alignment, align, reindex, unaligned
from codestill.teachers.cached import CachedLogits, sequence_names, sparse_targets

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from codestill.losses.targets import SparseTargets
    from codestill.models.codec import TextCodec

POOR = 0.4
"""Of fewer positions than this share the teacher's distribution is hardly worth its capture."""
_AT_ONCE = 64


class Row(Protocol):
    """Tokens of a prompt, a completion and its end, as training and capture have them."""

    @property
    def tokens(self) -> Sequence[int]: ...
    @property
    def first_scored(self) -> int: ...


class TokenizerPair:
    """The tokenizers of a student and a teacher, each in the form in which it reads the same rows."""

    def __init__(self, student: "TextCodec", teacher: "TextCodec") -> None:
        """Raises VocabularyError for a tokenizer that does not say which bytes its tokens are."""
        from codestill.models.reading import reading
        from codestill.models.token_bytes import token_bytes

        self.student = student
        self.reader, self.ends_alike = reading(teacher, student)
        self._student_bytes, self._teacher_bytes = token_bytes(student), token_bytes(self.reader)

    @cached_property
    def student_ids(self) -> NDArray[np.int64]:
        """The student's id for every id of the teacher's: the one with the same bytes, for its end the
        student's end, else ABSENT."""
        student, teacher = self.student.tokenizer.get_vocab(), self.reader.tokenizer.get_vocab()
        size = max(teacher.values()) + 1
        if student == teacher and self.ends_alike and self.student.end == self.reader.end:
            return np.arange(size)
        student_ids = np.full(size, ABSENT, dtype=np.int64)
        own = {data: id for id, data in self._student_bytes.items()}
        for data, id in {data: id for id, data in self._teacher_bytes.items()}.items():
            student_ids[id] = own.get(data, ABSENT)
        if self.ends_alike:
            student_ids[self.reader.end] = self.student.end
        return student_ids

    @property
    def fingerprint(self) -> str:
        """16 hex digits for the map of ids."""
        return fingerprint(self.student_ids.tolist())

    def align(self, ours: Row, theirs: Row) -> Alignment:
        """Of the scored tokens of one row; nothing is aligned where the two texts differ, because one
        tokenizer normalises characters, say."""
        student = _scored(ours, self._student_bytes)
        teacher = _scored(theirs, self._teacher_bytes)
        if student is None or teacher is None or b"".join(student) != b"".join(teacher):
            return self.unaligned(ours)
        end = 1  # behind the text, as wide in both
        found = align([*map(len, student), end], [*map(len, teacher), end])
        if not self.ends_alike:
            found.rows_N[-1] = ABSENT
        return found

    @staticmethod
    def unaligned(ours: Row) -> Alignment:
        """Of a row that the teacher does not teach."""
        return unaligned(len(ours.tokens) - ours.first_scored)


def _name(row: Row) -> str:
    return digest(row.tokens, row.first_scored)


def _scored(row: Row, bytes_of: Mapping[int, bytes]) -> list[bytes] | None:
    """The bytes of every scored token but the end; None where one has none."""
    found = [bytes_of.get(token) for token in row.tokens[row.first_scored : -1]]
    return None if None in found else [data for data in found if data is not None]


class Place(NamedTuple):
    """Where the distributions of one row of the student's are."""

    name: str
    """The teacher's sequence in the cache."""
    scored: int
    """Rows that it has there."""
    alignment: Alignment
    """Of the student's scored tokens."""


@dataclass(frozen=True)
class Agreement:
    """How much of a teacher reaches a student with another tokenizer."""

    tokens: int
    """The student's scored tokens, ends included."""
    boundaries: float
    """Share of them that end where a token of the teacher's ends."""
    one_to_one: float
    """Share of them that are a token of the teacher's: these get its distribution."""
    untaught: int
    """Rows without a single distribution: texts that the tokenizers read differently, or that the cache does
    not hold."""
    lost: Mapping[float, float] = field(default_factory=dict)
    """Temperature -> mean probability, in those distributions, of listed tokens that the student does not
    have; it joins the tail's. Empty where there is no cache to tell."""

    @classmethod
    def of(cls, alignments: Sequence[Alignment], lost: Mapping[float, float] = MappingProxyType({})) -> Self:
        """Of all rows together; ``lost`` are sums over their distributions."""
        tokens = max(sum(len(found.rows_N) for found in alignments), 1)
        taught = [int((found.rows_N != ABSENT).sum()) for found in alignments]
        return cls(
            tokens,
            sum(int(found.shared_N.sum()) for found in alignments) / tokens,
            sum(taught) / tokens,
            taught.count(0),
            {temperature: total / max(sum(taught), 1) for temperature, total in lost.items()},
        )

    def __str__(self) -> str:
        parts = [
            f"of {self.tokens:,} tokens {self.boundaries:.1%} end where one of the teacher's ends, and "
            f"{self.one_to_one:.1%} are one of its tokens and get its distribution"
        ]
        if self.lost:
            shares = ", ".join(
                f"{share:.1%} at T={temperature:g}" for temperature, share in self.lost.items()
            )
            parts.append(f"of their probability tokens that the student lacks have {shares}")
        if self.untaught:
            parts.append(f"{self.untaught} rows get none of the teacher's")
        return "; ".join(parts)

    @property
    def numbers(self) -> dict[str, float]:
        """As a run's accounting has them."""
        return {
            "aligned_boundaries": round(self.boundaries, 4),
            "aligned_one_to_one": round(self.one_to_one, 4),
            **{f"aligned_lost_T{temperature:g}": round(share, 4) for temperature, share in self.lost.items()},
        }

    @property
    def warning(self) -> str | None:
        """What to do instead, where little of the teacher arrives."""
        if self.one_to_one >= POOR:
            return None
        return (
            f"the teacher's distribution reaches only {self.one_to_one:.1%} of the tokens: its verified "
            "answers alone (recipe sft with examples.answers=teacher) may teach as much for less."
        )


@dataclass(frozen=True)
class AlignedLogits(CachedLogits):
    """A cache of the teacher's rows, read by a student with another tokenizer.

    The tail rule is ``bucket``: of every other a position without a distribution would cost something.
    """

    pair: TokenizerPair = field(kw_only=True)
    places: Mapping[str, Place] = field(kw_only=True)
    """Digest of the student's row -> where its distributions are."""

    def __post_init__(self) -> None:
        from codestill.models.fingerprints import tokenizer_fingerprint

        super().__post_init__()
        if self.rule != "bucket":
            raise LogitsError(
                f"the tail rule {self.rule} cannot be taken with aligned vocabularies: positions without a "
                "distribution, and the probability of tokens that the student lacks, need a tail.",
                next_step="Use the tail rule `bucket`.",
            )
        _require(
            tokenizer_fingerprint(self.pair.reader.tokenizer) == self.cache.manifest.tokenizer,
            f"{self.cache.directory} was captured with another tokenizer than the teacher's.",
        )

    @classmethod
    def over(
        cls, cache: LogitCache, temperature: float, pair: TokenizerPair, rows: Iterable[tuple[Row, Row]]
    ) -> Self:
        """Of the student's rows, each with the teacher's of the same text; the cache need not hold all.

        Raises LogitsError or VocabularyError for a cache that is another tokenizer's, or that lacks the
        temperature.
        """
        places = {}
        for ours, theirs in rows:
            name, scored = _name(theirs), len(theirs.tokens) - theirs.first_scored
            alignment = pair.align(ours, theirs) if name in cache else pair.unaligned(ours)
            if name in cache and cache.manifest.source == "answers":
                rows_N, events_M = alignment.rows_N, cache.has_event(name)
                alignment.rows_N[(rows_N != ABSENT) & ~events_M[rows_N]] = ABSENT
            places[_name(ours)] = Place(name, scored, alignment)
        return cls(cache, temperature, pair=pair, places=places)

    @property
    def positions(self) -> int | None:
        """No limit on the student's tokens: what the teacher cannot read is not in the cache."""
        return None

    def shared_vocabulary(self, tokenizer: "PreTrainedTokenizerBase", width: int) -> int:
        """Number of the student's ids. Raises VocabularyError if the tokenizer is not the one that was
        aligned, or ``width`` is too small for it."""
        vocabulary = tokenizer.get_vocab()
        _require(
            vocabulary == self.pair.student.tokenizer.get_vocab(),
            "the logits were aligned with another student's tokenizer.",
        )
        ids = max(vocabulary.values()) + 1
        _require(width >= ids, f"the tokenizer has {ids:,} ids, but the student has logits for {width:,}.")
        return ids

    def targets(self, tokens_BT: "Tensor", mask_BT: "Tensor", labels_BT: "Tensor") -> "SparseTargets":
        """As :meth:`CachedLogits.targets`, in the student's ids."""
        found = [self._place(name) for name in sequence_names(tokens_BT, mask_BT, labels_BT)]
        rows = reindex(*self._rows(found), self.pair.student_ids)
        return sparse_targets(rows, self.rule, tokens_BT.device)

    @cached_property
    def agreement(self) -> Agreement:
        """Over all rows; reads them once."""
        places, lost = iter(self.places.values()), 0.0
        while some := list(islice(places, _AT_ONCE)):
            rows, sources_N = self._rows(some)
            taken = sources_N[sources_N != ABSENT]
            kept = reindex(rows, taken, self.pair.student_ids).log_tail_N
            lost += float((np.exp(kept) - np.exp(rows.log_tail_N[taken])).sum(dtype=np.float64))
        return Agreement.of([place.alignment for place in self.places.values()], {self.temperature: lost})

    def _place(self, name: str) -> Place:
        if name not in self.places:
            raise LogitsError(
                f"no row of {self.cache.directory} is aligned with sequence {name}",
                next_step="Align the same examples, with the same tokenizer and prompt, as are trained on.",
            )
        return self.places[name]

    def _rows(self, places: Sequence[Place]) -> tuple[SparseRows, NDArray[np.int64]]:
        """Rows of the teacher's, and for each scored token of the student's which of them it gets."""
        stored = [place for place in places if (place.alignment.rows_N != ABSENT).any()]
        sources, start = [np.empty(0, dtype=np.int64)], 0
        for place in places:
            rows_N = place.alignment.rows_N
            sources.append(np.where(rows_N == ABSENT, ABSENT, rows_N + start))
            start += place.scored if (rows_N != ABSENT).any() else 0
        return self.cache.targets([place.name for place in stored], self.temperature), np.concatenate(sources)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise VocabularyError(
            otherwise, next_step="Name the teacher and the student whose rows were captured and aligned."
        )
