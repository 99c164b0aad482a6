"""Rows of a cache from log-probabilities that came with a teacher's answers: no second pass, no scoring."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codestill.capture.config import CaptureConfig
from codestill.capture.fill import Capture
from codestill.errors import LogitsError
from codestill.files.serialize import fingerprint
from codestill.logits import CapturedRows, CaptureSpec, LogitCache, MeasuredError
from codestill.logits.alignment import ABSENT
from codestill.logits.matching import match
from codestill.logits.rows import rows_where
from codestill.models import Placement
from codestill.models.codec import TextCodec
from codestill.models.fingerprints import tokenizer_fingerprint
from codestill.models.token_bytes import token_bytes
from codestill.run import Run
from codestill.teachers.aligned import POOR
from codestill.teachers.api_settings import ApiSettings
from codestill.teachers.listing import Listing
from codestill.teachers.replay import ASK_AGAIN, read_kept
from codestill.train.batches import TokenExample
from codestill.types import Example

_LOSSY = "\ufffd".encode()


@dataclass
class Taught:
    """How much of the answers' log-probabilities teaches."""

    tokens: int = 0
    """Scored tokens of answers, ends included."""
    taught: int = 0
    """Those that get a distribution."""
    listed: float = 0.0
    """Probability that these distributions list, summed."""
    unnamed: float = 0.0
    """That of tokens which the tokenizer does not have, or cannot tell apart."""
    unspelled: int = 0
    """Answers that their tokens do not spell."""
    others: int = 0
    """Rows that are no answers."""

    def __str__(self) -> str:
        rows = max(self.taught, 1)
        parts = [
            f"of {self.tokens:,} tokens of answers {self.share:.1%} get the distribution that came with "
            f"them, which lists {(self.listed + self.unnamed) / rows:.2%} of the probability"
        ]
        if self.unnamed:
            parts.append(f"{self.unnamed / rows:.2%} are of tokens that the tokenizer does not name")
        if self.unspelled:
            parts.append(f"{self.unspelled} answers are not what their tokens spell, and get none")
        if self.others:
            parts.append(f"{self.others} rows are reference solutions: cross-entropy alone")
        return "; ".join(parts)

    @property
    def share(self) -> float:
        return self.taught / max(self.tokens, 1)

    @property
    def numbers(self) -> dict[str, float]:
        """As a run's accounting has them."""
        rows = max(self.taught, 1)
        return {
            "answers_taught": round(self.share, 4),
            "answers_listed": round(self.listed / rows, 4),
            "answers_unnamed": round(self.unnamed / rows, 4),
            "answers_unspelled": self.unspelled,
        }


