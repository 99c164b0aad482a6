"""The pocket world: small Python tasks without end, and the models bundled to solve them.

Tasks compose a few dozen operations on lists, strings, words and integers. A split by composition
holds out pairs of operations that no training task ever puts together.
"""

from pathlib import Path

from codestill.pocket.generate import generate, sketches

__all__ = ["base_directory", "generate", "sketches", "teacher_directory"]

_WEIGHTS = Path(__file__).parent / "weights"


def teacher_directory() -> Path:
    """Where the bundled teacher lies; any ``from_pretrained`` loads it."""
    return _WEIGHTS / "teacher"


def base_directory() -> Path:
    """Where the bundled base student lies: it knows the syntax and single operations only."""
    return _WEIGHTS / "base"
