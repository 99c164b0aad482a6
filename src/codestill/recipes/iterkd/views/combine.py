"""Both views combined into one score, and tasks binned by it. Thresholds and weights are ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from pydantic import Field, model_validator

from codestill.recipes.iterkd.bins import Bin
from codestill.recipes.iterkd.views.calibrate import Calibration, calibrate
from codestill.recipes.iterkd.views.model import JudgeConfig, Judged, judge
from codestill.recipes.iterkd.views.tool import ToolReport, ToolViewConfig, inspect
from codestill.tasks import TaskSet
from codestill.teaching import Teaching
from codestill.types import Attempt, Settings


class FeedbackConfig(Settings):
    """Which views there are, and what their scores mean."""

    views: Literal["model", "tool", "both"] = "both"
    """Whose scores bin the tasks. A view that is not used costs nothing and is not calibrated."""
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
    """On one attempt."""

    task_id: str
    score: float | None
    """0 to 1; None where the only view has none."""
    broken: bool | None
    """Whether the tools fail; None without the tool view."""
    passed: bool | None
    """Whether all tests pass; None without the tool view or with ``feedback.tests`` off."""


@dataclass(frozen=True)
class RoundFeedback:
    """A round's feedback."""

    feedback: Sequence[Feedback]
    calibrations: tuple[Calibration, ...]


def judge_attempts(
    config: FeedbackConfig,
    task_set: TaskSet,
    attempts: Sequence[Attempt],
    teaching: Teaching,
    first: Mapping[str, Calibration],
) -> RoundFeedback:
    """Ask the views, and hold each against the tests. Stages: judgements, tools.

    ``teaching`` is the judge's; ``first`` are the calibrations of the first round, from which later ones may
    drift.
    """
    run = teaching.run
    judged: list[Judged] = []
    reports: list[ToolReport] = []
    if config.views != "tool":
        produce = partial(judge, teaching, task_set, config.judge)
        judged = run.stage("judgements", Judged, attempts, produce)
        teaching.count("judgements", judged)
    if config.views != "model":
        produce = partial(inspect, task_set, teaching.sandbox, config.tool)
        reports = run.stage("tools", ToolReport, attempts, produce)
    passed = [attempt.result.passed for attempt in attempts]
    of_task = [attempt.task_id for attempt in attempts]
    blind = [report.score(config.tool.weights, tests=False) for report in reports]
    calibrations = []
    if judged:
        counts = {
            name: sum(getattr(record, name) for record in judged)
            for name in ("unreadable", "clipped", "fractions")
        }
        scores = [record.score for record in judged]
        calibrations.append(calibrate("model", scores, passed, of_task, first.get("model"), **counts))
    if reports:
        calibrations.append(calibrate("tool", blind, passed, of_task, first.get("tool")))
    if judged and reports:
        both = [_mixed(config, record.score, tool) for record, tool in zip(judged, blind, strict=True)]
        calibrations.append(calibrate("both", both, passed, of_task, first.get("both")))
    feedback = [
        _feedback(config, attempt, judged[n] if judged else None, reports[n] if reports else None)
        for n, attempt in enumerate(attempts)
    ]
    return RoundFeedback(feedback, tuple(calibrations))


def _mixed(config: FeedbackConfig, model: float | None, tool: float) -> float:
    """Where no judgement is readable the tools' score stands alone."""
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
    for on_attempt in feedback:
        of_task.setdefault(on_attempt.task_id, []).append(on_attempt)
    return {task_id: _bin(config, on_attempts) for task_id, on_attempts in of_task.items()}


def _bin(config: FeedbackConfig, on_attempts: Sequence[Feedback]) -> Bin:
    scores = [feedback.score for feedback in on_attempts if feedback.score is not None]
    if all(feedback.broken for feedback in on_attempts):
        return "hard"
    if not scores:
        return "medium"  # nothing is known of it
    mean = sum(scores) / len(scores)
    if mean >= config.easy and all(feedback.passed is not False for feedback in on_attempts):
        return "easy"
    return "hard" if mean < config.hard else "medium"
