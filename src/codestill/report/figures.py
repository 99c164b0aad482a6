"""The report's plots. Each function takes a section and the arms' colours, and returns inline SVGs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from codestill.report import svg
from codestill.report.claims import MANY_ARMS
from codestill.report.collect import PASS_AT_1, ArmView, Curve, Section
from codestill.report.numbers import bounds, percent
from codestill.report.settings import flatten

WIDTH, HEIGHT = 440.0, 270.0
LOSS_SIZE = (350.0, 240.0)
MAX_POINTS = 160
"""Points of one training curve: beyond that, neighbouring steps are averaged."""
LOG_FROM = 8.0
"""A loss whose largest value is this many times its smallest is drawn on a log scale."""
Colours = Mapping[str, str]


@dataclass(frozen=True)
class Figure:
    """A plot with its heading, and a sentence on how to read it."""

    title: str
    caption: str
    svg: Markup
    wide: bool = False


def pass_at(section: Section, colours: Colours, name: str) -> Figure | None:
    """pass@k against k, with interval bands."""
    arms = [arm for arm in section.arms if len(arm.pass_at) > 1]
    if not arms:
        return None
    direct = len(arms) <= MANY_ARMS
    with svg.style():
        room = svg.label_room([arm.name for arm in arms]) if direct else 12.0
        figure, plot = svg.axes(WIDTH, HEIGHT, "k, samples per task", "pass@k", room)
        for arm in arms:
            ks = sorted(arm.pass_at)
            intervals = [arm.pass_at[k] for k in ks]
            colour = colours[arm.name]
            if direct:
                lows, highs = [i.low for i in intervals], [i.high for i in intervals]
                plot.fill_between(ks, lows, highs, color=colour, alpha=0.13, linewidth=0)
            dashes = "--" if arm.is_teacher else "-"
            plot.plot(ks, [i.mean for i in intervals], dashes, color=colour)
        ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200) if any(k in arm.pass_at for arm in arms)]
        plot.set_xscale("log")
        plot.set_xticks(ticks, [str(k) for k in ticks])
        plot.xaxis.set_minor_formatter(NullFormatter())
        svg.in_percent(plot)
        if direct:
            ends = [(arm.pass_at[max(arm.pass_at)].mean, arm.name, colours[arm.name]) for arm in arms]
            svg.end_labels(plot, ends)
        alt = "pass@k. " + "; ".join(
            f"{arm.name}: {percent(arm.pass_at[PASS_AT_1].mean)} at k=1, "
            f"{percent(arm.pass_at[max(arm.pass_at)].mean)} at k={max(arm.pass_at)}"
            for arm in arms
            if PASS_AT_1 in arm.pass_at
        )
        bands = "Bands are 95% intervals over tasks. " if direct else ""
        caption = f"{bands}One pool of samples gives every k."
        return Figure("pass@k", caption, svg.to_svg(figure, name, alt))


def frontier(section: Section, colours: Colours, name: str) -> list[Figure]:
    """pass@1 against the size of the weights and, where all times are steady, against the time per token."""
    arms = [arm for arm in section.arms if arm.profile is not None and PASS_AT_1 in arm.pass_at]
    if len(arms) < 2:
        return []
    return [
        _frontier(
            arms,
            colours,
            f"{name}-{axis}",
            title,
            label,
            {arm.name: getattr(arm.profile, axis) for arm in arms},
        )
        for axis, title, label in (
            ("file_megabytes", "Size", "saved weights, MB"),
            ("token_milliseconds", "Latency", "ms per token"),
        )
        if axis == "file_megabytes" or all(arm.profile and arm.profile.steady for arm in arms)
    ]


def _frontier(
    arms: Sequence[ArmView], colours: Colours, name: str, title: str, label: str, x: Mapping[str, float]
) -> Figure:
    with svg.style():
        figure, plot = svg.axes(WIDTH, HEIGHT, f"{label} (log scale)", "pass@1")
        for arm in arms:
            score, colour = arm.pass_at[PASS_AT_1], colours[arm.name]
            plot.plot([x[arm.name]] * 2, [score.low, score.high], color=colour, alpha=0.45, linewidth=2.5)
            face = svg.PAPER if arm.is_teacher else colour
            plot.plot([x[arm.name]], [score.mean], "o", color=colour, markerfacecolor=face, markersize=7.5)
        _log_x(plot, list(x.values()))
        svg.in_percent(plot)
        if len(arms) <= MANY_ARMS:
            _point_labels(plot, [(x[a.name], a.pass_at[1].mean, a.name, colours[a.name]) for a in arms])
        alt = f"pass@1 against {label}. " + "; ".join(
            f"{arm.name}: {percent(arm.pass_at[PASS_AT_1].mean)} at {x[arm.name]:.4g}" for arm in arms
        )
        caption = "Up and to the left is better; whiskers are 95% intervals."
        return Figure(f"{title} and quality", caption, svg.to_svg(figure, name, alt))


def by_setting(section: Section, colours: Colours, name: str) -> list[Figure]:
    """pass@1 against every number in the configuration that a sweep varies."""
    flat = {
        arm.name: flatten(arm.sources[0].run.config)
        for arm in section.arms
        if arm.sources and PASS_AT_1 in arm.pass_at and not arm.is_teacher
    }
    plots = []
    for key in dict.fromkeys(key for values in flat.values() for key in values):
        numbers = {
            arm: number for arm, values in flat.items() if (number := _number(values.get(key))) is not None
        }
        if key != "seed" and len(set(numbers.values())) > 2:
            arms = [arm for arm in section.arms if arm.name in numbers]
            plots.append(_setting(arms, colours, f"{name}-{len(plots)}", key, numbers))
    return plots


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None and text not in ("True", "False") else None
    except ValueError:
        return None


def _setting(
    arms: Sequence[ArmView], colours: Colours, name: str, key: str, x: Mapping[str, float]
) -> Figure:
    with svg.style():
        figure, plot = svg.axes(WIDTH, HEIGHT, key, "pass@1")
        step = (max(x.values()) - min(x.values())) / 90  # arms that share a value are plotted side by side
        groups: dict[float, list[ArmView]] = {}
        for arm in arms:
            groups.setdefault(x[arm.name], []).append(arm)
        for value, group in groups.items():
            for number, arm in enumerate(group):
                score, at = arm.pass_at[PASS_AT_1], value + (number - (len(group) - 1) / 2) * step
                colour = colours[arm.name]
                plot.plot([at, at], [score.low, score.high], color=colour, alpha=0.45, linewidth=2.5)
                plot.plot([at], [score.mean], "o", color=colour, markersize=6)
        if len(groups) < 9:
            plot.set_xticks(sorted(groups), [f"{value:g}" for value in sorted(groups)])
        svg.in_percent(plot)
        alt = f"pass@1 against {key}. " + "; ".join(
            f"{arm.name}: {percent(arm.pass_at[PASS_AT_1].mean)} at {x[arm.name]:g}" for arm in arms
        )
        caption = "One point per arm; whiskers are 95% intervals over tasks."
        return Figure(f"pass@1 by {key}", caption, svg.to_svg(figure, name, alt))


def _log_x(plot: Axes, values: Sequence[float]) -> None:
    """A log axis from the round number below the values to the one above, with round ticks."""
    rounds = [step * 10.0**power for power in range(-4, 9) for step in (1, 2, 5)]
    low = max((value for value in rounds if value < min(values) / 1.15), default=rounds[0])
    high = min((value for value in rounds if value > max(values) * 1.15), default=rounds[-1])
    ticks = [value for value in rounds if low <= value <= high]
    if len(ticks) > 8:
        ticks = ticks[::3]
    plot.set_xscale("log")
    plot.set_xlim(low, high)
    plot.set_xticks(ticks, [f"{value:g}" for value in ticks])
    plot.xaxis.set_minor_formatter(NullFormatter())


def _point_labels(plot: Axes, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Each name beside its point, on the first side where it overlaps no point or earlier name."""
    at = [tuple(map(float, plot.transData.transform((x, y)))) for x, y, _, _ in points]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in at]
    for (x, y), (_, _, text, colour) in zip(at, points, strict=True):
        width, half = svg.CHARACTER * len(text), svg.FONT_SIZE / 2
        sides = [(x + 10, y), (x - 10 - width, y), (x + 8, y + 13), (x + 8, y - 13), (x - 8 - width, y + 13)]
        boxes = [(left, middle - half, left + width, middle + half) for left, middle in sides]
        free = [box for box in boxes if box[0] > 30 and box[2] < WIDTH and not _meets(box, taken)]
        box = free[0] if free else boxes[0]
        taken.append(box)
        plot.annotate(
            text, (box[0], (box[1] + box[3]) / 2), xycoords="figure pixels", color=colour, va="center"
        )


