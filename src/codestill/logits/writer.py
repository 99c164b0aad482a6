"""Capture: sequences are added, shards appear whole, the manifest comes last."""

import itertools
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO, Self

from codestill.errors import LogitsError
from codestill.files.serialize import fingerprint, lock, read_record, sweep, write_object
from codestill.logits.files import ShardFile, write_whole
from codestill.logits.manifest import CacheManifest, CaptureSpec, Expectation, MeasuredError
from codestill.logits.rows import CapturedRows
from codestill.logits.shard import Layout, assemble, digest

CAPTURE, MANIFEST = "capture.json", "manifest.json"

CAPTURE_AGAIN = (
    f"Delete {MANIFEST} and {CAPTURE}, and capture again with the same settings: every shard is kept."
)
SHARD_TOKENS = 65_536
"""Scored tokens per shard: the most that a kill can cost a writer."""


class LogitWriter:
    """One of the processes that fill a cache.

    with LogitWriter.open(directory, spec, part=rank) as writer:
        for tokens, prompt_length in owed(writer.stored):
            writer.add(tokens, prompt_length, rows)
    finish(directory)

    A shard is written when it holds ``shard_tokens`` scored tokens, the last one on :meth:`close`. Leaving
    the block by an exception writes nothing: however a capture is interrupted, its continuation gives the
    shards of an uninterrupted one.
    """

    def __init__(
        self, directory: Path, spec: CaptureSpec, part: int, shard_tokens: int, lock_file: IO[str]
    ) -> None:
        self.directory, self.spec, self.part = directory, spec, part
        self._lock_file = lock_file
        self._shard_tokens, self._layout = shard_tokens, Layout.of(spec)
        self._index: list[tuple[str, int, int, int]] = []
        self._records: list[bytes] = []
        self._tokens = 0
        files = stored_shards(directory, spec)
        self._stored = {name for file in files for name in file.digests}
        self._taken = {file.path.name for file in files}

    @classmethod
    def open(
        cls,
        directory: str | Path,
        spec: CaptureSpec,
        part: int = 0,
        shard_tokens: int = SHARD_TOKENS,
    ) -> Self:
        """Start or continue part ``part`` of the capture in ``directory``; no two processes share a part.

        Raises LogitsError when another writer has the part, when the directory holds a capture by another
        spec, naming what differs, or a damaged shard.
        """
        directory = Path(directory)
        settle_spec(directory, spec)
        lock_file = (directory / f".part-{part:03d}.lock").open("w")
        try:
            lock(lock_file)
        except OSError as error:
            lock_file.close()
            raise LogitsError(
                f"another process writes part {part} of {directory}",
                next_step="Wait for it to end, or give every writer process a part number of its own.",
            ) from error
        sweep(directory)
        try:
            return cls(directory, spec, part, shard_tokens, lock_file)
        except BaseException:
            lock_file.close()
            raise

    @property
    def stored(self) -> frozenset[str]:
        """Digests of the sequences on disk when this writer was opened, of every part, and of those added."""
        return frozenset(self._stored)

    def __contains__(self, name: str) -> bool:
        return name in self._stored

    def add(self, tokens: Sequence[int], prompt_length: int, rows: CapturedRows) -> str:
        """Add one sequence and return its digest; a sequence that is stored already is not added again.

        ``rows``: one per token after the prompt, in order. Raises LogitsError when they do not fit, or when
        the capture is finished; VocabularyError for an id beyond the vocabulary.
        """
        name = digest(tokens, prompt_length)
        if name in self._stored:
            return name
        if (self.directory / MANIFEST).exists():
            raise LogitsError(
                f"{self.directory} is finished and does not hold this sequence",
                next_step="Capture the new data into another directory.",
            )
        self._records.append(self._layout.encode(tokens, prompt_length, rows))
        self._index.append((name, len(tokens), prompt_length, len(rows.ids_E)))
        self._stored.add(name)
        self._tokens += len(rows)
        if self._tokens >= self._shard_tokens:
            self._write()
        return name

    def close(self) -> None:
        """Write the sequences still in memory, as the part's last shard."""
        if self._records:
            self._write()

    def release(self) -> None:
        """Let another process write this part."""
        self._lock_file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            self.release()

    def _write(self) -> None:
        # The first free number: a shard that was deleted as damaged is replaced.
        names = (f"part-{self.part:03d}-{number:05d}.logits" for number in itertools.count())
        name = next(name for name in names if name not in self._taken)
        write_whole(self.directory / name, assemble(self.spec, self._index, self._records))
        self._taken.add(name)
        self._index, self._records, self._tokens = [], [], 0


def settle_spec(directory: Path, spec: CaptureSpec) -> None:
    """Store the spec that all writers share; raises LogitsError where the directory has another."""
    path = directory / CAPTURE
    if not path.exists():
        write_object(path, spec)
    stored = read_spec(directory)
    Expectation(**{name: getattr(spec, name) for name in CaptureSpec.model_fields}).check(
        stored, str(directory)
    )
    if stored.temperatures != spec.temperatures:  # a reader may expect fewer; a writer may not
        raise LogitsError(
            f"{directory} captures temperatures {list(stored.temperatures)}, not {list(spec.temperatures)}",
            next_step="Capture into another directory, or with the same temperatures.",
        )


def read_spec(directory: Path) -> CaptureSpec:
    """The spec of a capture, finished or not. Raises LogitsError where there is none."""
    path = directory / CAPTURE
    if not path.exists():
        raise LogitsError(
            f"{directory} holds no capture: {CAPTURE} is missing",
            next_step="Open a LogitWriter there first, or name the right directory.",
        )
    return read_record(path, CaptureSpec, CAPTURE_AGAIN, LogitsError)


def stored_shards(directory: Path, spec: CaptureSpec) -> list[ShardFile]:
    """Every shard of a capture, by name. Raises LogitsError naming one that is damaged."""
    return [ShardFile(path, spec) for path in sorted(directory.glob("part-*.logits"))]


def finish(
    directory: str | Path,
    error: Sequence[MeasuredError] = (),
    expected_digests: Collection[str] | None = None,
    positions: int | None = None,
) -> CacheManifest:
    """Write the manifest over the shards of all parts, once every writer is closed. ``positions`` is the
    teacher's longest sequence.

    A finished cache is left as it is. Raises LogitsError when sequences of ``expected_digests`` are missing,
    or a shard is damaged.
    """
    directory = Path(directory)
    path = directory / MANIFEST
    if path.exists():
        return read_record(path, CacheManifest, CAPTURE_AGAIN, LogitsError)
    spec = read_spec(directory)
    files = stored_shards(directory, spec)
    digests = sorted({name for file in files for name in file.digests})
    missing = set(expected_digests or ()) - set(digests)
    if missing:
        raise LogitsError(
            f"{directory} lacks {len(missing):,} of {len(set(expected_digests or ())):,} sequences",
            next_step="Run the capture again: what is stored is not captured twice.",
        )
    manifest = CacheManifest(
        **{name: getattr(spec, name) for name in CaptureSpec.model_fields},
        data=fingerprint(digests),
        sequences=len(digests),
        tokens=sum(file.rows for file in files),
        entries=sum(file.entries for file in files),
        bytes=sum(int(file.ends[-1]) for file in files),
        shards=tuple(file.entry() for file in files),
        positions=positions,
        error=tuple(error),
    )
    sweep(directory)
    for lock_file in directory.glob(".part-*.lock"):
        lock_file.unlink()
    write_object(path, manifest)
    return manifest
