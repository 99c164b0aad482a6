"""Capture a teacher's logits over examples into a cache; training then reads the cache, not the teacher.

A killed capture continues: what is stored is not computed or requested again, and the shards come out as they
would have without the interruption.

    fill       writes and opens caches
    local      a teacher on this machine
    served     a teacher on a server
    parallel   several processes fill one cache
    aligned    a cache as a student reads it, which may have another tokenizer than the teacher
    error      what training from a cache loses
    cache_run  ``codestill cache``
"""

from codestill.capture.aligned import read_aligned, read_cache
from codestill.capture.cache_run import capture_run
from codestill.capture.config import CacheConfig, CaptureConfig, CaptureRun, ServerConfig, TeacherLogitsConfig
from codestill.capture.fill import Capture, LogitSource, capture, fill, is_finished, open_cache
from codestill.teachers.aligned import TokenizerPair

__all__ = [
    "CacheConfig",
    "Capture",
    "CaptureConfig",
    "CaptureRun",
    "LogitSource",
    "ServerConfig",
    "TeacherLogitsConfig",
    "TokenizerPair",
    "capture",
    "capture_run",
    "fill",
    "is_finished",
    "open_cache",
    "read_aligned",
    "read_cache",
]
