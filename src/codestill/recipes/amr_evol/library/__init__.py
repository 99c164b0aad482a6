"""AMR-Evol's function library (arXiv:2410.00558): verified functions, retrieved by their purpose."""

from codestill.recipes.amr_evol.library.functions import Function, Part, read_functions, renamed
from codestill.recipes.amr_evol.library.store import Hit, Library, LibrarySpec, read_library

__all__ = [
    "Function",
    "Hit",
    "Library",
    "LibrarySpec",
    "Part",
    "read_functions",
    "read_library",
    "renamed",
]
