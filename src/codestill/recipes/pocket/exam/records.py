"""An exam's measures, settings and result."""

from typing import Literal

from pydantic import Field, PositiveInt

from codestill.types import Interval, Record, Settings

Measure = Literal[
    "solve",
    "solve depth 4",
    "compose depth 4",
    "compose - solve depth 4",
    "refine",
    "decompose valid",
    "decompose right",
    "inputs valid",
    "inputs telling",
    "ask",
    "ask level",
    "judge AUROC",
    "judge read",
]
MEASURES: dict[Measure, str] = {
    "solve": "greedy answers that pass, depth 2 and 3",
    "solve depth 4": "the same at depth 4, deeper than any lesson",
    "compose depth 4": "greedy answers that pass when correct helper functions are given",
    "compose - solve depth 4": "paired over tasks",
    "refine": "a student's failed greedy attempts whose repair passes, in one try",
    "decompose valid": "at least two functions that lead from the argument's type to the result's",
    "decompose right": "exactly the task's operations, in order",
    "inputs valid": "at least three different calls, all of which the reference accepts",
    "inputs telling": "calls that distinguish the reference from all its deletion mutants",
    "ask": "well-formed tasks of this world that occur in no lesson",
    "ask level": "well-formed tasks one operation shorter, as long, or one longer, as requested",
    "judge AUROC": "a student's programs that pass, ranked above those that fail by the mean rating",
    "judge read": "answers that can be parsed into reasons and a score",
}


class ExamConfig(Settings):
    """How a pocket teacher is examined."""

    split: Literal["validation", "test"] = "validation"
    """Held-out compositions. Choices are made on validation; test is for the final result."""
    count: PositiveInt = 600
    """Tasks for each skill, and as many of depth four."""
    seed: int = 1
    """Seed of the tasks."""
    temperature: float = Field(default=0.7, ge=0)
    """Sampling temperature of test inputs and further verdicts; all else is greedy."""
    ask_temperature: float = Field(default=0.0, ge=0)
    """Sampling temperature of new tasks; 0 is greedy."""
    judgements: PositiveInt = 4
    """Verdicts on each program, the first of them greedy; their mean rating ranks it."""
    max_new_tokens: PositiveInt = 256
    """Longest answer, in tokens."""


class Score(Record):
    """One measure."""

    measure: Measure
    value: Interval
    count: int
    """Tasks, attempts or programs that it is a mean over."""
    by_depth: dict[str, Interval] = Field(default_factory=dict)


class JudgeCalibration(Record):
    """How the programs with one of the judge's scores did on their tests."""

    score: int
    programs: int
    passed: float
    """Share that passed all tests."""
    tests: float
    """Mean share of tests passed: the score predicts eight times this."""


class Exam(Record):
    """All scores of one teacher."""

    model: str
    student: str
    """Whose attempts were repaired and judged."""
    split: str
    sandbox: str
    scores: tuple[Score, ...]
    """In the order of ``MEASURES``; what cannot be measured is missing, e.g. repairs where nothing failed."""
    calibration: tuple[JudgeCalibration, ...]

    def __getitem__(self, measure: Measure) -> Score:
        return next(score for score in self.scores if score.measure == measure)
