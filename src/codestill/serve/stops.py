"""Where a request ends a text: at its stop strings, or where a block's indentation ends."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stops:
    """What ends an answer besides the model itself."""

    strings: tuple[str, ...] = ()
    """The answer ends before the first that occurs."""
    indent: int = 0
    """White space with which every line after the first must begin; 0 asks for none."""

    def __bool__(self) -> bool:
        return bool(self.strings or self.indent)

    def end(self, text: str) -> int | None:
        """Where the text ends; None where it goes on."""
        ends = [place for string in self.strings if (place := text.find(string)) >= 0]
        if self.indent and (place := self._outside(text)) is not None:
            ends.append(place)
        return min(ends, default=None)

    def ended(self, text: str) -> bool:
        """Whether the text has ended."""
        return self.end(text) is not None

    def cut(self, text: str) -> str:
        """The text up to its end."""
        return text[: self.end(text)]

    def word(self, text: str) -> str:
        """The stop string at which the text ends; empty where it is none."""
        place = self.end(text)
        return next((one for one in self.strings if place is not None and text.startswith(one, place)), "")

    def safe(self, text: str) -> int:
        """How much of a text that goes on can be shown: not what may turn out to begin a stop string, nor a
        line whose indentation is not yet known to suffice."""
        shown = len(text)
        for string in self.strings:
            for length in range(min(len(string) - 1, len(text)), 0, -1):
                if text.endswith(string[:length]):
                    shown = min(shown, len(text) - length)
                    break
        if self.indent:
            line = text.rfind("\n") + 1
            if line and not text[line:].strip(" \t"):
                shown = min(shown, line)
        return shown

    def _outside(self, text: str) -> int | None:
        """The start of the first line after the first that is indented less; a line of white space alone is
        not."""
        place = text.find("\n") + 1
        while place:
            line = text[place:].partition("\n")[0]
            content = line.lstrip(" \t")
            if content and len(line) - len(content) < self.indent:
                return place
            place = text.find("\n", place) + 1
        return None
