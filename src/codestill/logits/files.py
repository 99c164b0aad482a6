"""Shard files on disk: written whole or not at all, checked when they are read."""

import zlib
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codestill.errors import LogitsError
from codestill.files.serialize import write_atomic
from codestill.logits.manifest import CaptureSpec, ShardEntry
from codestill.logits.shard import HEAD, INDEX, MAGIC, Layout, scored_positions, spec_mark

_REPAIR = "Delete it and manifest.json, and capture again: only its sequences are captured again."


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, also under kill -9 or a power cut.

    Raises LogitsError when the file exists: another writer has the same part.
    """
    if path.exists():
        raise LogitsError(
            f"{path} exists: another process writes the same part",
            next_step="Give every writer process a part number of its own.",
        )
    write_atomic(path, data)


class ShardFile:
    """A shard whose head and index were checked; each record is checked when it is read.

    Raises LogitsError, naming the file, where bytes are missing or differ from what was written, and where it
    belongs to another capture.
    """

    def __init__(self, path: Path, spec: CaptureSpec) -> None:
        self.path, self.layout = path, Layout.of(spec)
        with path.open("rb") as stream:
            head = stream.read(HEAD.itemsize)
            if len(head) < HEAD.itemsize or head[: len(MAGIC)] != MAGIC:
                raise self._damage("does not begin as a shard does")
            fields = np.frombuffer(head, dtype=HEAD)[0]
            length = INDEX.itemsize * int(fields["sequences"])
            if length > path.stat().st_size:
                raise self._damage("names more sequences than it can hold")
            table = stream.read(length)
            check = stream.read(4)
        self.checksum = zlib.crc32(head + table)
        if check != self.checksum.to_bytes(4, "little"):
            raise self._damage("has a damaged or cut index")
        if fields["spec"].tobytes() != spec_mark(spec):
            raise LogitsError(
                f"{path} belongs to another capture than the cache that it is in",
                next_step="Move it back to its own directory.",
            )
        self.index: NDArray[np.void] = np.frombuffer(table, dtype=INDEX)
        lengths, prompts, entries = (
            self.index[name].tolist() for name in ("length", "prompt_length", "entries")
        )
        rows = [scored_positions(*pair) for pair in zip(lengths, prompts, strict=True)]
        sizes = [self.layout.ends(*numbers).samples for numbers in zip(lengths, rows, entries, strict=True)]
        front = len(head) + len(table) + len(check)
        self.ends: NDArray[np.int64] = front + np.cumsum([0, *sizes], dtype=np.int64)
        self.rows, self.entries = sum(rows), sum(entries)
        if path.stat().st_size != self.ends[-1]:
            raise self._damage(f"has {path.stat().st_size:,} bytes, and its index says {self.ends[-1]:,}")

    @property
    def digests(self) -> list[str]:
        """The sequences, in the order of the file."""
        names = self.index["digest"].tobytes().hex()
        return [names[start : start + 32] for start in range(0, len(names), 32)]

    def entry(self) -> ShardEntry:
        """Its entry in the manifest."""
        return ShardEntry(
            name=self.path.name,
            bytes=int(self.ends[-1]),
            sequences=len(self.index),
            checksum=self.checksum,
        )

    def record(self, position: int) -> NDArray[np.uint8]:
        """The bytes of one sequence."""
        record = self._data[self.ends[position] : self.ends[position + 1]]
        if zlib.crc32(record.data) != self.index[position]["crc"]:
            raise self._damage(f"is damaged at sequence {position}")
        return record

    @cached_property
    def _data(self) -> NDArray[np.uint8]:
        return np.asarray(np.memmap(self.path, dtype=np.uint8, mode="r"))

    def _damage(self, what: str) -> LogitsError:
        return LogitsError(f"{self.path} {what}", next_step=_REPAIR)
