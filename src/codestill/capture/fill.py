"""The shards of a cache: captured batch by batch, and opened for training."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from codestill.capture.config import CaptureConfig
from codestill.errors import LogitsError
from codestill.logits import CacheManifest, CaptureSpec, Expectation, LogitCache
from codestill.logits.writer import MANIFEST, LogitWriter, finish
from codestill.run import Run
from codestill.types import Example

if TYPE_CHECKING:
    from codestill.logits import CapturedRows, MeasuredError
    from codestill.models.codec import TextCodec
    from codestill.teachers.frozen import LocalTeacher
    from codestill.train.batches import TokenExample

BARREN_BATCHES = 4
"""After so many batches in a row without an answer, a server is taken to answer none."""


class FillShards(Protocol):
    """Fills the shards of a cache, and leaves the manifest to its caller."""

    def __call__(self, spec: CaptureSpec, sequences: "Sequence[TokenExample]") -> None: ...


class LogitSource(Protocol):
    """A teacher whose logits a cache can hold: its weights are here, or a server has them."""

    @property
    def identity(self) -> dict[str, object]:
        """The teacher's fields of a cache's spec."""
        ...

    @property
    def batch_tokens(self) -> int:
        """Padded tokens per batch."""
        ...

    @property
    def positions(self) -> int | None:
        """Longest sequence that the teacher reads; None without a limit, or where it is unknown."""
        ...

    @property
    def metered(self) -> bool:
        """Whether every sequence costs. If so, one that is stored is not requested again with the rest of its
        batch, and answers are stored as they arrive."""
        ...

    def rows(
        self, batch: "Sequence[TokenExample]", spec: CaptureSpec
    ) -> "Iterator[tuple[str, CapturedRows]]":
        """The digest of each sequence, and what is kept of its scored positions, in order."""
        ...

    def error(self, sequences: "Sequence[TokenExample]", spec: CaptureSpec) -> "tuple[MeasuredError, ...]":
        """The error of training from the cache; empty where it cannot be measured."""
        ...


@dataclass(frozen=True)
class Capture:
    """One teacher's logits, at some temperatures, on their way into one directory."""

    source: LogitSource
    codec: "TextCodec"
    """Encodes the examples: the student's, so that teacher and student read the same ids."""
    temperatures: tuple[float, ...]
    config: CaptureConfig
    directory: Path
    run: Run

    @cached_property
    def spec(self) -> CaptureSpec:
        """What every writer of the cache agrees on."""
        return CaptureSpec.model_validate(
            self.source.identity
            | {
                "temperatures": self.temperatures,
                "truncation": self.config.truncation,
                "tail_samples": self.config.tail_samples,
                "seed": self.run.seed,
            }
        )

    def cache(self, examples: Sequence[Example], fill_shards: "FillShards | None" = None) -> LogitCache:
        """The cache of the examples' scored tokens, filled unless it is finished.

        Examples longer than ``max_length`` or than the teacher's positions are left out and counted.
        A teacher reads its own prompt where an example has one; the rows are found by what the student reads.
        ``fill_shards`` replaces filling by this process. Raises ConfigError when no example is left;
        LogitsError when a finished cache is another teacher's, lacks a temperature, or lacks an example, each
        difference named, and when two examples differ in the teacher's prompt alone.
        """
        tokenized, said = self._within(examples)
        if said:
            self.run.message("logits", said)
        by_digest = {sequence.digest: sequence for sequence in tokenized}
        _require_one_prompt(tokenized, by_digest)
        sequences = list(by_digest.values())
        if not is_finished(self.directory):
            (fill_shards or self._fill_shards)(self.spec, sequences)
            error = self.source.error(sequences, self.spec)
            finish(self.directory, error, list(by_digest), self.source.positions)
        names = ("weights", "tokenizer", "vocabulary", "temperatures")
        identity = {name: getattr(self.spec, name) for name in names}
        cache = LogitCache.open(self.directory, Expectation.model_validate(identity))
        return _complete(cache, sequences, self.run)

    def tokenized(self, examples: Sequence[Example]) -> "list[TokenExample]":
        """The examples that are not too long, in the order given."""
        return self._within(examples)[0]

    def _within(self, examples: Sequence[Example]) -> "tuple[list[TokenExample], str]":
        """With what to say of those that are left out."""
        from codestill.train.batches import TEACHERS_POSITIONS, tokenize_within

        limits = {
            "capture.max_length": self.config.max_length,
            TEACHERS_POSITIONS: self.source.positions,
        }
        return tokenize_within(limits, examples, self.codec)

    def _fill_shards(self, spec: CaptureSpec, sequences: "Sequence[TokenExample]") -> None:
        done = 0

        def report(count: int) -> None:
            nonlocal done
            done += count
            self.run.progress("logits", done, len(sequences))

        with LogitWriter.open(self.directory, spec) as writer:
            fill(writer, sequences, self.source, self.config, report)


