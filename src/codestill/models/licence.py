"""Under which licence local weights are published, where that stands beside them."""

from pathlib import Path

UNKNOWN = "unknown"
CARD = "README.md"
_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE")


def licence_of(model: str) -> str:
    """As a GGUF file, the card in a directory, or the first line of a licence file there says;
    :data:`UNKNOWN` where none does. ``model`` is a path, hub id or bundled name; no hub is asked."""
    from huggingface_hub.repocard import metadata_load

    from codestill.models.gguf.header import Header, is_gguf
    from codestill.models.load import resolve

    place = Path(model if Path(model).expanduser().exists() else resolve(model)).expanduser()
    if place.is_file():
        return str(Header.read(place).get("general.license") or UNKNOWN) if is_gguf(place) else UNKNOWN
    if (place / CARD).is_file() and (said := (metadata_load(place / CARD) or {}).get("license")):
        return str(said)
    lines = (line.strip() for line in licence_text(place).splitlines())
    return next(filter(None, lines), UNKNOWN)[:80]


def licence_text(place: Path) -> str:
    """The licence file in a directory; empty where there is none."""
    for name in _FILES:
        if (place / name).is_file():
            return (place / name).read_text(encoding="utf-8", errors="replace")
    return ""
