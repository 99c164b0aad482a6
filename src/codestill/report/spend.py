"""What runs received and spent: the accounting, and the calls to teachers."""

from collections.abc import Callable, Sequence
from statistics import median

from codestill.browse import RunFiles
from codestill.browse.usage import usage_table
from codestill.report.collect import ArmView, Section
from codestill.report.numbers import amount, significant
from codestill.report.parts import part_name, part_order
from codestill.report.tables import Cell, Table, amount_cell
from codestill.types import Call


def spent(runs: Sequence[RunFiles]) -> list[tuple[str, str]]:
    """Names and totals of what the runs' teachers were asked and gave, and of training; empty where nothing
    was recorded."""
    calls = [call for run in runs for call in run.calls]
    totals: list[tuple[str, str]] = []
    if calls:
        estimated = " (estimated in part)" if any(call.estimated for call in calls) else ""
        totals += [
            ("answers of the teacher", f"{len(calls):,}"),
            ("tokens that it read", f"{sum(call.prompt_tokens for call in calls):,}{estimated}"),
            ("tokens that it wrote", f"{sum(call.completion_tokens for call in calls):,}{estimated}"),
            ("cost", _cost(calls).value),
        ]
    steps = [
        int(value)
        for run in runs
        for name, value in run.accounting.items()
        if name.rpartition("/")[2] == "steps" and isinstance(value, int)
    ]
    return totals + ([("training steps", f"{sum(steps):,}")] if steps else [])


def accounting(section: Section) -> Table | None:
    """What each arm received and spent: a line for each number, a column for each arm and round."""
    arms = [arm for arm in section.owners if arm.accounting]
    columns: dict[tuple[str, str], dict[str, int | float | str]] = {}
    for arm in arms:
        for key, value in sorted(arm.accounting.items(), key=lambda item: part_order(_part(item[0]))):
            part, _, name = key.rpartition("/")
            if "/" not in part:  # details of a round stay in its file
                columns.setdefault((arm.name, part), {})[name] = value
    names = list(dict.fromkeys(name for values in columns.values() for name in values))
    if not names:
        return None
    in_parts = any(part for _, part in columns)
    head = [_head(arm if len(arms) > 1 else "", part, in_parts, arm) for arm, part in columns]
    return Table(
        caption=f"What each arm received and spent. {_equal(arms)}".strip(),
        head=(Cell("number of"), *head),
        rows=tuple(
            (Cell(name.replace("_", " ")), *(amount_cell(values.get(name)) for values in columns.values()))
            for name in names
        ),
    )


def forecasts(section: Section) -> list[Table]:
    """What runs were forecast to take beside what they took, where `codestill plan` was asked: of runs, or of
    the comparison that they are arms of."""
    paths = [source.run.path for arm in section.arms for source in arm.sources]
    places = dict.fromkeys(place for path in paths for place in (path, path.parent, path.parent.parent))
    found = {place: table for place in places if (table := usage_table(place)) is not None}
    return [
        Table(
            caption=f"{place.resolve().name}: what was forecast, and what it took.",
            head=tuple(Cell(name) for name in table.head),
            rows=tuple(tuple(Cell(str(value)) for value in row) for row in table.rows),
        )
        for place, table in found.items()
    ]


def _head(name: str, part: str, in_parts: bool, arm: str) -> Cell:
    """An arm's name above the name of its round or part; alone where there is but one of either."""
    where = part_name(part) or ("whole run" if in_parts else "")
    return Cell(name or where or "count", where if name else "", arm=arm)


def _part(key: str) -> str:
    return key.rpartition("/")[0]


def _equal(arms: Sequence[ArmView]) -> str:
    """What is equal in all arms: a comparison holds only at that."""
    names = dict.fromkeys(name for arm in arms for name in arm.accounting if name.count("/") < 2)
    if len(arms) < 2:
        return ""
    alike = [name for name in names if len({arm.accounting.get(name) for arm in arms}) == 1]
    if not alike:
        return "None of it is equal in all arms."
    others = "; all else differs" if len(alike) < len(names) else ""
    return f"Equal in all arms: {', '.join(name.replace('_', ' ') for name in alike)}{others}."


def calls(section: Section) -> Table | None:
    """Calls to the teacher, by arm and stage: seeds taken together, each run once."""
    runs = {(arm.name, source.run.path): source.run for arm in section.arms for source in arm.sources}
    by_stage: dict[tuple[str, str], list[Call]] = {}
    for (arm, _), run in runs.items():
        for call in run.calls:
            by_stage.setdefault((arm, call.stage), []).append(call)
    if not by_stage:
        return None
    head = ("arm", "stage", "calls", "prompt tokens", "completion tokens", "retries", "cost", "median, s")
    return Table(
        caption="Calls to the teacher; an answer kept from another run needs none.",
        head=tuple(Cell(name) for name in head),
        rows=tuple(
            (
                Cell(arm, arm=arm),
                Cell(stage),
                amount_cell(len(group)),
                _tokens(group, lambda call: call.prompt_tokens),
                _tokens(group, lambda call: call.completion_tokens),
                amount_cell(sum(len(call.retries) for call in group)),
                _cost(group),
                Cell(significant(median(call.seconds for call in group))),
            )
            for (arm, stage), group in by_stage.items()
        ),
    )


def _tokens(calls: Sequence[Call], count: Callable[[Call], int]) -> Cell:
    """Their sum, and of how many calls it is an estimate."""
    estimated = sum(call.estimated for call in calls)
    return Cell(f"{sum(map(count, calls)):,}", note=f"{estimated:,} calls estimated" if estimated else "")


def _cost(calls: Sequence[Call]) -> Cell:
    """The sum of their costs; unknown where one call has no price."""
    known = [call.cost for call in calls if call.cost is not None]
    if len(known) == len(calls):
        return amount_cell(sum(known))
    return Cell("unknown", note=f"{amount(sum(known))} known" if known else "")
