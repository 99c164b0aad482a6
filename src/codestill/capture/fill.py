"""The shards of a cache: captured batch by batch, and opened for training."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from codestill.capture.config import CaptureConfig
from codestill.errors import LogitsError
from codestill.logits import CacheManifest, CaptureSpec, Expectation, LogitCache
from codestill.logits.writer import MANIFEST, LogitWriter, finish
from codestill.run import Run
from codestill.types import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from codestill.logits import CapturedRows, MeasuredError
    from codestill.teachers.frozen import LocalTeacher
    from codestill.train.batches import TokenExample


class Source(Protocol):
    """Where a cache's rows come from."""

    @property
    def identity(self) -> dict[str, object]:
        """Whose distributions these are, as a cache's spec says it."""
        ...

    @property
    def paid(self) -> bool:
        """Whether every sequence costs: then what is stored is not asked for again with its batch, and what
        has come is stored at once."""
        ...

    def rows(
        self, batch: "Sequence[TokenExample]", spec: CaptureSpec
    ) -> "Iterator[tuple[str, CapturedRows]]":
        """The digest of each sequence, and what is kept of its scored positions, in order."""
        ...

    def error(self, sequences: "Sequence[TokenExample]", spec: CaptureSpec) -> "tuple[MeasuredError, ...]":
        """How much is lost, where that can be known."""
        ...


def capture(
    examples: Sequence[Example],
    teacher: "LocalTeacher",
    temperatures: Sequence[float],
    config: CaptureConfig,
    directory: Path,
    run: Run,
    in_parallel: "Callable[[CaptureSpec, Sequence[TokenExample]], None] | None" = None,
) -> LogitCache:
    """The teacher's logits over every scored token of the examples, as a cache.

    A finished cache in ``directory`` is opened, whatever captured it. Raises LogitsError when it is another
    teacher's, lacks a temperature, or was captured from other examples; each difference is named.
    """
    from codestill.capture.local import LocalSource

    source = LocalSource(teacher)
    return capture_from(
        source, examples, teacher.tokenizer, temperatures, config, directory, run, in_parallel
    )


def capture_from(
    source: Source,
    examples: Sequence[Example],
    tokenizer: "PreTrainedTokenizerBase",
    temperatures: Sequence[float],
    config: CaptureConfig,
    directory: Path,
    run: Run,
    in_parallel: "Callable[[CaptureSpec, Sequence[TokenExample]], None] | None" = None,
) -> LogitCache:
    from codestill.train.batches import tokenize

    spec = CaptureSpec.model_validate(
        source.identity
        | {
            "temperatures": tuple(temperatures),
            "truncation": config.truncation,
            "tail_samples": config.tail_samples,
            "seed": run.seed,
        }
    )
    found = {one.digest: one for one in tokenize(examples, tokenizer, config.max_length)}
    sequences = list(found.values())
    if not is_finished(directory):
        if in_parallel is not None:
            in_parallel(spec, sequences)
        else:
            _fill_here(sequences, source, spec, config, directory, run)
        finish(directory, source.error(sequences, spec), list(found))
    identity = {name: getattr(spec, name) for name in ("weights", "tokenizer", "vocabulary", "temperatures")}
    return _open(directory, sequences, Expectation.model_validate(identity), run)


def is_finished(directory: Path) -> bool:
    """Whether a capture there has come to its end."""
    return (directory / MANIFEST).exists()


def open_cache(
    directory: Path,
    examples: Sequence[Example],
    tokenizer: "PreTrainedTokenizerBase",
    temperatures: Sequence[float],
    config: CaptureConfig,
    run: Run,
) -> LogitCache:
    """A finished cache, for training without its teacher. Raises LogitsError as :func:`capture` does, but
    cannot see that a teacher of the same tokenizer is another."""
    from codestill.models.fingerprints import tokenizer_fingerprint
    from codestill.train.batches import tokenize

    sequences = tokenize(examples, tokenizer, config.max_length)
    expected = Expectation(tokenizer=tokenizer_fingerprint(tokenizer), temperatures=tuple(temperatures))
    return _open(directory, sequences, expected, run)


def _open(
    directory: Path, sequences: "Sequence[TokenExample]", expected: Expectation, run: Run
) -> LogitCache:
    cache = LogitCache.open(directory, expected)
    missing = [one.example_id for one in sequences if one.digest not in cache]
    if missing:
        raise LogitsError(
            f"{directory} lacks {len(missing):,} of {len(sequences):,} examples: {', '.join(missing[:3])}"
            + ("..." if len(missing) > 3 else ""),
            next_step="Capture these examples into another directory.",
        )
    _account(cache.manifest, run)
    return cache


def _fill_here(
    sequences: "Sequence[TokenExample]",
    source: Source,
    spec: CaptureSpec,
    config: CaptureConfig,
    directory: Path,
    run: Run,
) -> None:
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        run.progress("logits", done, len(sequences))

    with LogitWriter.open(directory, spec) as writer:
        fill(writer, sequences, source, spec, config, tell)


def fill(
    writer: LogitWriter,
    sequences: "Sequence[TokenExample]",
    source: Source,
    spec: CaptureSpec,
    config: CaptureConfig,
    tell: Callable[[int], None],
    part: tuple[int, int] = (0, 1),
) -> None:
    """Write what is owed of every batch whose number is ``part[0]`` modulo ``part[1]``; ``tell`` hears how
    many sequences each held."""
    from codestill.train.batches import LengthBatches

    lengths = [len(one.tokens) for one in sequences]
    for indices in list(LengthBatches(lengths, config.batch_tokens, seed=None))[part[0] :: part[1]]:
        batch = {sequences[index].digest: sequences[index] for index in indices}
        owed = [one for name, one in batch.items() if name not in writer]
        if owed:
            try:
                # Whole batches, whatever is stored of them already: a sum of floats may depend on its batch.
                for name, rows in source.rows(owed if source.paid else list(batch.values()), spec):
                    writer.add(batch[name].tokens, batch[name].first_scored, rows)
            finally:
                if source.paid:
                    writer.close()
        tell(len(batch))


def _account(manifest: CacheManifest, run: Run) -> None:
    """What the report says about the cache."""
    measured = {
        f"logits_error_T{one.temperature:g}": (
            f"KL {one.kl_error:.1g} nats, gradient {100 * one.gradient_error:.2g}%"
        )
        for one in manifest.error
        if one.rule == "bucket"
    }
    per_token = round(manifest.bytes_per_token, 1)
    run.account(logits_tokens=manifest.tokens, logits_bytes_per_token=per_token, **measured)
