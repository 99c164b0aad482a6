"""What a program prints, where the tests want to have it themselves."""

import contextlib
import io
import sys

_MOST = 4 << 20  # characters sent at once
_NAMES = ("stdout", "stderr")


class Printed:
    """Files in the place of standard output and error, while a request is carried out; they may be nested."""

    def __init__(self, send) -> None:
        self.send = send
        """Takes the number of the stream, and what was printed to it."""
        self.wanted = 0
        """Of standard output (1) and standard error (2)."""
        self.files: list[list[tuple]] = []

    def __enter__(self) -> None:
        files = []
        for place, name in enumerate(_NAMES):
            if self.wanted & 1 << place:
                made = io.TextIOWrapper(io.BytesIO(), "utf-8", "surrogatepass", "\n", write_through=True)
                files.append((place, getattr(sys, name), made))
                setattr(sys, name, made)
        self.files.append(files)

    def __exit__(self, *_: object) -> None:
        self.flush()
        for place, before, _made in self.files.pop():
            setattr(sys, _NAMES[place], before)

    def flush(self) -> None:
        """Tell what has been printed so far."""
        for place, _before, made in self.files[-1] if self.files else ():
            with contextlib.suppress(ValueError):  # the program closed it
                text = made.buffer.getvalue().decode("utf-8", "replace")
                made.seek(0)
                made.truncate()
                for start in range(0, len(text), _MOST):
                    self.send(place, text[start : start + _MOST])
