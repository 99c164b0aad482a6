"""Records to canonical JSON and back, in files that survive a kill and notice damage; fingerprints.

Files are sealed (:mod:`codestill.files.seal`): a byte that has changed since is noticed when they are read.
What UTF-8 cannot hold, half a surrogate pair, is stored as JSON's own escape, so that one such character in
one answer stops nothing.
"""

import hashlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeGuard, TypeVar

from pydantic import BaseModel, ValidationError

from codestill.errors import CodestillError, RunError
from codestill.files.seal import LONGEST_ENDING, digest, seal, unseal

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

R = TypeVar("R", bound=BaseModel)
OTHER_DIRECTORY = "Delete the file to make it again, or use another run directory."


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON with sorted keys, on one line unless indented: equal values give equal bytes.

    Raises TypeError for a value that has no canonical JSON form (NaN and infinity included).
    """
    separators = (",", ":") if indent is None else None
    try:
        if isinstance(value, BaseModel):
            value = value.model_dump(mode="json")
        text = json.dumps(
            value,
            sort_keys=True,
            ensure_ascii=False,
            separators=separators,
            indent=indent,
            allow_nan=False,
            default=_plain,
        )
    except (ValueError, RecursionError) as error:
        raise TypeError(f"no canonical JSON form: {error}") from error
    return encodable(text)


def encodable(text: str) -> str:
    """The text with halves of surrogate pairs as ``\\ud800``, which in JSON is the same character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        # First whole pairs become the characters that they are, as they would when the JSON is read.
        paired = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        return paired.encode(errors="backslashreplace").decode()
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"no canonical JSON form for {type(value).__name__}")


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a value that came from JSON or YAML is an object, that is a dict."""
    return isinstance(value, dict)


def fingerprint(value: Any) -> str:
    """16 hex digits of the SHA-256 of the value's canonical JSON."""
    return hashlib.sha256(to_json(value).encode()).hexdigest()[:16]


