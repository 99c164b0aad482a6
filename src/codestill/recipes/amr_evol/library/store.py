"""A library on disk, and its search.

    library.json                format, embedder, embedded parts of a function
    0000-seed.jsonl + .npz      functions of a batch, and their embeddings
    0001-wave-1.jsonl + .npz    ...

Batches are written atomically and never rewritten: a library whose process is killed while it grows keeps the
batches it had. Embeddings can be recomputed from the functions.
"""

import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from codestill.embeddings import AnyEmbedderConfig, Embedder, TfidfEmbedderConfig, Vectors, Weighting
from codestill.errors import RunError
from codestill.files.serialize import (
    lock,
    read_jsonl,
    read_record,
    sweep,
    to_json,
    write_atomic,
    write_jsonl,
    write_object,
)
from codestill.recipes.amr_evol.library.functions import Function, Part
from codestill.types import Record

DIGITS = 5
"""Decimals of a cosine: rounding makes equal texts tie, whatever the machine's order of summation."""
_SHA256_BYTES = 32
_REBUILD = (
    "Delete the library's directory, and run the same command again: it is built again from kept answers."
)
_AT_ONCE = 512  # queries embedded and searched together


class LibrarySpec(Record):
    """How a library's functions are embedded."""

    format: Literal[1] = 1
    embedder: AnyEmbedderConfig = TfidfEmbedderConfig()
    parts: tuple[Part, ...] = ("name", "signature", "description")
    """Which parts of a function are embedded."""


@dataclass(frozen=True)
class Hit:
    """A retrieved function."""

    function: Function
    cosine: float