def _meets(box: tuple[float, ...], others: Sequence[tuple[float, ...]]) -> bool:
    return any(box[0] < o[2] and o[0] < box[2] and box[1] < o[3] and o[1] < box[3] for o in others)


def difficulty(section: Section, colours: Colours, name: str) -> list[Figure]:
    """pass@1 by level, one plot per kind of difficulty."""
    arms = [arm for arm in section.arms if arm.by_difficulty]
    levels = sorted({level for arm in arms for level in arm.by_difficulty}, key=_level_order)
    return [
        _difficulty(arms, kind, list(group), colours, f"{name}-{number}")
        for number, (kind, group) in enumerate(groupby(levels, key=lambda level: level.partition("=")[0]))
    ]


def _level_order(level: str) -> tuple[str, float, str]:
    kind, _, value = level.partition("=")
    try:
        return (kind, float(value), value)
    except ValueError:
        return (kind, float("inf"), value)


def _difficulty(
    arms: Sequence[ArmView], kind: str, levels: Sequence[str], colours: Colours, name: str
) -> Figure:
    slots = len(levels) * (len(arms) + 1)
    wide = slots > 28
    width = 900.0 if wide else WIDTH
    with svg.style():
        figure, plot = svg.axes(width, HEIGHT, kind, "pass@1")
        size = 0.84 / len(arms)
        for number, arm in enumerate(arms):
            bars = [
                (at, arm.by_difficulty[level])
                for at, level in enumerate(levels)
                if level in arm.by_difficulty
            ]
            xs = [at + (number - (len(arms) - 1) / 2) * size for at, _ in bars]
            means = [interval.mean for _, interval in bars]
            colour = colours[arm.name]
            plot.bar(xs, means, size * 0.86, color=colour, alpha=0.72, linewidth=0)
            for x, (_, interval) in zip(xs, bars, strict=True):
                plot.plot([x, x], [interval.low, interval.high], color=svg.INK, linewidth=1.1, alpha=0.75)
        plot.set_xticks(range(len(levels)), [level.partition("=")[2] or level for level in levels])
        plot.set_xlim(-0.55, len(levels) - 0.45)
        svg.in_percent(plot)
        alt = f"pass@1 by {kind}. " + "; ".join(
            f"{arm.name}: "
            + ", ".join(
                f"{level} {percent(arm.by_difficulty[level].mean)} {bounds(arm.by_difficulty[level])}"
                for level in levels
                if level in arm.by_difficulty
            )
            for arm in arms
        )
        seeds = " Several seeds: the mean of their bounds." if any(len(a.sources) > 1 for a in arms) else ""
        caption = f"Whiskers are 95% intervals over tasks.{seeds}"
        return Figure(f"pass@1 by {kind}", caption, svg.to_svg(figure, name, alt), wide)


