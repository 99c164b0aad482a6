"""Drawing for a page with two colour schemes: matplotlib figures and small marks as inline SVG.

matplotlib draws with stand-in colours; each becomes a CSS variable of the page, so that one drawing
serves light, dark and print. Text stays text and takes the page's font.
"""

import io
import re
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from codestill.types import Interval

INK, MUTED, GRID, PAPER, TEACHER = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper", TEACHER: "teacher"}
FONT_SIZE = 11.0
CHARACTER = 6.1
"""Width of a character at that size, on average."""
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": FONT_SIZE,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 3,
    "xtick.minor.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


def arm_colour(number: int) -> str:
    """The stand-in for the page's variable ``--arm-<number>``."""
    return f"#06{number // 256:02x}{number % 256:02x}"


def css_colour(stand_in: str) -> str:
    """What a stand-in becomes in the page."""
    if stand_in in _VARIABLES:
        return f"var(--{_VARIABLES[stand_in]})"
    return f"var(--arm-{int(stand_in[3:], 16)})"


def style() -> Any:
    """A context in which figures are made and rendered."""
    return rc_context(_STYLE)


def axes(width: float, height: float, x_label: str, y_label: str, right: float = 12.0) -> tuple[Figure, Axes]:
    """A figure of ``width`` x ``height`` units with one axes; ``right`` is room for direct labels."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    left, bottom, top = 40.0, 36.0, 24.0
    plot = figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    )
    figure.text(2 / width, 1 - 12 / height, y_label, color=MUTED)
    figure.text(1 - right / width, 3 / height, x_label, color=MUTED, ha="right")
    return figure, plot


def in_percent(plot: Axes) -> None:
    """Shares from 0 up on the y axis, in percent."""
    plot.set_ylim(bottom=0.0)
    plot.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.3g}%"))


def to_svg(figure: Figure, name: str, alt: str) -> Markup:
    """The figure as an ``<svg>`` element; ``name`` makes its ids unique on the page."""
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": name}):
        nothing = {"Creator": None, "Date": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    view_box = re.search(r'viewBox="([^"]+)"', text)
    assert view_box is not None  # matplotlib always writes one
    body = text[text.index(">") + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'(<g) id="[^"]*"', r"\1", body)
    body = body.replace("xlink:href", "href")
    body = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", body)
    body = re.sub(r"#0[1-6][0-9a-f]{4}\b", lambda match: css_colour(match.group()), body)
    body = re.sub(r"\n\s*", "\n", body)
    label = escape(alt)
    return Markup(f'<svg class="plot" viewBox="{view_box.group(1)}" role="img" aria-label="{label}">{body}')


def end_labels(plot: Axes, labels: Sequence[tuple[float, str, str]]) -> None:
    """Names at the right edge beside the ends of their lines, pushed apart where they would overlap.

    ``labels`` are (y in data units, text, colour).
    """
    gap = FONT_SIZE + 2
    plot.autoscale_view()  # else the limits are set only while drawing
    box = plot.get_window_extent()
    wanted = sorted(
        (float(plot.transData.transform((1.0, y))[1]), text, colour) for y, text, colour in labels
    )
    # Blocks of touching labels, each centred on where its labels want to be.
    blocks: list[list[tuple[float, str, str]]] = []
    for label in wanted:
        blocks.append([label])
        while len(blocks) > 1 and _bottom(blocks[-1], gap) < _top(blocks[-2], gap) + gap:
            last = blocks.pop()
            blocks[-1] += last
    for block in blocks:
        y = min(max(_bottom(block, gap), box.y0), box.y1 - gap * (len(block) - 1))
        for _, text, colour in block:
            plot.annotate(
                text,
                (box.x1 + 6, y),
                xycoords="figure pixels",
                color=colour,
                va="center",
                annotation_clip=False,
            )
            y += gap


def _bottom(block: list[tuple[float, str, str]], gap: float) -> float:
    return sum(y for y, _, _ in block) / len(block) - gap * (len(block) - 1) / 2


def _top(block: list[tuple[float, str, str]], gap: float) -> float:
    return _bottom(block, gap) + gap * (len(block) - 1)


def label_room(names: Sequence[str]) -> float:
    """Units to the right of the axes that direct labels need."""
    return 14 + CHARACTER * max(map(len, names), default=0)


def interval_mark(
    interval: Interval, axis: tuple[float, float], colour: str, labelled: bool = False
) -> Markup:
    """An estimate and its interval on ``axis``, as a small mark; zero is drawn where it lies within.

    ``labelled`` makes it wide and names the zero line.
    """
    low, high = axis
    width, height, thick = (340, 30, 6) if labelled else (132, 18, 4)

    def x(value: float) -> float:
        return round(5 + (width - 10) * (value - low) / (high - low), 1)

    line = f'<line class="zero" x1="{x(0)}" x2="{x(0)}" y1="1" y2="17"/>' if low < 0 < high else ""
    if line and labelled:
        line += f'<text x="{x(0)}" y="26" text-anchor="middle">0</text>'
    fill = css_colour(colour)
    return Markup(
        f'<svg class="mark" viewBox="0 0 {width} {height}" aria-hidden="true">'
        f'<line class="rail" x1="0" x2="{width}" y1="9" y2="9"/>{line}'
        f'<line x1="{x(interval.low)}" x2="{x(interval.high)}" y1="9" y2="9" '
        f'style="stroke: {fill}; stroke-width: {thick}; stroke-opacity: 0.42; stroke-linecap: round"/>'
        f'<circle cx="{x(interval.mean)}" cy="9" r="{thick + 0.4}" style="fill: {fill}"/></svg>'
    )