class Library:
    """Functions in the order in which they were added; grows by batches.

    A search covers all batches committed before it.
    """

    def __init__(self, directory: Path, spec: LibrarySpec | None = None) -> None:
        """Open or create the library in ``directory``. Raises RunError if it has another spec."""
        self.directory = directory
        self.spec = _read_spec(directory, spec)
        self.functions: list[Function] = []
        self.batches: dict[str, int] = {}
        """Number of functions by name of the batch."""
        self._embedder: Embedder | None = None
        self._rows: list[Vectors] = []
        self._ready: tuple[Weighting, Any] | None = None
        for path in sorted(directory.glob("[0-9]*-*.jsonl")):
            functions = list(read_jsonl(path, Function, whole=True, next_step=_REBUILD))
            self.functions += functions
            self.batches[path.stem.partition("-")[2]] = len(functions)

    def __len__(self) -> int:
        return len(self.functions)

    def by_key(self) -> dict[str, Function]:
        """Every function by its key."""
        return {function.key: function for function in self.functions}

    def add(self, batch: str, functions: Sequence[Function]) -> None:
        """Commit a batch, possibly empty. Raises ValueError if the library has a batch of that name, RunError
        if another process adds to it, or has added since it was opened."""
        if batch in self.batches:
            raise ValueError(f"the library already has a batch {batch}")
        with self._alone():
            self._load()
            path = self.directory / f"{len(self.batches):04d}-{batch}.jsonl"
            if functions:
                rows = self._encode(functions)
                _write_rows(path.with_suffix(".npz"), rows)
                self._rows.append(rows)
            # The functions last: their file commits the batch.
            write_jsonl(path, functions)
        self.functions += functions
        self.batches[batch] = len(functions)
        self._ready = None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else adds meanwhile, nor has since this library was opened."""
        with (self.directory / ".lock").open("w") as stream:
            try:
                lock(stream)
            except OSError as error:
                raise RunError(
                    f"Another process is adding to {self.directory}.",
                    next_step="Wait for it to finish, or use another directory.",
                ) from error
            if len(list(self._paths())) != len(self.batches):
                raise RunError(
                    f"Another process has added to {self.directory} since it was opened.",
                    next_step="Open it again, or use another directory.",
                )
            sweep(self.directory)
            yield

    def search(self, queries: Sequence[Function], k: int = 1) -> list[list[Hit]]:
        """The ``k`` functions nearest to each query, nearest first, ties in order of addition."""
        if not self.functions or not queries:
            return [[] for _ in queries]
        weigh, index = self._searchable()
        results: list[list[Hit]] = []
        for start in range(0, len(queries), _AT_ONCE):
            rows = weigh(self._encode(queries[start : start + _AT_ONCE]))
            distances_QK, numbers_QK = index.kneighbors(rows, n_neighbors=min(k, len(self.functions)))
            for distances_K, numbers_K in zip(distances_QK.tolist(), numbers_QK.tolist(), strict=True):
                near = [(round(1 - d, DIGITS), n) for d, n in zip(distances_K, numbers_K, strict=True)]
                near.sort(key=lambda pair: (-pair[0], pair[1]))
                results.append([Hit(self.functions[n], cosine) for cosine, n in near])
        return results

    def novel(self, candidates: Sequence[Function], distance: float) -> list[int]:
        """Indices of the candidates whose cosine distance to every function of the library, and to every
        novel candidate before them, exceeds ``distance``."""
        import numpy as np

        if not candidates:
            return []
        nearest = [hits[0].cosine if hits else -1.0 for hits in self.search(candidates)]
        rows = self._encode(candidates)
        weigh = self._searchable()[0] if self.functions else self._built().weigh(rows)
        rows = weigh(rows)
        between = rows @ rows.T  # the candidates are one batch: few enough for all pairs
        between_CC = between if isinstance(between, np.ndarray) else between.toarray()
        kept: list[int] = []
        for number, cosine in enumerate(nearest):
            largest = max([cosine, *between_CC[number, kept].tolist()])
            if round(1 - largest, DIGITS) > distance:
                kept.append(number)
        return kept

    def _searchable(self) -> tuple[Weighting, Any]:
        from sklearn.neighbors import NearestNeighbors

        self._load()
        if self._ready is None:
            rows = _stacked(self._rows)
            self._rows = [rows]
            weigh = self._built().weigh(rows)
            index = NearestNeighbors(metric="cosine", algorithm="brute").fit(weigh(rows))
            self._ready = weigh, index
        return self._ready

    def _built(self) -> Embedder:
        if self._embedder is None:
            self._embedder = self.spec.embedder.build()
        return self._embedder

    def _encode(self, functions: Sequence[Function]) -> Vectors:
        return self._built().encode([function.text(self.spec.parts) for function in functions])

    def _load(self) -> None:
        """Load the embeddings of all batches, computing those that are missing."""
        if self._rows or not self.functions:
            return
        first = 0
        for path, (_, count) in zip(self._paths(), self.batches.items(), strict=True):
            if count:
                rows = _read_rows(path.with_suffix(".npz"), count)
                if rows is None:
                    rows = self._encode(self.functions[first : first + count])
                    _write_rows(path.with_suffix(".npz"), rows)
                self._rows.append(rows)
                first += count

    def _paths(self) -> Iterator[Path]:
        return iter(sorted(self.directory.glob("[0-9]*-*.jsonl")))


def read_library(directory: Path) -> Library:
    """The library in a directory, or of the run in it. Raises RunError if there is none."""
    for place in (directory, directory / "library"):
        if (place / "library.json").exists():
            return Library(place)
    raise RunError(
        f"{directory} contains no function library.",
        next_step="Name a run directory of amr_evol, or the directory that contains library.json.",
    )


def _read_spec(directory: Path, spec: LibrarySpec | None) -> LibrarySpec:
    path = directory / "library.json"
    if not path.exists():
        created = spec or LibrarySpec()
        write_object(path, created)
        return created
    existing = read_record(path, LibrarySpec, _REBUILD)
    if spec is not None and existing != spec:
        raise RunError(
            f"{directory} was built with another embedder, or from other parts: {to_json(existing)}.",
            next_step="Use these settings, or another directory.",
        )
    return existing


def _stacked(parts: list[Vectors]) -> Vectors:
    import numpy as np

    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    from scipy import sparse

    return sparse.vstack(parts, format="csr")


def _write_rows(path: Path, rows: Vectors) -> None:
    import numpy as np
    from scipy import sparse

    content = io.BytesIO()
    if isinstance(rows, np.ndarray):
        np.savez(content, rows=rows)
    else:
        sparse.save_npz(content, rows)
    data = content.getvalue()
    write_atomic(path, data + hashlib.sha256(data).digest())


def _read_rows(path: Path, count: int) -> Vectors | None:
    """The stored embeddings; None if they are missing, damaged or of another number, to be recomputed."""
    import numpy as np
    from scipy import sparse

    content = path.read_bytes() if path.exists() else b""
    data, checksum = content[:-_SHA256_BYTES], content[-_SHA256_BYTES:]
    if not data or hashlib.sha256(data).digest() != checksum:
        return None
    with np.load(io.BytesIO(data)) as arrays:
        rows = arrays.get("rows")
    if rows is None:
        rows = sparse.load_npz(io.BytesIO(data)).tocsr()
    return rows if rows.shape[0] == count else None
