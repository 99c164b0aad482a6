"""The folders that were made of GGUF files, kept under the hash of the file that each was made of."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from codestill.errors import ModelError
from codestill.files.cache import cache_directory
from codestill.files.serialize import fingerprint, lock, read_record, sweep, write_object
from codestill.models.gguf.header import Header
from codestill.terminal import Terminal
from codestill.types import Record

if TYPE_CHECKING:
    from codestill.models.gguf.convert import Conversion

FORM = 1  # raised when the same file would be converted differently: folders of another form are not used
_CARD = "gguf.json"
_BLOCK = 8 << 20
_SLOW = "dequantising"
_TEMPORARY = ".tmp"
_TRIES = 3
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
    a file that cannot be read (see :class:`Header`) or that changes meanwhile, and where the cache cannot be
    written or is full.
    """
    path = path.absolute()
    try:
        if (known := _remembered(path)) and (folder := _folder(known)).is_dir():
            return folder
        with _bar(path.name) as progress:
            for _ in range(_TRIES):
                if (folder := _made(path, progress)) is not None:
                    return folder
    except Exception as error:
        # What is written in Rust raises errors of its own, which quote the system's.
        if not isinstance(error, OSError) and "(os error " not in str(error):
            raise
        reason = getattr(error, "strerror", None) or error
        raise ModelError(
            f"{path.name} cannot be converted below {store()}: {reason}.", next_step=_MOVE
        ) from error
    raise ModelError(
        f"{path.name} changes while it is read.",
        next_step="Wait until it is written, and run the same command again.",
    )


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


def _made(path: Path, progress: Callable[[str, float], None]) -> Path | None:
    """The folder of the file as it is now; None if the file was changed or replaced meanwhile."""
    from codestill.models.gguf.convert import Conversion  # torch

    progress("reading", 0.0)
    state = _state(path)
    conversion = Conversion(Header.read(path))
    sha256 = _hash(path, lambda part: progress("hashing", part))
    if _state(path) != state:
        return None
    _remember(path, state, sha256)
    folder = _folder(sha256)
    made = folder.is_dir() or _write(folder, path, state, conversion, progress)
    return folder if made else None


def _write(
    folder: Path,
    path: Path,
    state: "_State",
    conversion: "Conversion",
    progress: Callable[[str, float], None],
) -> bool:
    """Make the folder, unless another process does. False if the file has changed since ``state``."""
    progress("waiting for another process", 0.0)
    with _locked(folder) as locked:
        if folder.is_dir():
            return True
        # The lock's holder alone writes it; without a lock it is nobody else's.
        temporary = folder.with_name(f".{folder.name}{'' if locked else f'.{uuid4().hex}'}{_TEMPORARY}")
        shutil.rmtree(temporary, ignore_errors=True)
        _sweep()
        _require_room(path, conversion.bytes)
        try:
            conversion.write(temporary, lambda part: progress(_SLOW, part))
            if _state(path) != state:
                return False
            header = conversion.header
            card = Card(
                file=path.name,
                sha256=folder.name.partition(".")[0],
                architecture=header.architecture,
                quantization=header.quantization,
                tensor_types=header.tensor_types,
            )
            write_object(temporary / _CARD, card, indent=1)
            try:
                temporary.rename(folder)
            except OSError:
                if not folder.is_dir():  # without locks, another process may have been faster
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return True


_State = tuple[int, int, int, int]


def _state(path: Path) -> _State:
    """What changes when a file is written or replaced."""
    now = path.stat()
    return now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino


def _hash(path: Path, progress: Callable[[float], None]) -> str:
    size = path.stat().st_size
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
            done += len(block)
            progress(done / max(size, done))
    return digest.hexdigest()


def _remember(path: Path, state: _State, sha256: str) -> None:
    """Keep the hash for as long as the file stays as it is, if the cache can be written."""
    size, _, changed, inode = state
    with suppress(OSError):
        sweep(store())
        write_object(
            _memory(path), _Known(path=str(path), size=size, changed=changed, inode=inode, sha256=sha256)
        )


def _remembered(path: Path) -> str | None:
    try:
        known = read_record(_memory(path), _Known, "", ModelError)
    except (OSError, ModelError):
        return None
    size, _, changed, inode = _state(path)
    same = (known.path, known.size, known.changed, known.inode) == (str(path), size, changed, inode)
    return known.sha256 if same else None


def _memory(path: Path) -> Path:
    return store() / "known" / f"{fingerprint(str(path))}.json"


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Wait until no other process makes the folder. False where files cannot be locked, as on some network
    disks."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w", encoding="utf-8") as stream:
        while True:
            try:
                lock(stream)
            except BlockingIOError:  # still held: dequantising takes as long as it takes
                continue
            except OSError:
                yield False
            else:
                yield True
            return


def _sweep() -> None:
    """Remove what killed conversions left. One that goes on holds its lock."""
    for left in store().glob(f".*{_TEMPORARY}"):
        lock_file = left.with_suffix(".lock")
        with suppress(OSError), lock_file.open("r+", encoding="utf-8") as stream:
            lock(stream, seconds=0)
            shutil.rmtree(left, ignore_errors=True)


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
