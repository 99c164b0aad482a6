"""The folders that were made of GGUF files, kept under the hash of the file that each was made of."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from codestill.errors import ModelError
from codestill.files.cache import cache_directory
from codestill.files.serialize import fingerprint, lock, read_record, sweep, write_object
from codestill.models.gguf.header import Header
from codestill.terminal import Terminal
from codestill.types import Record

FORM = 1  # raised when the same file would be converted differently: folders of another form are not used
_CARD = "gguf.json"
_BLOCK = 8 << 20
_SLOW = "dequantising"
_MOVE = "Make room or set XDG_CACHE_HOME to a directory on another disk."


class Card(Record):
    """Where a folder's weights come from."""

    file: str
    """Name of the GGUF file."""
    sha256: str
    architecture: str
    quantization: str
    """e.g. ``Q4_K_M``."""
    tensor_types: dict[str, int]
    """Type -> number of tensors."""


class _Known(Record):
    """The hash of a file that has not changed since."""

    path: str
    size: int
    changed: int
    """``st_ctime_ns``, which no copy or touch sets back."""
    inode: int
    sha256: str


def store() -> Path:
    """Where the folders are."""
    return cache_directory("gguf")


def folder_of(path: Path) -> Path:
    """The Hugging Face folder of a GGUF file: made once, and found again under the file's SHA-256.

    Safe under kill -9 and with several processes: a folder appears whole, under a lock. Raises ModelError for
    a file that cannot be read (see :class:`Header`), and where the cache cannot be written or is full.
    """
    path = path.absolute()
    try:
        if (known := _remembered(path)) and (folder := _folder(known)).is_dir():
            return folder
        return _made(path)
    except OSError as error:
        raise ModelError(
            f"{path.name} cannot be converted below {store()}: {error.strerror or error}.", next_step=_MOVE
        ) from error


def quantization_of(directory: str | Path) -> str | None:
    """How the weights of a folder were quantised before they were dequantised; None for any other folder or
    hub id. Raises ModelError where the folder's card is damaged."""
    card = Path(directory) / _CARD
    if not card.is_file():
        return None
    step = f"Delete {directory}: it is made again."
    return read_record(card, Card, step, ModelError).quantization


def _folder(sha256: str) -> Path:
    return store() / f"{sha256}.{FORM}"


def _made(path: Path) -> Path:
    from codestill.models.gguf.convert import Conversion  # torch

    with _bar(path.name) as progress:
        progress("reading", 0.0)
        conversion = Conversion(Header.read(path))
        header = conversion.header
        sha256 = _hash(path, lambda part: progress("hashing", part))
        folder = _folder(sha256)
        with _locked(folder):
            if not folder.is_dir():
                _require_room(path, conversion.bytes)
                temporary = folder.with_name(f".{folder.name}.tmp")  # the lock's holder alone writes it
                shutil.rmtree(temporary, ignore_errors=True)
                conversion.write(temporary, lambda part: progress(_SLOW, part))
                card = Card(
                    file=path.name,
                    sha256=sha256,
                    architecture=header.architecture,
                    quantization=header.quantization,
                    tensor_types=header.tensor_types,
                )
                write_object(temporary / _CARD, card, indent=1)
                temporary.rename(folder)
    return folder


def _hash(path: Path, progress: Callable[[float], None]) -> str:
    """The file's SHA-256, remembered beside the folders for as long as the file stays as it is."""
    before = path.stat()
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
            done += len(block)
            progress(done / before.st_size)
    known = _Known(
        path=str(path),
        size=before.st_size,
        changed=before.st_ctime_ns,
        inode=before.st_ino,
        sha256=digest.hexdigest(),
    )
    sweep(store())
    write_object(_memory(path), known)
    return known.sha256


def _remembered(path: Path) -> str | None:
    try:
        known = read_record(_memory(path), _Known, "", ModelError)
    except (OSError, ModelError):
        return None
    now = path.stat()
    same = (known.path, known.size, known.changed, known.inode) == (
        str(path),
        now.st_size,
        now.st_ctime_ns,
        now.st_ino,
    )
    return known.sha256 if same else None


def _memory(path: Path) -> Path:
    return store() / "known" / f"{fingerprint(str(path))}.json"


@contextmanager
def _locked(folder: Path) -> Iterator[IO[str]]:
    """Wait until no other process makes the folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w", encoding="utf-8") as stream:
        while True:
            try:
                lock(stream)
                break
            except OSError:  # still held: dequantising takes as long as it takes
                continue
        yield stream


def _require_room(path: Path, needed: int) -> None:
    free = shutil.disk_usage(store()).free
    if free < needed:
        raise ModelError(
            f"{path.name} dequantised takes {needed / 1e9:.1f} GB; {store()} has {free / 1e9:.1f} GB left.",
            next_step=_MOVE,
        )


@contextmanager
def _bar(name: str) -> Iterator[Callable[[str, float], None]]:
    """On a terminal a bar; elsewhere a line once weights are dequantised."""
    console = Terminal(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    bars = Progress(*columns, console=console, transient=True) if console.is_terminal else None
    with bars or nullcontext():
        task = bars.add_task(name, total=1.0) if bars else None
        said = False

        def show(phase: str, part: float) -> None:
            nonlocal said
            if bars is not None and task is not None:
                bars.update(task, description=f"{name}: {phase}", completed=part)
            elif phase == _SLOW and not said:
                said = True
                console.print(f"{name}: {phase}, once, into {store()}", highlight=False, soft_wrap=True)

        yield show


__all__ = ["FORM", "Card", "folder_of", "quantization_of", "store"]
