"""Scores of models as a table."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from codestill.records import Interval, ModelProfile
from codestill.tables.table import Line, Table

NONE = "-"


class Pooled(Protocol):
    """Scores of a model by its samples, and by its greedy completions."""

    @property
    def pass_at(self) -> Mapping[int, Interval]: ...

    @property
    def greedy(self) -> Interval | None: ...


class Scores(Pooled, Protocol):
    """All scores of a model, and what it costs: of one run, or of several with other seeds."""

    @property
    def by_difficulty(self) -> Mapping[str, Interval]: ...

    @property
    def bleu(self) -> float | None: ...

    @property
    def nats_per_byte(self) -> Interval | None: ...

    @property
    def profile(self) -> ModelProfile | None: ...


class Measured(Scores, Protocol):
    """One evaluation."""

    @property
    def tasks(self) -> str: ...

    @property
    def cautions(self) -> Sequence[Line]: ...

    @property
    def notes(self) -> Sequence[str]: ...


def side_by_side(evaluations: Mapping[str, Measured]) -> Table:
    """A row of scores for each evaluation, by the name that you give it, and how they were measured."""
    return score_table(
        [(name, one.tasks, one) for name, one in evaluations.items()],
        above=[line for one in evaluations.values() for line in one.cautions],
        below=[*dict.fromkeys(line for one in evaluations.values() for line in one.notes)],
    )


def greedy_alone(scored: Iterable[Pooled]) -> bool:
    """Whether every pass@1 is that of the greedy completion, so that a table needs no column for both."""
    return all(dict(scores.pass_at) == {1: scores.greedy} for scores in scored)


def score_table(
    rows: Sequence[tuple[str, str, Scores]], above: Sequence[Line] = (), below: Sequence[Line] = ()
) -> Table:
    """A row of scores under each name, with what it is a score on; columns without a value are left out."""
    scored = [scores for _, _, scores in rows]
    columns: dict[str, Callable[[Scores], str]] = {
        "pass@1": lambda s: percent(s.pass_at.get(1)),
        "pass@k": _large_k,
    }
    if not greedy_alone(scored):
        columns["greedy"] = lambda s: percent(s.greedy)
    columns |= {
        "BLEU": lambda s: NONE if s.bleu is None else f"{s.bleu:.1f}",
        "nats/byte": lambda s: f"{s.nats_per_byte.mean:.3f}" if s.nats_per_byte else NONE,
        "ms/token": lambda s: f"{s.profile.token_milliseconds:.2f}" if s.profile else NONE,
        "parameters": lambda s: f"{s.profile.parameters:,}" if s.profile else NONE,
        "MB": lambda s: f"{s.profile.file_megabytes:.1f}" if s.profile else NONE,
    }
    columns |= {
        level.replace("=", " "): lambda s, level=level: percent(s.by_difficulty.get(level))
        for level in _levels(scored)
    }
    cells = {name: [of(scores) for scores in scored] for name, of in columns.items()}
    cells = {name: column for name, column in cells.items() if set(column) != {NONE}}
    return Table(
        ("model", "tasks", *cells),
        tuple(
            (name, tasks, *(column[number] for column in cells.values()))
            for number, (name, tasks, _) in enumerate(rows)
        ),
        frozenset(cells),
        tuple(above),
        tuple(below),
    )


def percent(value: Interval | None) -> str:
    """The estimate with its interval, or a dash."""
    return NONE if value is None else value.percent()


def _levels(scored: Sequence[Scores]) -> list[str]:
    """Difficulties that are numbers, a column each."""
    names = {name for scores in scored for name in scores.by_difficulty}
    return sorted(name for name in names if name.rpartition("=")[2].isdigit())


def _large_k(scores: Scores) -> str:
    top = max(scores.pass_at, default=1)
    return f"@{top} {percent(scores.pass_at[top])}" if top > 1 else NONE
