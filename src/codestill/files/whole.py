"""A directory that is there as a whole, or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(directory: Path) -> Iterator[Path]:
    """An empty place beside ``directory`` to write into, which takes its place when all is written. What it
    replaces is called ``.<name>.old`` between two renames."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = directory.with_name(f".{directory.name}.tmp")
    replaced = directory.with_name(f".{directory.name}.old")
    for left_over in (temporary, replaced):
        shutil.rmtree(left_over, ignore_errors=True)
    temporary.mkdir()
    yield temporary
    if directory.exists():
        directory.rename(replaced)
    temporary.rename(directory)
    shutil.rmtree(replaced, ignore_errors=True)
