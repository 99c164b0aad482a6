"""The pocket world: small Python tasks without end, and the models bundled to solve them.

Tasks compose a few dozen operations on lists, strings, words and integers. A split by composition
holds out pairs of operations that no training task ever puts together.
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
"""Names of bundled models, and their folders: the teacher, and the ladder of base students."""


def bundled_directory(name: str) -> Path:
    """Where a bundled model lies; any ``from_pretrained`` loads it."""
    return _WEIGHTS / BUNDLED[name]
