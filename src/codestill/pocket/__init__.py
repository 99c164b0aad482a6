"""The pocket world: small Python tasks without end, and the bundled models that solve them.

Tasks compose five dozen operations on lists, strings, words and integers. The split is by composition: it
holds out pairs of operations that no training task puts together.
"""

from pathlib import Path

from codestill.pocket.generate import generate, sketches

__all__ = ["BUNDLED", "bundled_directory", "generate", "sketches"]

_WEIGHTS = Path(__file__).parent / "weights"
BUNDLED = {
    "pocket": "teacher",
    "pocket-base": "base-0.4m",
    "pocket-base-0.1m": "base-0.1m",
    "pocket-base-0.4m": "base-0.4m",
    "pocket-base-1.6m": "base-1.6m",
}
"""Bundled models, name -> folder: the teacher, and base students of three sizes."""


def bundled_directory(name: str) -> Path:
    """The directory of a bundled model; any ``from_pretrained`` loads it."""
    return _WEIGHTS / BUNDLED[name]
