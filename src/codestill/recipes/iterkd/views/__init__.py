"""Multi-view feedback on attempts (IterKD, arXiv:2408.03680): a judge's view, a tools' view, and how far each
can be believed.

``model`` asks a judge for points, ``tool`` parses, compiles, lints and executes, ``combine`` makes one score
of them and bins tasks by it, ``calibrate`` holds each view against what the tests say.
"""

from codestill.recipes.iterkd.views.calibrate import Calibration, calibrate
from codestill.recipes.iterkd.views.combine import Feedback, FeedbackConfig, Viewed, bins, look
from codestill.recipes.iterkd.views.model import JudgeConfig, Judged
from codestill.recipes.iterkd.views.tool import ToolReport, ToolViewConfig

__all__ = [
    "Calibration",
    "Feedback",
    "FeedbackConfig",
    "JudgeConfig",
    "Judged",
    "ToolReport",
    "ToolViewConfig",
    "Viewed",
    "bins",
    "calibrate",
    "look",
]
