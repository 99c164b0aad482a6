"""The two pages: one self-contained HTML file, and Markdown with the same tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment

from codestill.files.serialize import write_atomic
from codestill.pages import render, templates_of
from codestill.report import claims, figures, rounds, spend, svg, tables
from codestill.report.change import changes
from codestill.report.collect import PASS_AT_1, Report, Section, read_report
from codestill.report.drafts import drafts
from codestill.report.funnel import Funnel, funnels
from codestill.report.numbers import percent
from codestill.report.parts import part_name, part_order
from codestill.report.rows import trained_rows
from codestill.report.samples import choose_samples
from codestill.report.settings import changed_settings
from codestill.report.story import before, runs_of, story
from codestill.report.tables import Table
from codestill.run import slug

FEW_FUNNELS = 6
"""Funnels that are not folded away."""
LONGEST_NAME = 120
"""Characters of a page's name."""
PALETTE = 8
"""Arms that the style sheet has hand-picked colours for; more of them get a ramp of hues."""


def write_report(directories: Sequence[Path], output: Path | None = None) -> tuple[Path, Path]:
    """Write the report on runs and comparisons; returns the paths of the HTML and the Markdown page.

    ``output`` is the HTML page, by default ``report.html`` in the directory, or, on several, a page beside
    the first that is named after all; the Markdown page is written beside it. Raises RunError for a
    directory that is neither a run nor a comparison, and for a file in one that cannot be read. What a run
    has not written yet is listed as missing.
    """
    report = read_report(directories)
    html_path = output or _default_page(directories)
    markdown_path = html_path.with_suffix(".md")
    html, markdown = render_report(report)
    write_atomic(html_path, html)
    write_atomic(markdown_path, markdown)
    return html_path, markdown_path


def _default_page(directories: Sequence[Path]) -> Path:
    """A report on several leaves the first one's own as it is."""
    if len(directories) == 1:
        return directories[0] / "report.html"
    names = "-".join(directory.resolve().name for directory in directories)
    return directories[0].resolve().parent / f"{slug(f'report-{names}')[:LONGEST_NAME]}.html"


@dataclass(frozen=True)
class Tile:
    """One of the few numbers set large."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class SectionPage:
    """A section as the templates see it."""

    section: Section
    story: list[str]
    headline: claims.Headline
    missing: tuple[str, str]
    """What there is no score before training for, and the command that measures it."""
    funnels: list[Funnel]
    spent: list[tuple[str, str]]
    gates: list[claims.Gate]
    warnings: list[str]
    tiles: list[Tile]
    numbers: list[tuple[str, Table]]
    plots: list[figures.Figure]
    measurement: Table | None


@dataclass(frozen=True)
class Phase:
    """The loss curves of one phase of training."""

    name: str
    plots: list[figures.Figure]


def render_report(report: Report) -> tuple[str, str]:
    """The HTML page and the Markdown page of a report, as text."""
    colours = arm_colours(report)
    phases = sorted({curve.phase for curve in report.curves}, key=part_order)
    samples = choose_samples(report)
    context = {
        "report": report,
        "sections": section_pages(report),
        "phases": [
            _phase(report, name, colours, number, several=len(phases) > 1)
            for number, name in enumerate(phases)
        ],
        "trained": list(dict.fromkeys(curve.arm for curve in report.curves)),
        "samples": samples,
        "sampled_arms": list(dict.fromkeys(arm.name for arm in report.arms)),
        "sampled_verdicts": {sample.verdict for sample in samples.chosen},
        "verdict_order": tables.VERDICT_ORDER,
        "stage_metrics": tables.stage_metrics(report),
        "settings": changed_settings(report.runs),
        "rows": trained_rows(report),
        "environments": tables.environments(report.runs),
        "colours": {name: svg.css_colour(colour) for name, colour in colours.items()},
        "ramp": _ramp(colours),
        "few": FEW_FUNNELS,
    }
    templates = markdown_templates()
    templates.globals["mark"] = lambda interval, axis, arm, labelled=False: svg.interval_mark(
        interval, axis, colours.get(arm, svg.INK), labelled
    )
    templates.globals["headline_axis"] = lambda interval: tables.axis_of([interval], around=[0.0])
    return render(templates, "report.html.j2", **context), render(templates, "report.md.j2", **context)


def section_pages(report: Report) -> list[SectionPage]:
    """What is shown of every section."""
    colours = arm_colours(report)
    return [
        _section(section, report, colours, f"s{number}") for number, section in enumerate(report.sections)
    ]


def markdown_templates() -> Environment:
    """The report's templates, with the filter that shows text literally."""
    templates = templates_of("codestill.report")
    templates.filters["md"] = _markdown
    return templates


