"""Capture a teacher's logits over examples into a cache, which training then reads instead of the teacher.

A killed capture continues: what is stored is not computed, or asked for, again, and the shards end as they
would have. ``fill`` writes and opens caches; ``local`` and ``served`` are where rows come from; ``parallel``
fills with several processes; ``cache_run`` is ``codestill cache``.
"""

from codestill.capture.cache_run import capture_run
from codestill.capture.config import CacheConfig, CaptureConfig, CaptureRun, ServerConfig
from codestill.capture.fill import Source, capture, fill, is_finished, open_cache

__all__ = [
    "CacheConfig",
    "CaptureConfig",
    "CaptureRun",
    "ServerConfig",
    "Source",
    "capture",
    "capture_run",
    "fill",
    "is_finished",
    "open_cache",
]
