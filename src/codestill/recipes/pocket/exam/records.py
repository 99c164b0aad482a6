"""What is measured in an exam, how it is set up, and its result."""

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
    "compose depth 4": "greedy answers that pass when right helper functions are given",
    "compose - solve depth 4": "paired over tasks",
    "refine": "a student's failed greedy attempts whose repair passes, in one try",
    "decompose valid": "two functions or more that lead from the argument's type to the result's",
    "decompose right": "exactly the task's operations, in order",
    "inputs valid": "three different calls or more, and the reference takes them all",
    "inputs telling": "calls that tell the reference from all its deletion mutants",
    "ask": "well-formed tasks of this world that no lesson showed",
    "ask level": "well-formed tasks one operation shorter, as long, or one longer, as asked",
    "judge AUROC": "a student's programs that pass, ranked above those that fail by the mean rating",
    "judge read": "answers that are a reason and a score",
}


class ExamConfig(Settings):
    """How a pocket teacher is examined."""

    split: Literal["validation", "test"] = "validation"
    """Held-out compositions. Choices are made on validation; test is for the last word."""
    count: PositiveInt = 600
    """Tasks of each skill, and of depth four."""
    seed: int = 1
    """Of the tasks."""
    temperature: float = Field(default=0.7, ge=0)
    """At which test inputs and further verdicts are drawn; all else is greedy."""
    ask_temperature: float = Field(default=0.0, ge=0)
    """At which new tasks are drawn; 0 is greedy."""
    judgements: PositiveInt = 4
    """Verdicts on each program, the first greedy; the mean of their ratings ranks it."""
    max_new_tokens: PositiveInt = 256
    """Longest answer, in tokens."""


class Score(Record):
    """One measure."""

    measure: Measure
    value: Interval
    count: int
    """Tasks, attempts or programs that it is a mean over."""
    by_depth: dict[str, Interval] = Field(default_factory=dict)


class Calibration(Record):
    """What became of programs that the judge gave one score."""

    score: int
    programs: int
    passed: float
    """Share that passed all tests."""
    tests: float
    """Mean share of tests passed: the score is a forecast of eight times this."""


class Exam(Record):
    """All scores of one teacher."""

    model: str
    student: str
    """Whose attempts were repaired and judged."""
    split: str
    sandbox: str
    scores: tuple[Score, ...]
    """In the order of ``MEASURES``; without what cannot be measured, such as repairs where nothing failed."""
    calibration: tuple[Calibration, ...]

    def __getitem__(self, measure: Measure) -> Score:
        return next(score for score in self.scores if score.measure == measure)
