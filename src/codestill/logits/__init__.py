"""A teacher's next-token distributions on disk: sparse, small, and refused by a reader that expects others.

Capture: :func:`codestill.logits.select.select` (the only module here that needs torch) keeps the entries
that matter, :class:`LogitWriter` stores them, :func:`finish` writes the manifest. Training:
:class:`LogitCache` returns them at any captured temperature. The format is described byte by byte in
docs/logit-cache.md.
"""

from codestill.logits.manifest import (
    CacheManifest,
    CaptureSpec,
    Expectation,
    MeasuredError,
)
from codestill.logits.reader import LogitCache
from codestill.logits.rows import CapturedRows, SparseRows, rows_from_top
from codestill.logits.shard import digest
from codestill.logits.truncation import FixedK, Mass, Threshold, Truncation
from codestill.logits.writer import LogitWriter, finish

__all__ = [
    "CacheManifest",
    "CaptureSpec",
    "CapturedRows",
    "Expectation",
    "FixedK",
    "LogitCache",
    "LogitWriter",
    "Mass",
    "MeasuredError",
    "SparseRows",
    "Threshold",
    "Truncation",
    "digest",
    "finish",
    "rows_from_top",
]
