"""Before and after: a trained student against the model that it began as, on the same tasks.

A score before training is read, never guessed: it is there where the starting model was evaluated as it
stands, in one of the given runs or as an arm of the comparison.
"""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from codestill.evaluation import EvaluateConfig, EvaluateModel
from codestill.files.serialize import is_object
from codestill.models import StudentConfig
from codestill.report.collect import PASS_AT_1, ArmView, EvaluatedRun, Section, paired
from codestill.tasks import TasksConfig
from codestill.types import Difference, Interval


@dataclass(frozen=True)
class Change:
    """What training changed in an arm's pass@1."""

    arm: str
    start: str
    """The starting model."""
    before: Interval
    after: Interval
    difference: Difference


def changes(section: Section, arms: Iterable[ArmView]) -> list[Change]:
    """For each trained arm of the section whose starting model is evaluated among ``arms``, the change."""
    stands = [arm for arm in arms if len(arm.sources) == 1 and _as_it_stands(arm.sources[0]) is not None]
    found = []
    for arm in section.arms:
        trained = [source for source in arm.sources if start_of(source.run.config) is not None]
        if arm.is_teacher or not trained or len(trained) < len(arm.sources) or PASS_AT_1 not in arm.pass_at:
            continue
        starts = (other for other in stands if _began_as(trained, other.sources[0]))
        measured = ((start, paired(arm, start)) for start in starts)
        found += [_change(arm, start, difference) for start, difference in measured if difference][:1]
    return found


def _change(arm: ArmView, start: ArmView, difference: Difference) -> Change:
    before = f"{start.evaluations[0].model}, as it stands"
    return Change(arm.name, before, start.pass_at[PASS_AT_1], arm.pass_at[PASS_AT_1], difference)


def start_of(config: dict[str, Any]) -> str | None:
    """Name, path or hub id of the model that a run trained; None where it trained none, or random weights."""
    student = config.get("student")
    if not is_object(student) or student.get("from_scratch"):
        return None
    return student.get("model")


def begins_untrained(config: dict[str, Any]) -> bool:
    """Whether a run's student began with random weights."""
    return is_object(config.get("student")) and start_of(config) is None


def _as_it_stands(source: EvaluatedRun) -> str | None:
    """The model of a run that evaluates one and trains nothing."""
    config = source.run.config
    return None if "student" in config else config.get("model")


def _began_as(trained: Sequence[EvaluatedRun], start: EvaluatedRun) -> bool:
    return all(
        start_of(source.run.config) == _as_it_stands(start)
        and source.run.config["student"].get("revision") == start.run.config.get("revision")
        for source in trained
    )


def command_before(config: dict[str, Any]) -> str | None:
    """The command that evaluates the starting model as the run evaluated its student; None where there is no
    such model, or no evaluation."""
    model, evaluate, student = start_of(config), config.get("evaluate"), config.get("student")
    if model is None or not is_object(evaluate) or not is_object(student):
        return None
    tasks: dict[str, Any] = evaluate["tasks"]
    split = f":{tasks['split']}" if tasks.get("split") else ""
    options = ["--tasks", f"{tasks.get('path') or tasks['source']}{split}"]
    named = ("source", "split", "path")
    options += _options("evaluate.tasks", _changed(tasks, TasksConfig.model_fields, named))
    given = _changed(evaluate, EvaluateConfig.model_fields, ("tasks", "profile", "likelihood"))
    options += _options("evaluate", given)
    shared = {name: student[name] for name in EvaluateModel.model_fields if name in student}
    options += _options("", _changed(shared, StudentConfig.model_fields, ("model",)))
    examples = config.get("examples")
    asking = examples if is_object(examples) else config
    options += _options("", _changed({"prompts": asking.get("prompts", "auto")}, EvaluateModel.model_fields))
    seed = {"seed": config.get("seed", 0)}
    options += _options("", _changed(seed, EvaluateModel.model_fields))
    return shlex.join(["codestill", "evaluate", model, *options, "--run-dir", "runs/before"])


def _changed(values: dict[str, Any], fields: Any, without: Sequence[str] = ()) -> dict[str, Any]:
    """The plain values that are not the default."""
    return {
        name: value
        for name, value in values.items()
        if name in fields and name not in without
        if isinstance(value, str | int | float) and value != fields[name].default
    }


def _options(group: str, values: dict[str, Any]) -> list[str]:
    words: list[str] = []
    for name, value in values.items():
        option = ".".join(filter(None, (group, name.replace("_", "-"))))
        words += [f"--{option}", str(value).lower() if isinstance(value, bool) else str(value)]
    return words