def seed_for(seed: int, key: str) -> int:
    """A 63-bit seed that depends on the run's seed and the item's key alone."""
    digest = hashlib.sha256(encodable(f"{seed}\0{key}").encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write the file whole or not at all, also under kill -9 or a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = encodable(content).encode() if isinstance(content, str) else content
    # One name per thread: several may write the same file at once.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        while True:
            with temporary.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            try:
                temporary.replace(path)
                return
            except FileNotFoundError:
                if not path.parent.is_dir():
                    raise  # else a sweep took it for a killed writer's: once more
    finally:
        temporary.unlink(missing_ok=True)


_TEMPORARY = re.compile(r"\..+\.\d+-\d+\.tmp")


def sweep(directory: Path) -> None:
    """Remove what killed writers left below a directory. A living writer whose file goes too writes it again:
    see :func:`write_atomic`."""
    for place, _, names in os.walk(directory):
        for name in filter(_TEMPORARY.fullmatch, names):
            with suppress(OSError):
                Path(place, name).unlink()


LOCK_SECONDS = 2.0


def lock(stream: IO[str], seconds: float = LOCK_SECONDS) -> None:
    """Lock an open file until it is closed. Raises OSError where another process keeps it locked for so many
    seconds: BlockingIOError, except on Windows. Any other says that files cannot be locked there."""
    deadline = time.monotonic() + seconds  # a killed run's last child may hold it for a moment
    while True:
        try:
            return _lock_now(stream)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _lock_now(stream: IO[str]) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_locked(path: Path) -> bool:
    """Whether a process keeps the file locked; False where there is no file, or none can be locked."""
    try:
        with path.open("r+") as stream:
            # Held for a moment: `lock` waits longer than that.
            _lock_now(stream)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def problem(details: "ErrorDetails", whole: str = "") -> str:
    """``field.subfield: reason`` of one entry of ``ValidationError.errors()``.

    ``whole`` stands for the field where the value as a whole is at fault; empty, the reason stands alone.
    """
    field = ".".join(map(str, details["loc"])) or whole
    reason = details["msg"].replace("a valid tuple", "a list")  # as JSON and YAML call it
    return f"{field}: {reason}" if field else reason


def first_problem(error: ValidationError, whole: str = "") -> str:
    """:func:`problem` of the first thing that is wrong."""
    return problem(error.errors()[0], whole)


# sealed files


def write_object(path: Path, value: BaseModel | dict[str, Any], indent: int | None = None) -> None:
    """Write one record, or one object, that :func:`read_record` and :func:`read_object` check."""
    write_atomic(path, sealed(value, indent))


def sealed(value: BaseModel | dict[str, Any], indent: int | None = None) -> str:
    """What :func:`write_object` writes."""
    return seal(to_json(value, indent), last=True) + "\n"


def write_jsonl(path: Path, records: Iterable[Any]) -> None:
    """Write a file of one record per line, whole or not at all."""
    write_atomic(path, sealed_lines(records))


def sealed_lines(records: Iterable[Any], *, whole: bool = True) -> str:
    """One line per record, of a file that is whole or will grow. A whole file without records has one line,
    which holds a checksum alone."""
    lines = [to_json(record) for record in records] or (["{}"] if whole else [])
    sealed: list[str] = []
    previous = ""
    for number, text in enumerate(lines, start=1):
        line = seal(text, previous, last=whole and number == len(lines))
        sealed.append(line + "\n")
        previous = _checksum(line.encode())
    return "".join(sealed)


class Appender:
    """A file of one record per line that grows. For each file there may be one at a time."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("ab+")
        self._stream.seek(max(self._stream.seek(0, os.SEEK_END) - LONGEST_ENDING, 0))
        self._previous = _checksum(self._stream.read().rstrip(b"\n").rpartition(b"\n")[2])

    def write(self, record: Any) -> None:
        """Append a record: a killed process loses nothing, a power cut what is not synced."""
        line = seal(to_json(record), self._previous).encode()
        self._previous = _checksum(line)
        self._stream.write(line + b"\n")
        self._stream.flush()

    def sync(self) -> None:
        """Wait until the disk has everything."""
        os.fsync(self._stream.fileno())

    def __enter__(self) -> "Appender":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def _checksum(line: bytes) -> str:
    found = unseal(line)
    return found[1] if found else ""


_APPENDING = threading.Lock()


def append_jsonl(path: Path, records: Iterable[Any], *, sync: bool = True) -> None:
    """Append one line per record and, unless told otherwise, wait until the disk has them. Threads take
    turns."""
    with _APPENDING, Appender(path) as file:
        for record in records:
            file.write(record)
        if sync:
            file.sync()


def cut_torn_line(path: Path) -> None:
    """Remove a last line that a kill left without its newline."""
    if not path.exists():
        return
    with path.open("rb+") as stream:
        data = stream.read()
        start = data.rfind(b"\n") + 1
        if start < len(data) and not _lost_newline(data[start:]):
            stream.truncate(start)


def _lost_newline(tail: bytes) -> bool:
    """Whether a whole line's newline has become another byte: no kill leaves that, so it is damage."""
    return unseal(tail[:-1]) is not None


def read_jsonl(
    path: Path, record: type[R], *, whole: bool = False, next_step: str = OTHER_DIRECTORY
) -> Iterator[R]:
    """The records of a file of one per line; a torn last line is skipped.

    ``whole``: the file is finished, and a cut is damage. Raises RunError, naming file and line, for a line
    that is damaged or no such record.
    """
    damage = _Damage(path, next_step)
    previous, ended = "", False
    for number, line in enumerate(_lines_of(path, damage), start=1):
        if ended:
            raise damage("goes on after its end", number)
        if not line.endswith(b"\n") and not whole and not _lost_newline(line):
            return
        found = unseal(line.removesuffix(b"\n")) if line.endswith(b"\n") else None
        if found is None:
            raise damage.without_checksum(number)
        head, checksum = found
        ended = checksum == digest(head, previous, last=True)
        if not ended and checksum != digest(head, previous):
            raise damage("does not fit its checksum, or the line before it", number)
        previous = checksum
        if not (ended and number == 1 and head == b"{"):
            yield _validated(record, head, damage, number)
    if whole and not ended:
        raise damage("is cut: its last line is missing")


def read_object(
    path: Path,
    next_step: str = OTHER_DIRECTORY,
    error: type[CodestillError] = RunError,
    *,
    unsealed: bool = False,
) -> dict[str, Any]:
    """The object that :func:`write_object` wrote. Raises RunError, or ``error``, where a byte has changed.

    ``unsealed``: one without a checksum is taken as it is; the caller must refuse unknown keys.
    """
    damage = _Damage(path, next_step, error)
    return _parsed(_head(path, damage, unsealed), damage)


def read_record(
    path: Path, record: type[R], next_step: str = OTHER_DIRECTORY, error: type[CodestillError] = RunError
) -> R:
    """The record that :func:`write_object` wrote. Raises RunError, or ``error``, where a byte has changed."""
    damage = _Damage(path, next_step, error)
    return _validated(record, _head(path, damage), damage)


class _Damage:
    """The error for a file that cannot be believed."""

    def __init__(self, path: Path, next_step: str, error: type[CodestillError] = RunError) -> None:
        self.path, self.next_step, self.error = path, next_step, error

    def __call__(self, what: str, line: int | None = None) -> CodestillError:
        place = self.path if line is None else f"{self.path}:{line}"
        return self.error(f"{place} {what}.", next_step=self.next_step)

    def without_checksum(self, line: int | None = None) -> CodestillError:
        return self("does not end with a checksum: it is damaged, or an earlier version wrote it", line)


def _lines_of(path: Path, damage: _Damage) -> Iterator[bytes]:
    try:
        with path.open("rb") as stream:
            yield from stream
    except FileNotFoundError:
        raise
    except OSError as error:
        raise damage(f"cannot be read: {error.strerror}") from error


def _head(path: Path, damage: _Damage, unsealed: bool = False) -> bytes:
    text = b"".join(_lines_of(path, damage))
    if unsealed and text.endswith(b"}\n") and b'"checksum"' not in text:
        return text[:-2]
    found = unseal(text[:-1]) if text.endswith(b"\n") else None
    if found is None:
        raise damage.without_checksum()
    if found[1] != digest(found[0], last=True):
        raise damage("is damaged: it does not fit its checksum")
    return found[0]


def _parsed(head: bytes, damage: _Damage, line: int | None = None) -> dict[str, Any]:
    try:
        value = json.loads(head + b"}")
    except (ValueError, RecursionError) as error:
        raise damage(f"is not JSON: {error}", line) from error
    if not is_object(value):
        raise damage("is not a JSON object", line)
    return value


def _validated(record: type[R], head: bytes, damage: _Damage, line: int | None = None) -> R:
    try:
        if b"\\ud" in head:  # pydantic's own parser refuses half surrogate pairs
            return record.model_validate(_parsed(head, damage, line))
        return record.model_validate_json(head + b"}")
    except ValidationError as error:
        what = f"is not a {record.__name__}: {first_problem(error, 'the line' if line else 'the file')}"
        raise damage(what, line) from error
