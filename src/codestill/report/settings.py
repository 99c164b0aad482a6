"""The configuration as a list: what differs from the defaults, or between the runs."""

from collections.abc import Mapping

from codestill.browse import RunFiles
from codestill.report.tables import Cell, Table

NONE = "–"
UNSET = "none"
OWN = ("execution", "teacher_usage")
"""Groups that decide where a run works, not what comes of it: they are in the whole configuration alone."""


def flatten(value: object, prefix: str = "") -> dict[str, str]:
    """A nested mapping as ``{"objective.alpha": "0.5"}``."""
    if isinstance(value, dict) and value:
        return {
            key: text
            for name, inner in value.items()
            for key, text in flatten(inner, f"{prefix}.{name}" if prefix else str(name)).items()
        }
    return {prefix: _text(value)} if prefix else {}


def _text(value: object) -> str:
    if value is None:
        return UNSET
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(map(str, value)) if isinstance(value, list) and value else str(value)


def changed_settings(runs: Mapping[str, RunFiles]) -> Table | None:
    """A line for each setting whose value is not the default, or not the same in all runs; of several runs
    with who has which value. Settings of runs that earlier versions made have no known default."""
    values = {label: _settings(run.config) for label, run in runs.items()}
    defaults = {label: _settings(run.about.defaults) if run.about else None for label, run in runs.items()}
    rows: list[tuple[str, ...]] = []
    for key in dict.fromkeys(key for flat in values.values() for key in flat):
        having: dict[tuple[str, str | None], list[str]] = {}
        for label, flat in values.items():
            if key in flat:
                having.setdefault((flat[key], _default(key, defaults[label])), []).append(label)
        differing = len({value for value, _ in having}) > 1
        for (value, default), labels in having.items():
            if differing or _is_own(value, default):
                who = "all" if len(labels) == len(runs) else ", ".join(labels)
                rows.append((key, value, default or NONE, who))
    if not rows:
        return None
    several = len(runs) > 1
    rows = [("setting", "value", "default", "runs"), *rows]
    head, *cells = [tuple(map(Cell, row if several else row[:3])) for row in rows]
    caption = f"What differs from the defaults{' or between the runs' * several}."
    return Table(caption, head, tuple(cells), numeric=False)


def _settings(config: Mapping[str, object]) -> dict[str, str]:
    return flatten({name: value for name, value in config.items() if name not in OWN})


def _is_own(value: str, default: str | None) -> bool:
    """Whether somebody chose the value. One without a default is required, or of a group that the default is
    not: where it is none, nobody chose it."""
    return default is not None and value != (UNSET if default == NONE else default)


def _default(key: str, defaults: Mapping[str, str] | None) -> str | None:
    """The default's value: ``none`` for a setting of a group that is off by default, ``set`` for a group that
    is on by default and off here, ``–`` where there is none; None where defaults are not known."""
    if defaults is None:
        return None
    if key in defaults:
        return defaults[key]
    if any(name.startswith(f"{key}.") for name in defaults):
        return "set"
    groups = [key[:place] for place, sign in enumerate(key) if sign == "."]
    return next((defaults[group] for group in groups if group in defaults), NONE)
