"""A cache of the teacher's rows as a student reads it, which may have another tokenizer."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from codestill.capture.config import CacheConfig, CaptureConfig
from codestill.run import Run
from codestill.types import Example

if TYPE_CHECKING:
    from codestill.logits import LogitCache
    from codestill.teachers.aligned import AlignedLogits, TokenizerPair
    from codestill.teachers.cached import CachedLogits


def read_cache(
    cache: "LogitCache",
    temperature: float,
    pair: "TokenizerPair | None",
    examples: Sequence[Example],
    config: CacheConfig,
    run: Run,
) -> "CachedLogits":
    """The cache as training reads it: of the student's own tokens, or, with ``pair``, of the teacher's.

    Raises as :func:`read_aligned`.
    """
    from codestill.teachers.cached import CachedLogits

    if pair is None:
        return CachedLogits(cache, temperature, config.tail)
    return read_aligned(cache, (temperature,), pair, examples, config, run)


def read_aligned(
    cache: "LogitCache",
    temperatures: Sequence[float],
    pair: "TokenizerPair",
    examples: Sequence[Example],
    config: CaptureConfig,
    run: Run,
) -> "AlignedLogits":
    """The cache at the first of the temperatures, as the student's tokens can read it; the run is told how
    much of the teacher arrives at each.

    Raises LogitsError or VocabularyError for a cache that is not the teacher's, or lacks a temperature.
    """
    from codestill.teachers.aligned import AlignedLogits
    from codestill.train.batches import tokenize

    ours, theirs = tokenize(examples, pair.student, None), tokenize(examples, pair.reader, None)
    rows = [row for row in zip(ours, theirs, strict=True) if len(row[0].tokens) <= config.max_length]
    first = AlignedLogits.over(cache, temperatures[0], pair, rows)
    each = [replace(first, temperature=temperature).agreement for temperature in temperatures]
    lost = {temperature: share for found in each for temperature, share in found.lost.items()}
    agreement = replace(each[0], lost=lost)
    run.message("logits", f"aligned: {agreement}")
    run.account(**agreement.numbers, aligned_vocabulary=pair.fingerprint)
    if agreement.warning:
        run.message("logits", agreement.warning)
    return first
