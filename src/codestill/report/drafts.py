"""The report's table of models as drafts for larger ones."""

from codestill.report.collect import Section
from codestill.report.numbers import bounds, percent
from codestill.report.tables import NOTHING, Cell, Table
from codestill.types import Draft, DraftLength, Interval


def drafts(section: Section) -> Table | None:
    """A row for each length of drafts of every arm that was measured as a draft; of several seeds, the first
    one's."""
    first = {arm.name: [e.draft for e in arm.evaluations if e.draft][:1] for arm in section.arms}
    measured = [(name, draft) for name, found in first.items() for draft in found]
    if not measured:
        return None
    timed = any(draft.times for _, draft in measured)
    ran = any(draft.run for _, draft in measured)
    head = ["drafts for", "accepted", "drafted", "tokens per pass", "if independent"]
    head += ["as run"] if ran else []
    head += ["speed-up", "speed-up here"] if timed else []
    rows = tuple(
        (
            Cell(name, arm=name),
            Cell(draft.target, "greedy" if not draft.temperature else f"temperature {draft.temperature:g}"),
            Cell(percent(draft.acceptance.mean), bounds(draft.acceptance)),
            Cell(str(at.length)),
            _tokens(at.expected),
            Cell(f"{at.independent:.2f}"),
            *([_as_run(draft, at)] if ran else []),
            *([_times(draft.speedup(at)), _times(draft.speedup_here(at))] if timed else []),
        )
        for name, draft in measured
        for at in draft.lengths
    )
    caption = (
        "Speculative decoding with the model as draft: the mean probability that a drafted token is "
        "accepted, and the expected tokens of one pass of the larger model, with 95% intervals over tasks; "
        "if independent, by the mean acceptance alone."
    )
    if timed:
        caption += (
            " The speed-up is that of theorem 3.8 of Leviathan et al. (2023); here, with the time that a "
            "pass over the drafted tokens was measured to take."
        )
    return Table(caption, (Cell("model"), *map(Cell, head)), rows)


def _tokens(value: Interval) -> Cell:
    return Cell(f"{value.mean:.2f}", f"[{value.low:.2f}, {value.high:.2f}]")


def _as_run(draft: Draft, at: DraftLength) -> Cell:
    if draft.run is None or draft.run.length != at.length:
        return NOTHING
    return _tokens(draft.run.tokens)


def _times(value: float | None) -> Cell:
    return NOTHING if value is None else Cell(f"{value:.2f}×")