def capture(
    examples: Sequence[Example],
    teacher: "LocalTeacher",
    temperatures: Sequence[float],
    config: CaptureConfig,
    directory: Path,
    run: Run,
    codec: "TextCodec | None" = None,
) -> LogitCache:
    """The teacher's logits over every scored token of the examples, as a cache.

    A finished cache in ``directory`` is opened, whatever captured it. ``codec`` is the student's (default:
    the teacher's own). Raises LogitsError as
    :meth:`Capture.cache` does.
    """
    from codestill.capture.local import LocalSource

    source = LocalSource(teacher)
    made = Capture(source, codec or teacher.codec, tuple(temperatures), config, directory, run)
    return made.cache(examples)


def _require_one_prompt(sequences: "Sequence[TokenExample]", by_digest: "Mapping[str, TokenExample]") -> None:
    """Raise LogitsError where the student reads the same twice and the teacher does not."""
    for one in sequences:
        other = by_digest[one.digest]
        if one.teacher_prompt != other.teacher_prompt:
            raise LogitsError(
                f"{one.example_id} and {other.example_id} differ in the teacher's prompt alone, and a cache "
                "keeps its rows by what the student reads.",
                next_step="Leave one of them out, or capture them into two directories.",
            )


def is_finished(directory: Path) -> bool:
    """Whether the directory holds a finished cache."""
    return (directory / MANIFEST).exists()


def open_cache(
    directory: Path,
    examples: Sequence[Example],
    codec: "TextCodec",
    temperatures: Sequence[float],
    config: CaptureConfig,
    run: Run,
) -> LogitCache:
    """A finished cache, for training without its teacher. Raises LogitsError as :func:`capture` does, except
    that it cannot tell two teachers with the same tokenizer apart."""
    from codestill.models.fingerprints import tokenizer_fingerprint
    from codestill.train.batches import tokenize

    expected = Expectation(tokenizer=tokenizer_fingerprint(codec.tokenizer), temperatures=tuple(temperatures))
    cache = LogitCache.open(directory, expected)
    limit = min(config.max_length, cache.manifest.positions or config.max_length)
    return _complete(cache, tokenize(examples, codec, limit), run)


def _complete(cache: LogitCache, sequences: "Sequence[TokenExample]", run: Run) -> LogitCache:
    missing = [sequence.example_id for sequence in sequences if sequence.digest not in cache]
    if missing:
        named = ", ".join(missing[:3]) + ("..." if len(missing) > 3 else "")
        raise LogitsError(
            f"{cache.directory} lacks {len(missing):,} of {len(sequences):,} examples: {named}",
            next_step="Capture these examples into another directory.",
        )
    _account(cache.manifest, run)
    return cache


def fill(
    writer: LogitWriter,
    sequences: "Sequence[TokenExample]",
    source: LogitSource,
    config: CaptureConfig,
    report: Callable[[int], None],
    part: tuple[int, int] = (0, 1),
) -> None:
    """Write what is missing of every batch whose number is ``part[0]`` modulo ``part[1]``; ``report`` gets
    each batch's number of sequences.

    Where a metered source has no answer for a sequence, the others are written before LogitsError is raised,
    unless several batches in a row get no answer at all.
    """
    from codestill.train.batches import LengthBatches

    failure: LogitsError | None = None
    barren = 0
    lengths = [len(sequence.tokens) for sequence in sequences]
    for indices in list(LengthBatches(lengths, source.batch_tokens, seed=None))[part[0] :: part[1]]:
        batch = {sequences[index].digest: sequences[index] for index in indices}
        missing = [sequence for name, sequence in batch.items() if name not in writer]
        if missing:
            # Whole batches, whatever is stored of them already: a sum of floats may depend on its batch.
            wanted = missing if source.metered else list(batch.values())
            answered = False
            try:
                for name, rows in source.rows(wanted, writer.spec):
                    writer.add(batch[name].tokens, batch[name].first_scored, rows)
                    answered = True
            except LogitsError as error:
                failure, barren = failure or error, 0 if answered else barren + 1
                if not source.metered or barren == BARREN_BATCHES:
                    raise
            finally:
                if source.metered:
                    writer.close()
        report(len(batch))
    if failure is not None:
        raise failure


def _account(manifest: CacheManifest, run: Run) -> None:
    """Size and error of the cache, for the report."""
    measured = {
        f"logits_error_T{error.temperature:g}": (
            f"KL {error.kl_error:.1g} nats, gradient {100 * error.gradient_error:.2g}%"
        )
        for error in manifest.error
        if error.rule == "bucket"
    }
    per_token = round(manifest.bytes_per_token, 1)
    run.account(logits_tokens=manifest.tokens, logits_bytes_per_token=per_token, **measured)
