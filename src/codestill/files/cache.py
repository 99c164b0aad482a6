"""Where files are kept from one run to the next."""

import os
from pathlib import Path


def cache_directory(name: str) -> Path:
    """``codestill/<name>`` in the user's cache directory: XDG_CACHE_HOME, or else ``~/.cache``."""
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # no home, so nothing is kept: no file can be made below a device
        base = os.devnull
    return Path(base) / "codestill" / name
