"""How well models draft for larger ones, in speculative decoding."""

from collections.abc import Mapping

from codestill.records import Draft, DraftLength, Interval
from codestill.tables.scores import NONE, percent
from codestill.tables.table import Line, Table

HEAD = ("model", "drafted", "tokens per pass", "if independent", "as run", "speed-up", "speed-up here")

FEW = 10
"""Tasks below which an interval over them is too narrow for a verdict."""


def draft_table(drafts: Mapping[str, Draft]) -> tuple[Table, ...]:
    """A row for each length of drafts by the name of each model, and how they were measured; nothing where
    there is no model."""
    if not drafts:
        return ()
    rows = [(name, draft, at) for name, draft in drafts.items() for at in draft.lengths]
    return (
        Table(
            HEAD,
            tuple((name, *cells(draft, at)) for name, draft, at in rows),
            frozenset(HEAD[1:]),
            above=tuple(line for name, draft in drafts.items() for line in acceptance(name, draft)),
            below=tuple(line for name, draft in drafts.items() for line in sentences(name, draft)),
        ),
    )


def cells(draft: Draft, at: DraftLength) -> tuple[str, ...]:
    """What is known of drafts of a length, in the order of :data:`HEAD`."""
    run = draft.run if draft.run and draft.run.length == at.length else None
    return (
        str(at.length),
        plain(at.expected),
        f"{at.independent:.2f}",
        plain(run.tokens) if run else NONE,
        *(
            NONE if value is None else f"{value:.2f}x"
            for value in (draft.speedup(at), draft.speedup_here(at))
        ),
    )


def plain(value: Interval) -> str:
    """``2.31 [2.05, 2.57]``."""
    return f"{value.mean:.2f} [{value.low:.2f}, {value.high:.2f}]"


def acceptance(name: str, draft: Draft) -> tuple[Line, ...]:
    """How many drafted tokens are accepted, as a line above the table."""
    how = f"at temperature {draft.temperature:g}" if draft.temperature else "greedily"
    return (
        f"{name} drafts for {draft.target} {how}: {percent(draft.acceptance)} of drafted tokens are "
        f"accepted, the mean over {draft.tokens:,} tokens in {draft.texts:,} texts of {draft.target}",
    )


def sentences(name: str, draft: Draft) -> tuple[str, ...]:
    """How the columns came about, as lines below the table."""
    lines = ["tokens per pass: expected of one pass of the target, its own token included"]
    if run := draft.run:
        apart = run.difference
        verdict = "differs from" if apart.excludes_zero else "agrees with"
        if run.tasks < FEW:
            verdict = "stands beside"
        lines.append(
            f"{name}: run on {run.tasks} tasks with {run.length} drafted, {run.passes:,} passes: "
            f"{plain(run.tokens)}, which {verdict} the {run.expected.mean:.2f} expected of them "
            f"(difference {apart.mean:+.2f} [{apart.low:+.2f}, {apart.high:+.2f}])"
        )
    if (times := draft.times) and (best := draft.best):
        lines.append(
            f"{name}: a pass takes {times.draft:.3g} ms, the target's {times.target[0]:.3g} ms "
            f"(cost ratio {times.cost:.2f}), and over {best.length + 1} tokens "
            f"{times.target[best.length]:.3g} ms; {times.device}, {times.threads} threads"
        )
        lines.append(
            "speed-up: where a pass over drafted tokens takes the target as long as over one token "
            "(Leviathan et al. 2023, theorem 3.8); here: with the time that it takes"
        )
        lines.append(fastest(name, draft, best))
    return tuple(lines)


def fastest(name: str, draft: Draft, best: DraftLength) -> str:
    """Which length to draft, if any, and what came of it where it was run."""
    gain = draft.speedup_here(best) or 0.0
    told = f"{name}: fastest here with {best.length} drafted, {gain:.2f}x"
    if gain <= 1:
        told = f"{name}: does not speed {draft.target} up here, {gain:.2f}x at best"
    times = draft.times
    if times and times.run_speedup is not None:
        told += f"; as run with {times.run_length}: {times.run_speedup:.2f}x"
    return told
