"""The exam of a pocket teacher: every skill on held-out compositions, scored by execution and by the grammar.

What the scores mean stands in ``MEASURES``. Tasks are of compositions that no lesson showed; those of depth
four are deeper than any task that a lesson asked to be solved. Attempts to repair and to judge are a
student's, as a rule one trained on raw data (``raw_student``).
"""

from codestill.recipes.pocket.exam.card import card, write_bundle
from codestill.recipes.pocket.exam.examine import examine, finished
from codestill.recipes.pocket.exam.records import MEASURES, Calibration, Exam, ExamConfig, Score
from codestill.recipes.pocket.exam.students import RawStudentConfig, raw_student

__all__ = [
    "MEASURES",
    "Calibration",
    "Exam",
    "ExamConfig",
    "RawStudentConfig",
    "Score",
    "card",
    "examine",
    "finished",
    "raw_student",
    "write_bundle",
]
