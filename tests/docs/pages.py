"""What the documentation shows: its pages, fenced blocks, and command lines."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cyclopts import App

from codestill.cli import app

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/*.md", "experiments/**/*.md")
    for path in ROOT.glob(pattern)
)
FENCE = re.compile(r"^( *)```(\w*)[^\n`]*\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`(codestill\s[^`]+)`")  # a line may break within it
# RECIPE, FILE.yaml, a|b and ... stand for something that the reader fills in.
PLACEHOLDER = re.compile(r"\b[A-Z]{2,}\b|\||\.\.\.|…|<")


def names(application: App = app, prefix: str = "") -> Iterator[str]:
    """Every command that does something: ``tasks ls``, not ``tasks``."""
    for part in application:
        if not part.startswith("-"):
            inner = [*names(application[part], f"{prefix}{part} ")]
            yield from inner or [f"{prefix}{part}"]


NAMES = tuple(names())


@dataclass(frozen=True)
class Command:
    """A command line without its leading ``codestill``, and the page that shows it."""

    page: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: codestill {shlex.join(self.arguments)}"


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path) -> Iterator[tuple[str, str]]:
    """Language and text of every fenced block."""
    for _, language, text in FENCE.findall(path.read_text(encoding="utf-8")):
        yield language, text


def commands(path: Path) -> Iterator[Command]:
    """Every command line: those in shell blocks, and those in a sentence or table with arguments."""
    for language, text in blocks(path):
        if language in ("", "sh", "bash", "console"):
            for line in text.replace("\\\n", " ").splitlines():
                line = line.removeprefix("$ ")
                if line.startswith("codestill ") and not PLACEHOLDER.search(line.split(" # ")[0]):
                    yield Command(name(path), tuple(shlex.split(line, comments=True)[1:]))
    prose = FENCE.sub("", path.read_text(encoding="utf-8"))
    for line in INLINE.findall(prose):
        arguments = tuple(shlex.split(line)[1:])
        if not PLACEHOLDER.search(line) and " ".join(arguments) not in NAMES:
            yield Command(name(path), arguments)


COMMANDS = tuple(dict.fromkeys(command for page in PAGES for command in commands(page)))
