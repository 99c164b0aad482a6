"""Checksums within files of JSON and text: a changed byte is noticed when the file is read.

    {"key":"t#0","text":"...","checksum":"0123456789abcdef"}

A line's checksum covers the line and the checksum before it, so lines that are lost, repeated or exchanged
are noticed too. The last line of a file that is written whole is sealed as the last, so a cut is noticed. A
file that holds one object is such a last line, whatever its layout. Plain text ends with a comment.
"""

import hashlib
import re

LONGEST_ENDING = 64
"""No more bytes than this hold an object's checksum."""
_ENDING = re.compile(rb',?(?:\n )?"checksum": ?"([0-9a-f]{16})"\n?\}\Z')
_COMMENT = re.compile(r"^# checksum: ([0-9a-f]{16})\n\Z", re.MULTILINE)


def seal(text: str, previous: str = "", *, last: bool = False) -> str:
    """The JSON of an object, with the checksum as its last key."""
    head = text.rstrip().removesuffix("}").rstrip().encode()
    return _sealed(head, digest(head, previous, last=last)).decode()


def unseal(line: bytes) -> tuple[bytes, str] | None:
    """The object without its last brace and key, and its checksum, unchecked; None where there is none."""
    found = _ENDING.search(line, max(len(line) - LONGEST_ENDING, 0))
    if found is None:
        return None
    head, checksum = line[: found.start()], found[1].decode()
    return (head, checksum) if _sealed(head, checksum) == line else None


def digest(head: bytes, previous: str = "", *, last: bool = False) -> str:
    """16 hex digits over an object without its last brace, and what comes before it."""
    # No object begins with "." or a digit: the three cannot be taken for each other.
    return hashlib.sha256(previous.encode() + (b"." if last else b"") + head).hexdigest()[:16]


def _sealed(head: bytes, checksum: str) -> bytes:
    comma = b"" if head == b"{" else b","
    before, after, space = (b"\n ", b"\n", b" ") if b"\n" in head else (b"", b"", b"")
    return b"".join((head, comma, before, b'"checksum":', space, b'"', checksum.encode(), b'"', after, b"}"))


def seal_text(text: str) -> str:
    """Text that ends with a newline, with its checksum as a comment after it."""
    return f"{text}# checksum: {digest(text.encode(), last=True)}\n"


def unseal_text(text: str) -> str | None:
    """What :func:`seal_text` was given; None where a byte differs, or there is no checksum."""
    found = _COMMENT.search(text)
    plain = text[: found.start()] if found else ""
    return plain if found and found[1] == digest(plain.encode(), last=True) else None