@dataclass
class AnswerSource:
    """The log-probabilities of an endpoint's answers, in the rows of what is trained on of them."""

    config: ApiSettings
    codec: TextCodec
    """Encodes the rows, with the teacher's tokenizer."""
    answers: Path
    """Directory of kept answers."""
    kept: Mapping[str, str]
    """Example -> the answer that it comes from; others get no distribution."""
    batch_tokens: int = Placement().capture_batch_tokens
    """Padded tokens per batch."""
    _taught: dict[str, Taught] = field(default_factory=dict)

    @classmethod
    def of(
        cls, config: ApiSettings, codec: TextCodec, answers: Path, examples: Sequence[Example]
    ) -> "AnswerSource":
        """Of the answers that examples come from."""
        return cls(config, codec, answers, {one.example_id: one.kept for one in examples if one.kept})

    @property
    def identity(self) -> dict[str, object]:
        """The teacher's fields of a cache's spec."""
        return {
            "teacher": self.config.model,
            "weights": fingerprint({"served": self.config.model}),
            "tokenizer": tokenizer_fingerprint(self.codec.tokenizer),
            "vocabulary": self._vocabulary,
            "dtype": "unknown",
            "source": "answers",
            "support": min(self.config.logprobs or 1, self._vocabulary),
        }

    @property
    def positions(self) -> int | None:
        """No limit: the answers are there."""
        return None

    @property
    def metered(self) -> bool:
        """No: everything was paid for with the answers."""
        return False

    def rows(self, batch: Sequence[TokenExample], spec: CaptureSpec) -> Iterator[tuple[str, CapturedRows]]:
        """The digest of each sequence, and what its answer's listing says at its scored positions."""
        for sequence in batch:
            yield sequence.digest, self._rows(sequence, spec)

    def error(self, sequences: Sequence[TokenExample], spec: CaptureSpec) -> tuple[MeasuredError, ...]:
        """Unknown: only the server has seen the whole vocabulary."""
        return ()

    def tell(self, sequences: Sequence[TokenExample], spec: CaptureSpec, run: Run) -> None:
        """Say, and account, how much of the answers' log-probabilities teaches."""
        total = Taught()
        for sequence in sequences:
            if sequence.example_id not in self._taught:  # captured before this process began
                self._rows(sequence, spec)
            one = self._taught[sequence.example_id]
            for name in vars(total):
                setattr(total, name, getattr(total, name) + getattr(one, name))
        run.message("logits", f"answers: {total}")
        run.account(**total.numbers)
        if total.share < POOR:
            run.message(
                "logits",
                f"the log-probabilities reach only {total.share:.1%} of the tokens: the verified answers "
                "alone (recipe sft with examples.answers=teacher) may teach as much.",
            )

    def _rows(self, sequence: TokenExample, spec: CaptureSpec) -> CapturedRows:
        count = len(sequence.tokens) - sequence.first_scored
        taught = self._taught[sequence.example_id] = Taught()
        name = self.kept.get(sequence.example_id)
        if name is None:
            taught.others = 1
            return rows_where(np.zeros(count, bool), *_nothing(count), spec.truncation)
        taught.tokens = count
        text, listing = self._answer(name, sequence.example_id)
        ids, data = self._named(listing)
        places_N = self._places(sequence, listing, ids, data, text)
        if places_N is None:
            taught.unspelled = 1
            return rows_where(np.zeros(count, bool), *_nothing(count), spec.truncation)
        ids_NK, log_p_NK, unnamed = _distributions(listing, ids, places_N)
        present_N = np.asarray(np.isfinite(log_p_NK).any(axis=1))
        taught.taught, taught.unnamed = int(present_N.sum()), unnamed
        taught.listed = float(np.exp(log_p_NK).sum())
        return rows_where(present_N, ids_NK, log_p_NK, spec.truncation)

    def _answer(self, name: str, example_id: str) -> tuple[bytes, Listing]:
        answer = read_kept(self.answers, name)
        try:
            if answer.listed is None:
                raise ValueError("it lists nothing")
            return answer.text.encode(), Listing.unpack(answer.listed)
        except ValueError as error:
            raise LogitsError(
                f"the kept answer {name} to {example_id} has no log-probabilities: {error}.",
                next_step=ASK_AGAIN,
            ) from error

    def _places(
        self,
        sequence: TokenExample,
        listing: Listing,
        ids: NDArray[np.int64],
        data: Sequence[bytes],
        text: bytes,
    ) -> NDArray[np.int64] | None:
        """For each scored token the position of the listing that is about it, or ABSENT; None where the
        answer's tokens do not spell it."""
        *tokens, end = sequence.tokens[sequence.first_scored :]
        trained = [self._bytes.get(token, b"") for token in tokens]
        firsts = listing.places_E[np.cumsum(listing.counts_N) - listing.counts_N]
        found = match(trained, [data[place] for place in firsts.tolist()], text)
        if found is None:
            return None
        places_N, behind = found
        if behind is None or ids[firsts[behind]] != end:
            behind = ABSENT
        return np.append(places_N, behind)

    def _named(self, listing: Listing) -> tuple[NDArray[np.int64], list[bytes]]:
        """The tokenizer's id of every token of a listing, or ABSENT, and the bytes that it spells: none for a
        control token."""
        ids, data = [], []
        for token in listing.tokens:
            if isinstance(token, int):
                ids.append(token if token < self._vocabulary else ABSENT)
                data.append(self._bytes.get(token, b""))
            else:
                ids.append(ABSENT if _LOSSY in token else self._ids.get(token, ABSENT))
                data.append(b"" if ids[-1] in self._controls else token)
        return np.array(ids, dtype=np.int64), data

    @cached_property
    def _vocabulary(self) -> int:
        return max(self.codec.tokenizer.get_vocab().values()) + 1

    @cached_property
    def _bytes(self) -> dict[int, bytes]:
        return token_bytes(self.codec)

    @cached_property
    def _controls(self) -> dict[int, str]:
        end = str(self.codec.tokenizer.convert_ids_to_tokens(self.codec.end))
        return self.codec.controls | {self.codec.end: end}

    @cached_property
    def _ids(self) -> dict[bytes, int]:
        """Of several ids with the same bytes, the one that the tokenizer prefers."""
        spelled = {token.encode(): id for id, token in self._controls.items()}
        return spelled | {data: id for id, data in self._bytes.items()}


def capture_answers(
    examples: Sequence[Example],
    config: ApiSettings,
    answers: Path,
    capture: CaptureConfig,
    directory: Path,
    run: Run,
    codec: TextCodec,
) -> LogitCache:
    """What came with an endpoint's ``answers`` (a directory), as a cache of the examples at temperature 1;
    how much of it teaches is told. ``codec`` encodes the examples, with the endpoint's tokenizer.

    Raises LogitsError as :meth:`codestill.capture.Capture.cache` does, and where a kept answer is damaged;
    VocabularyError for a tokenizer that does not say which bytes its tokens are.
    """
    source = AnswerSource.of(config, codec, answers, examples)
    made = Capture(source, codec, (1.0,), capture, directory, run)
    cache = made.cache(examples)
    source.tell(made.tokenized(examples), made.spec, run)
    return cache


def _nothing(count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    return np.zeros((count, 1), dtype=np.int64), np.full((count, 1), -np.inf)


def _distributions(
    listing: Listing, ids: NDArray[np.int64], places_N: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
    """Ids and log-probabilities [N, K] at these positions of a listing, padded with minus infinity; and the
    probability, summed, of tokens without an id, or that a position has twice: texts may be of two tokens."""
    width = max(listing.most, 1)
    (ids_NK, log_p_NK), unnamed = _nothing(len(places_N) * width), 0.0
    ids_NK, log_p_NK = ids_NK.reshape(-1, width), log_p_NK.reshape(-1, width)
    ends = np.cumsum(listing.counts_N)
    for row, place in enumerate(places_N.tolist()):
        if place == ABSENT:
            continue
        entries = slice(ends[place] - listing.counts_N[place], ends[place])
        own, log_p = ids[listing.places_E[entries]], listing.log_p_E[entries].astype(np.float64)
        named = own != ABSENT
        _, which, times = np.unique(own, return_inverse=True, return_counts=True)
        named &= times[which] == 1
        unnamed += float(np.exp(log_p[~named]).sum())
        ids_NK[row, : named.sum()], log_p_NK[row, : named.sum()] = own[named], log_p[named]
    return ids_NK, log_p_NK, unnamed
