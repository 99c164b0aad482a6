"""Both views as one score, and tasks binned by it. Thresholds and weights are ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from pydantic import Field, model_validator

from codestill.attempt import Completer
from codestill.prompts import Prompts
from codestill.recipes.iterkd.views.calibrate import Calibration, calibrate
from codestill.recipes.iterkd.views.model import JudgeConfig, Judged, judge
from codestill.recipes.iterkd.views.tool import ToolReport, ToolViewConfig, inspect
from codestill.run import Run
from codestill.sandbox import Sandbox
from codestill.tasks import TaskSet
from codestill.types import Attempt, Bin, Settings


class FeedbackConfig(Settings):
    """Which views there are, and what their scores mean."""

    views: Literal["model", "tool", "both"] = "both"
    """Whose scores bin the tasks. A view that is not asked costs nothing and is not calibrated."""
    model_weight: float = Field(default=0.5, ge=0, le=1)
    """Share of the model view in the score of both; the tool view has the rest."""
    tests: bool = True
    """Whether the tool view's score counts the tests. Calibration never does: it is held against them."""
    easy: float = Field(default=0.8, ge=0, le=1)
    """A task is easy from this mean score on, if every attempt passes its tests where they are known."""
    hard: float = Field(default=0.4, ge=0, le=1)
    """A task is hard below this mean score, or where the tools fail in every attempt; else it is medium."""
    judge: JudgeConfig = JudgeConfig()
    """The model view."""
    tool: ToolViewConfig = ToolViewConfig()
    """The tool view."""

    @model_validator(mode="after")
    def _ordered(self) -> "FeedbackConfig":
        if self.hard > self.easy:
            raise ValueError("hard is a score below that of easy")
        return self


@dataclass(frozen=True)
class Feedback:
    """Of one attempt."""

    task_id: str
    score: float | None
    """0 to 1; None where the only view has none."""
    broken: bool | None
    """Whether the tools fail; None where they were not asked."""
    passed: bool | None
    """Whether all tests pass; None where that is not to be known."""


@dataclass(frozen=True)
class Viewed:
    """A round's feedback."""

    feedback: Sequence[Feedback]
    calibrations: tuple[Calibration, ...]
    tokens: int
    """Written by the judge."""


def look(
    config: FeedbackConfig,
    task_set: TaskSet,
    attempts: Sequence[Attempt],
    judge_: Completer,
    prompts: Prompts,
    sandbox: Sandbox,
    part: Run,
    first: Mapping[str, Calibration],
) -> Viewed:
    """Ask the views, in stages of their own, and hold each against the tests."""
    judged: list[Judged] = []
    reports: list[ToolReport] = []
    if config.views != "tool":
        ask = partial(judge, judge_, task_set, prompts, config.judge, part.seed)
        judged = part.stage("judgements", Judged, attempts, ask)
    if config.views != "model":
        reports = part.stage("tools", ToolReport, attempts, partial(inspect, task_set, sandbox, config.tool))
    passed = [one.result.passed for one in attempts]
    blind = [one.score(config.tool.weights, tests=False) for one in reports]
    found = []
    if judged:
        counts = {
            name: sum(getattr(one, name) for one in judged) for name in ("unreadable", "clipped", "fractions")
        }
        scores = [one.score for one in judged]
        found.append(calibrate("model", scores, passed, first.get("model"), **counts))
    if reports:
        found.append(calibrate("tool", blind, passed, first.get("tool")))
    if judged and reports:
        both = [_mixed(config, one.score, tool) for one, tool in zip(judged, blind, strict=True)]
        found.append(calibrate("both", both, passed, first.get("both")))
    feedback = [
        _feedback(config, one, judged[n] if judged else None, reports[n] if reports else None)
        for n, one in enumerate(attempts)
    ]
    return Viewed(feedback, tuple(found), sum(one.tokens for one in judged))


def _mixed(config: FeedbackConfig, model: float | None, tool: float) -> float:
    """A judgement that cannot be read leaves the tools' word alone."""
    return tool if model is None else config.model_weight * model + (1 - config.model_weight) * tool


def _feedback(
    config: FeedbackConfig, attempt: Attempt, judged: Judged | None, report: ToolReport | None
) -> Feedback:
    model = judged.score if judged is not None else None
    if report is None:
        return Feedback(attempt.task_id, model, None, None)
    score = _mixed(config, model, report.score(config.tool.weights, config.tests))
    return Feedback(attempt.task_id, score, report.broken, attempt.result.passed if config.tests else None)


def bins(config: FeedbackConfig, feedback: Sequence[Feedback]) -> dict[str, Bin]:
    """The bin of every task that has feedback."""
    of_task: dict[str, list[Feedback]] = {}
    for one in feedback:
        of_task.setdefault(one.task_id, []).append(one)
    return {task_id: _bin(config, found) for task_id, found in of_task.items()}


def _bin(config: FeedbackConfig, found: Sequence[Feedback]) -> Bin:
    scores = [one.score for one in found if one.score is not None]
    if all(one.broken for one in found):
        return "hard"
    if not scores:
        return "medium"  # nothing is known of it
    mean = sum(scores) / len(scores)
    if mean >= config.easy and all(one.passed is not False for one in found):
        return "easy"
    return "hard" if mean < config.hard else "medium"
