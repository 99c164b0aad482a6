"""Help for settings: the few that most runs need, in groups; all of them with ``--help-all``."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from cyclopts.help import DefaultFormatter, HelpEntry, HelpPanel
from pydantic import BaseModel

from codestill.config import RunConfig

GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Models": ("model", "student", "teacher", "server.base_url", "served.base_url", "chat", "dtype"),
        "Tasks": (
            "tasks",
            "examples.tasks",
            "examples.answers",
            "evaluate.tasks",
            "evaluate.tasks.limit",
            "samples",
            "count",
        ),
        "Method": (
            "arm",
            "row",
            "teacher_logits",
            "objective.temperature",
            "objective.alpha",
            "students",
            "temperatures",
            "alphas",
            "rounds",
            "attempts_per_task",
        ),
        "Training": ("train.epochs", "train.max_steps", "train.learning_rate", "train.batch_tokens"),
        "Evaluation": ("evaluate.samples_per_task", "evaluate.max_new_tokens", "evaluate.draft_for"),
        "Run": ("run_dir", "seed", "execution.device", "teacher_usage.budget.tokens"),
    }
)
"""What most runs set, by what it is about."""
_METAVARS = {"student": "MODEL", "teacher": "MODEL", "tasks": "TASKS", "draft_for": "TEACHER"}


def keys(option: str) -> list[str]:
    """Names of the fields that lead to a setting: train, max_steps for --train.max-steps."""
    return option.removeprefix("--").replace("-", "_").split(".")


class SettingsHelp(DefaultFormatter):
    """Help with this config's own defaults for groups; the settings common to all runs come last."""

    def __init__(
        self, model: type[BaseModel], defaults: BaseModel, everything: bool, short: Mapping[str, str]
    ) -> None:
        super().__init__()
        self.model, self.defaults, self.everything, self.short = model, defaults, everything, short

    def __call__(self, console: Any, options: Any, panel: HelpPanel) -> None:
        if panel.format == "command":
            return None  # --help, which is known by now
        entries = sorted(map(self._with_default, panel.entries), key=self._place)
        if self.everything:
            return super().__call__(console, options, panel.copy(entries=entries))
        shown = 0
        for title, wanted in self._groups(entries):
            super().__call__(console, options, panel.copy(title=title, entries=wanted))
            shown += len(wanted)
        console.print(f"{len(entries) - shown} more settings: --help-all", highlight=False)
        return None

    def _groups(self, entries: Sequence[HelpEntry]) -> Iterator[tuple[str, list[HelpEntry]]]:
        by_path = {".".join(_path(entry)): entry for entry in entries}
        named = {name for names in GROUPS.values() for name in names}
        for title, names in GROUPS.items():
            entries_of = {name: by_path.get(name) or self._whole(name, by_path) for name in names}
            found = [self._shortened(name, entry) for name, entry in entries_of.items() if entry]
            if title == "Method" and (not found or not self.model.__module__.startswith("codestill.")):
                # Whatever a recipe adds is what it is about, a stranger's above all.
                names = [name for name in self.model.__annotations__ if name != "recipe"]
                own = [by_path[name] for name in names if name in by_path]
                found += [entry for entry in own if ".".join(_path(entry)) not in named]
            if found:
                yield title, found

    def _shortened(self, name: str, entry: HelpEntry) -> HelpEntry:
        """The entry under the name that this command also takes."""
        if name not in self.short:
            return entry
        text = entry.description
        if isinstance(text, str):
            text = text.replace(f"--{name.replace('_', '-')}.", f"--{self.short[name]}.")
        return entry.copy(positive_names=(f"--{self.short[name]}",), description=text)

    def _whole(self, name: str, by_path: Mapping[str, HelpEntry]) -> HelpEntry | None:
        """An entry for settings that are also given as one string, such as ``--student``."""
        metavar = _METAVARS.get(name.rpartition(".")[2])
        inner = next((entry for path, entry in by_path.items() if path.startswith(f"{name}.")), None)
        if metavar is None or inner is None:
            return None
        about: Any = self.model
        value: Any = self.defaults
        description = None
        for key in name.split("."):
            field = about.model_fields.get(key) if about else None
            description = field.description if field else None
            value = getattr(value, key, None)
            about = type(value) if isinstance(value, BaseModel) else None
        option = "--" + name.replace("_", "-")
        text = " ".join(f"{description or ''} More: {option}.…".replace("`", "").split())
        return inner.copy(
            positive_names=(option,),
            negative_names=(),
            metavar=metavar,
            type=None,
            choices=None,
            description=text,
            default=_in_short(value),
        )

    def _with_default(self, entry: HelpEntry) -> HelpEntry:
        value: Any = self.defaults
        for name in _path(entry):
            if not isinstance(value, BaseModel) or name not in type(value).model_fields:
                return entry  # of another choice, e.g. of an endpoint where local weights are the default
            value = getattr(value, name, None)  # of one that has to be given there is none
        known = value is not None and not isinstance(value, BaseModel)
        return entry.copy(default=str(value) if known else None) if _path(entry) else entry

    def _place(self, entry: HelpEntry) -> tuple[bool, bool]:
        root = next(iter(_path(entry)), "")
        return root in RunConfig.model_fields, root not in self.model.__annotations__


def _path(entry: HelpEntry) -> list[str]:
    """Names of the fields that lead to the setting."""
    return keys(entry.positive_names[0]) if entry.positive_names else []


def _in_short(value: Any) -> str | None:
    """A default student, teacher or task set in a word."""
    for name in ("preset", "model"):
        if found := getattr(value, name, None):
            return str(found)
    source = getattr(value, "source", None)
    return f"{source}:{value.split}" if source else None
