"""Text on a terminal: what a model, a task file or an error holds is shown, and never obeyed."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

_REPLACEMENT = "\ufffd"
_SHOWN = (
    # Control pictures: ESC is shown as one sign. Newline and tab do no harm.
    {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
    | {0x7F: "\u2421"}
    | dict.fromkeys(range(0x80, 0xA0), _REPLACEMENT)
    # Marks and overrides of the writing direction, separators of lines, halves of surrogate pairs.
    | dict.fromkeys((0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)), _REPLACEMENT)
    | dict.fromkeys(range(0xD800, 0xE000), _REPLACEMENT)
)


def printable(text: str) -> str:
    """The text with a visible sign for each character that would steer a terminal or cannot be encoded."""
    return text.translate(_SHOWN)


class Terminal(Console):
    """A console that shows the text it is given as it stands: no markup, no emoji names, no control codes."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        # Whatever is printed comes through here as segments; rich's own control codes are marked as such.
        for segment in super().render(renderable, options):
            if segment.control or (segment.text.isascii() and segment.text.isprintable()):
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)
