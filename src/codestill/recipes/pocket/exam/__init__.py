"""The exam of a pocket teacher: every skill on held-out compositions, scored by execution and by the grammar.

``MEASURES`` explains the scores. The tasks' compositions occur in no lesson, and those of depth four are
deeper than any task that a lesson solves. The attempts that are repaired and judged are a student's, by
default one trained on reference solutions (``raw_student``).
"""

from codestill.recipes.pocket.exam.card import card, write_bundle
from codestill.recipes.pocket.exam.examine import examine, finished, read_exam
from codestill.recipes.pocket.exam.records import MEASURES, Exam, ExamConfig, JudgeCalibration, Score
from codestill.recipes.pocket.exam.students import RawStudentConfig, raw_student

__all__ = [
    "MEASURES",
    "Exam",
    "ExamConfig",
    "JudgeCalibration",
    "RawStudentConfig",
    "Score",
    "card",
    "examine",
    "finished",
    "raw_student",
    "read_exam",
    "write_bundle",
]
