"""Reading: random access by sequence, in a cache that is checked against the reader's expectations."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from codestill.errors import LogitsError
from codestill.files.serialize import fingerprint, read_record
from codestill.logits.files import ShardFile
from codestill.logits.manifest import CacheManifest, Expectation
from codestill.logits.rows import SparseRows
from codestill.logits.shard import INDEX, Layout
from codestill.logits.writer import CAPTURE_AGAIN, MANIFEST
from codestill.types import TailRule


class LogitCache:
    """A finished cache. Shards are mapped into memory; a batch decodes the rows it needs and no others."""

    def __init__(self, directory: Path, manifest: CacheManifest, files: Sequence[ShardFile]) -> None:
        self.directory, self.manifest = directory, manifest
        self._files = files
        self._layout = Layout.of(manifest)
        self._places: dict[str, tuple[int, int]] = {}
        for number, file in enumerate(files):
            for position, name in enumerate(file.digests):
                self._places.setdefault(name, (number, position))

    @classmethod
    def open(cls, directory: str | Path, expected: Expectation | None = None) -> Self:
        """Open a finished cache.

        Raises LogitsError when the capture is unfinished, when the cache is not what is ``expected`` (every
        field that differs is named), or when a shard is missing, cut or not the manifest's.
        """
        directory = Path(directory)
        manifest = read_manifest(directory)
        if expected is not None:
            expected.check(manifest, str(directory))
        files = []
        for entry in manifest.shards:
            try:
                file = ShardFile(directory / entry.name, manifest)
            except FileNotFoundError as error:
                raise LogitsError(
                    f"{directory / entry.name} is missing",
                    next_step=f"Restore it, or delete {MANIFEST} and capture again: the rest is kept.",
                ) from error
            if file.entry() != entry:
                raise LogitsError(
                    f"{directory / entry.name} is not the file that the manifest names",
                    next_step=f"Restore it, or delete {MANIFEST} and finish the capture again.",
                )
            files.append(file)
        cache = cls(directory, manifest, files)
        found = fingerprint(sorted(cache._places))
        if found != manifest.data:
            raise LogitsError(
                f"{directory} holds sequences of fingerprint {found}, its manifest says {manifest.data}",
                next_step=f"Delete {MANIFEST} and finish the capture again.",
            )
        return cache

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def require(self, temperature: float, rule: TailRule = "bucket") -> None:
        """Raises LogitsError, saying what can be served, for a temperature or tail rule that cannot be."""
        if temperature not in self.manifest.temperatures:
            served = ", ".join(f"{temperature:g}" for temperature in self.manifest.temperatures)
            why = (
                " (a server gave only the most likely tokens, so the tail's mass is known only at 1)"
                if self.manifest.support is not None
                else ""
            )
            raise LogitsError(
                f"{self.directory} cannot serve temperature {temperature:g}: it holds {served}{why}",
                next_step=f"Train at one of {served}, or capture at {temperature:g}.",
            )
        if rule not in self.manifest.tail_rules:
            served = ", ".join(self.manifest.tail_rules)
            why, step = "it holds no tail samples", f"Choose one of {served}, or capture with `tail_samples`."
            if self.manifest.source == "answers":
                why, step = "positions that were not listed need a tail", "Use the tail rule `bucket`."
            raise LogitsError(f"{self.directory} cannot serve the tail rule {rule}: {why}", next_step=step)

    def targets(self, digests: Sequence[str], temperature: float) -> SparseRows:
        """The rows of some sequences at one temperature, concatenated in the order given.

        Raises LogitsError for a temperature that is not captured, a sequence that is not stored, and a
        damaged shard, each by name.
        """
        self.require(temperature)
        records, entries = [], []
        for name in digests:
            record, entry = self._record(name)
            records.append(record)
            entries.append(entry)
        return self._layout.decode(records, np.array(entries, dtype=INDEX), temperature)

    def has_event(self, name: str) -> NDArray[np.bool_]:
        """Whether each row of a sequence is a distribution; others say nothing. Raises LogitsError when it is
        not stored."""
        rows = self.targets([name], self.manifest.temperatures[0])
        return np.asarray(np.isfinite(rows.log_probabilities_NK).any(axis=1))

    def tokens(self, name: str) -> tuple[list[int], int]:
        """(token ids, prompt length) of a sequence. Raises LogitsError when it is not stored."""
        record, entry = self._record(name)
        return self._layout.tokens(record, int(entry["length"])).tolist(), int(entry["prompt_length"])

    def verify(self) -> None:
        """Read every byte. Raises LogitsError naming a shard that is damaged."""
        for file in self._files:
            for position in range(len(file.index)):
                file.record(position)

    def _record(self, name: str) -> tuple[NDArray[np.uint8], np.void]:
        place = self._places.get(name)
        if place is None:
            raise LogitsError(
                f"{self.directory} does not hold sequence {name}",
                next_step="Capture the same examples, with the same tokenizer and prompt, as are trained on.",
            )
        file = self._files[place[0]]
        return file.record(place[1]), file.index[place[1]]


def read_manifest(directory: Path) -> CacheManifest:
    """Raises LogitsError when there is none, or it is not one of this version."""
    path = directory / MANIFEST
    if not path.exists():
        shards = len(list(directory.glob("part-*.logits")))
        raise LogitsError(
            f"{directory} is no finished cache: it has {shards} shards and no {MANIFEST}",
            next_step="Run the capture again to continue it, or name the right directory.",
        )
    return read_record(path, CacheManifest, CAPTURE_AGAIN, LogitsError)
