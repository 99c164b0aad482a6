"""Multi-view feedback on attempts (IterKD, arXiv:2408.03680): a model's view, the tools' view, and how far
each can be trusted.

``model`` prompts a judge for ratings; ``tool`` parses, compiles, lints and executes; ``combine`` makes one
score of both and bins tasks by it; ``calibrate`` measures each view against the tests.
"""

from codestill.recipes.iterkd.views.calibrate import Calibration, calibrate
from codestill.recipes.iterkd.views.combine import (
    Feedback,
    FeedbackConfig,
    RoundFeedback,
    bins,
    judge_attempts,
)
from codestill.recipes.iterkd.views.model import JudgeConfig, Judged
from codestill.recipes.iterkd.views.tool import ToolReport, ToolViewConfig

__all__ = [
    "Calibration",
    "Feedback",
    "FeedbackConfig",
    "JudgeConfig",
    "Judged",
    "RoundFeedback",
    "ToolReport",
    "ToolViewConfig",
    "bins",
    "calibrate",
    "judge_attempts",
]
