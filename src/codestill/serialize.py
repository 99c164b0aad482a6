"""Records to canonical JSON and back; append-only JSONL that survives a kill; fingerprints."""

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from pydantic import BaseModel, ValidationError

from codestill.errors import RunError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

R = TypeVar("R", bound=BaseModel)


def to_json(value: Any) -> str:
    """One line of JSON with sorted keys: equal values give equal bytes.

    Raises TypeError for a value that has no canonical JSON form (NaN and infinity included).
    """
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    try:
        return json.dumps(
            value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain
        )
    except ValueError as error:
        raise TypeError(f"no canonical JSON form: {error}") from error


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
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def write_atomic(path: Path, text: str) -> None:
    """Write the file whole or not at all, also under kill -9."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # One name per thread: several may write the same file at once.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def problem(details: "ErrorDetails", whole: str = "") -> str:
    """``field.subfield: reason`` of one entry of ``ValidationError.errors()``.

    ``whole`` stands for the field where the value as a whole is at fault; empty, the reason stands alone.
    """
    field = ".".join(map(str, details["loc"])) or whole
    return f"{field}: {details['msg']}" if field else details["msg"]


def first_problem(error: ValidationError, whole: str = "") -> str:
    """:func:`problem` of the first thing that is wrong."""
    return problem(error.errors()[0], whole)


def append_jsonl(path: Path, records: Iterable[Any]) -> None:
    """Append one line per record and wait until the disk has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        for record in records:
            stream.write(to_json(record) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def cut_torn_line(path: Path) -> None:
    """Remove a last line that a kill left without its newline."""
    if not path.exists():
        return
    with path.open("rb+") as stream:
        data = stream.read()
        if data and not data.endswith(b"\n"):
            stream.truncate(data.rfind(b"\n") + 1)


def read_jsonl(path: Path, record: type[R]) -> Iterator[R]:
    """The records of a file that :func:`append_jsonl` wrote; a torn last line is skipped.

    Raises RunError, naming file and line, for a whole line that is not such a record.
    """
    with path.open("rb") as stream:  # a kill may have torn the last line within a character
        for number, line in enumerate(stream, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield record.model_validate_json(line)
            except ValidationError as error:
                raise RunError(
                    f"{path}:{number} is not a {record.__name__}: {first_problem(error, 'the line')}",
                    next_step="Delete the file to make it again, or use another run directory.",
                ) from error
