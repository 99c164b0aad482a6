"""A table as text, as HTML and on a terminal."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from rich.cells import cell_len
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from codestill.terminal import Terminal, printable

Line = str | Text
"""Text, which a terminal may colour."""
WIDTH = 100
"""Characters of a line within which a table stays: what does not fit stands below, beside the first
column."""
_BETWEEN = 2
"""Characters between two columns."""
_WHOLE = 10_000
"""Characters of a line on which no cell is wrapped."""


class Tabular:
    """Shows itself as tables: its ``repr`` is text, and notebooks get HTML."""

    def tables(self) -> "Sequence[Table]":
        """The tables, in the order in which they are read."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return "\n\n".join(table.text() for table in self.tables())

    __str__ = __repr__

    def _repr_html_(self) -> str:
        return "\n".join(table.html() for table in self.tables())


@dataclass(frozen=True, repr=False)
class Table(Tabular):
    """Column heads, rows, and the lines around them. Without rows, the heads are left out."""

    head: tuple[str, ...]
    rows: tuple[tuple[Line, ...], ...]
    right: frozenset[str] = frozenset()
    """Columns that are set flush right."""
    above: tuple[Line, ...] = ()
    below: tuple[Line, ...] = ()

    def tables(self) -> "Sequence[Table]":
        return (self,)

    def rich(self, width: int = WIDTH) -> Group:
        """The table without its lines, for a console: of one that is wider several parts, each with the first
        column."""
        first, *others = (self._part(columns) for columns in self._parts(width))
        return Group(first, *(line for part in others for line in ("", part)))

    def _part(self, columns: Sequence[int]) -> RichTable:
        table = RichTable(box=None, pad_edge=False)
        for name in (self.head[column] for column in columns):
            table.add_column(name, justify="right" if name in self.right else "left")
        for row in self.rows:
            table.add_row(*(_shown(row[column]) for column in columns))
        return table

    def _parts(self, limit: int) -> list[list[int]]:
        """The columns of each part. A table of texts, or in which one column alone is too wide, is one part:
        its cells are wrapped."""
        cells = zip(self.head, *self.rows, strict=True)
        widths = [max(cell_len(_plain(cell)) for cell in column) for column in cells]
        texts = any(name not in self.right for name in self.head[2:])
        if texts or any(widths[0] + _BETWEEN + width > limit for width in widths[1:]):
            return [[*range(len(widths))]]
        parts, used = [[0]], widths[0]
        for column, width in enumerate(widths[1:], start=1):
            if used + _BETWEEN + width > limit:
                parts.append([0])
                used = widths[0]
            parts[-1].append(column)
            used += _BETWEEN + width
        return parts

    def text(self) -> str:
        """Plain text, of which no cell is wrapped."""
        out = io.StringIO()
        if self.rows:
            # Also in a notebook, where rich would display what it prints.
            console = Terminal(file=out, width=_WHOLE, color_system=None, force_jupyter=False)
            console.print(self.rich())
        table = [line.rstrip() for line in out.getvalue().splitlines()]
        lines = [*map(_plain, self.above), *table, *map(_plain, self.below)]
        return "\n".join(lines)

    def html(self) -> str:
        """HTML that holds every text as it stands."""
        parts = [_paragraph(line) for line in self.above]
        if self.rows:
            parts += ["<table>", _row("th", self.head, self._styles), "<tbody>"]
            parts += [_row("td", row, self._styles) for row in self.rows]
            parts += ["</tbody></table>"]
        parts += [_paragraph(line) for line in self.below]
        return "\n".join(parts)

    @property
    def _styles(self) -> list[str]:
        return ["right" if name in self.right else "left" for name in self.head]


class Accounting(Tabular, dict[str, float | int | str]):
    """What a run has consumed, by name; the names of a round begin with it."""

    def tables(self) -> Sequence[Table]:
        rows = tuple((name.replace("_", " "), amount(value)) for name, value in self.items())
        return (Table(("consumed", "amount"), rows, frozenset({"amount"})),)


def amount(value: int | float | str) -> str:
    """``1,234``; a fraction with six significant figures; a text as it stands."""
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _shown(line: Line) -> Line:
    """With a sign for what a terminal would obey, before rich measures how wide the text is."""
    if isinstance(line, str):
        return printable(line)
    return Text(printable(line.plain), style=line.style, spans=line.spans)


def _plain(line: Line) -> str:
    return printable(str(line))


def _paragraph(line: Line) -> str:
    text = _plain(line)
    tag = "pre" if "\n" in text else "p"
    return f"<{tag}>{escape(text)}</{tag}>"


def _row(cell: str, values: Sequence[Line], styles: Sequence[str]) -> str:
    cells = "".join(
        f'<{cell} style="text-align: {style}">{escape(_plain(value))}</{cell}>'
        for value, style in zip(values, styles, strict=True)
    )
    row = f"<tr>{cells}</tr>"
    return f"<thead>{row}</thead>" if cell == "th" else row