def arm_colours(report: Report) -> dict[str, str]:
    """Arm name -> stand-in colour: grey for teachers, else a colour of its own throughout the page."""
    names = [arm.name for arm in report.arms if not arm.is_teacher] + [curve.arm for curve in report.curves]
    teachers = {arm.name: svg.TEACHER for arm in report.arms if arm.is_teacher}
    own = [name for name in dict.fromkeys(names) if name not in teachers]
    return teachers | {name: svg.arm_colour(number) for number, name in enumerate(own)}


def _ramp(colours: Mapping[str, str]) -> list[int]:
    """Hues in degrees for more arms than the palette has colours, in the arms' order; else empty."""
    count = sum(colour != svg.TEACHER for colour in colours.values())
    if count <= PALETTE:
        return []
    return [round(255 - 245 * number / (count - 1)) for number in range(count)]


def _section(section: Section, report: Report, colours: Mapping[str, str], name: str) -> SectionPage:
    changed = changes(section, report.arms)
    headline = claims.headline(section, changed)
    optional = (
        ("Results", tables.results(section)),
        ("Before and after training", tables.changes(changed)),
        ("Differences", tables.differences(section)),
        ("As a draft for a larger model", drafts(section)),
        ("Accounting", spend.accounting(section)),
        ("Teacher calls", spend.calls(section)),
        ("Verdicts", tables.verdicts(section)),
    )
    plots = [
        figures.pass_at(section, colours, f"{name}-pass"),
        *figures.frontier(section, colours, f"{name}-cost"),
        *figures.by_setting(section, colours, f"{name}-setting"),
        *figures.difficulty(section, colours, f"{name}-difficulty"),
    ]
    return SectionPage(
        section=section,
        story=story(section, report.title),
        headline=headline,
        missing=before(section, bool(changed)),
        funnels=funnels(section),
        spent=spend.spent(runs_of(section)),
        gates=claims.gates(section),
        warnings=rounds.view_warnings(section) + claims.warnings(section),
        tiles=_tiles(section, headline.subject),
        numbers=[(title, table) for title, table in optional if table is not None]
        + [("Forecast and taken", table) for table in spend.forecasts(section)]
        + rounds.round_tables(section),
        plots=[plot for plot in plots if plot is not None],
        measurement=tables.measurement(section),
    )


def _phase(report: Report, name: str, colours: Mapping[str, str], number: int, several: bool) -> Phase:
    curves = [curve for curve in report.curves if curve.phase == name]
    title = part_name(name) or ("last training" if several else "")
    return Phase(title, figures.losses(curves, colours, f"c{number}"))


def _tiles(section: Section, subject: str) -> list[Tile]:
    arm = next((arm for arm in section.arms if arm.name == subject), None)
    if arm is None:
        return []
    tiles = []
    teacher = section.teacher if section.teacher is not arm else None
    score = arm.pass_at.get(PASS_AT_1)
    if score is not None and section.differences:  # else the headline shows it
        theirs = teacher.pass_at.get(PASS_AT_1) if teacher else None
        tiles.append(Tile("pass@1", percent(score.mean), _of_teacher(score.mean, theirs and theirs.mean)))
    steady = all(of.profile.steady for of in (arm, teacher) if of is not None and of.profile is not None)
    for name, value, text in tables.PROFILE[1:3]:
        ours = value(arm)
        if ours is not None and (steady or value is not tables.token_milliseconds):  # noise is no headline
            note = _of_teacher(ours, value(teacher) if teacher else None)
            if value is tables.token_milliseconds and arm.profile and arm.profile.token_quartiles:
                note = " to ".join(map(text, arm.profile.token_quartiles)) + (f"; {note}" if note else "")
            tiles.append(Tile(name, text(ours), note))
    return tiles


def _of_teacher(ours: float, theirs: float | None) -> str:
    return f"{ours / theirs:.2f}× the teacher’s" if theirs else ""


def _markdown(text: object) -> str:
    """Text, escaped so that a Markdown table cell shows it literally."""
    line = " ".join(str(text).split())
    for character in "\\`*_[]|":
        line = line.replace(character, f"\\{character}")
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
