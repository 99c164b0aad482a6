"""AMR-Evol's function library (arXiv:2410.00558): verified functions, found by what they are for."""

from codestill.library.embed import (
    AnyEmbedderConfig,
    EndpointEmbedderConfig,
    SentenceEmbedderConfig,
    TfidfEmbedderConfig,
    cosines,
)
from codestill.library.functions import Function, read_functions, renamed
from codestill.library.store import Hit, Library, read_library

__all__ = [
    "AnyEmbedderConfig",
    "EndpointEmbedderConfig",
    "Function",
    "Hit",
    "Library",
    "SentenceEmbedderConfig",
    "TfidfEmbedderConfig",
    "cosines",
    "read_functions",
    "read_library",
    "renamed",
]
