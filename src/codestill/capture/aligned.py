"""A cache of the teacher's rows, for a student with another tokenizer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from codestill.capture.config import CaptureConfig
from codestill.run import Run
from codestill.types import Example

if TYPE_CHECKING:
    from codestill.logits import LogitCache
    from codestill.teachers.aligned import AlignedLogits, TokenizerPair


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
    first, *others = (AlignedLogits.over(cache, temperature, pair, rows) for temperature in temperatures)
    for logits in (first, *others):
        run.message("logits", f"aligned: {logits.agreement}")
        run.account(**logits.account)
    if first.agreement.warning:
        run.message("logits", first.agreement.warning)
    return first