LOSSES = (
    ("loss", "Total loss", "weighted sum of its terms"),
    ("divergence", "Distillation term", "nats per token"),
    ("cross_entropy", "Cross-entropy term", "nats per token"),
)


def losses(curves: Sequence[Curve], colours: Colours, name: str) -> list[Figure]:
    """Small multiples: one plot per part of the loss, over the curves of one phase."""
    figures = []
    for metric, title, unit in LOSSES:
        shown = [curve for curve in curves if curve.metrics.get(metric)]
        if shown:
            figures.append(_loss(shown, metric, title, unit, colours, f"{name}-{metric}"))
    return figures


def _loss(curves: Sequence[Curve], metric: str, title: str, unit: str, colours: Colours, name: str) -> Figure:
    arms = list(dict.fromkeys(curve.arm for curve in curves))
    direct = len(arms) <= MANY_ARMS
    with svg.style():
        room = svg.label_room(arms) if direct else 12.0
        figure, plot = svg.axes(*LOSS_SIZE, "step", unit, room)
        values = [value for curve in curves for value in curve.metrics[metric].values()]
        if min(values) > 0 and max(values) / min(values) > LOG_FROM:
            plot.set_yscale("log")
            plot.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            plot.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            plot.yaxis.set_minor_formatter(NullFormatter())
        ends: dict[str, list[float]] = {}
        averaged = False
        for curve in curves:
            points = list(curve.metrics[metric].items())
            colour = colours[curve.arm]
            if curve.is_validation:
                plot.plot(*zip(*points, strict=True), "o-", color=colour, markersize=3.2, linewidth=1.6)
            else:
                averaged |= len(points) > MAX_POINTS
                points = _averaged(points)
                plot.plot(*zip(*points, strict=True), color=colour, linewidth=1.0, alpha=0.5)
            ends.setdefault(curve.arm, []).append(points[-1][1])
        plot.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if direct:
            svg.end_labels(plot, [(sum(v) / len(v), arm, colours[arm]) for arm, v in ends.items()])
        alt = f"{title} by step. Last values: " + "; ".join(
            f"{c.arm} {'validation' if c.is_validation else 'training'} {last:.3f}"
            for c in curves
            for last in list(c.metrics[metric].values())[-1:]
        )
        caption = "Thin: training. Dots: validation." + (
            " Neighbouring steps are averaged." if averaged else ""
        )
        return Figure(title, caption, svg.to_svg(figure, name, alt))


def _averaged(points: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
    size = -(-len(points) // MAX_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]
