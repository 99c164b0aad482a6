"""What an iterative recipe measures in each round, and the record of it that the report reads."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from pydantic import Field

from codestill.attempt import Completer, attempt, requests
from codestill.curriculum import Progress, StopConfig
from codestill.models import SamplingConfig
from codestill.run import Run
from codestill.sandbox import Sandbox, error_class
from codestill.scoring import interval, pass_at_k
from codestill.serialize import to_json, write_atomic
from codestill.tasks import TaskSet
from codestill.types import Attempt, Bin, Interval, Record
from codestill.views import Calibration


class Cycle(Record):
    """One round of an iterative recipe, as the report tells of it."""

    round: int
    tasks: int
    solved: int
    """Tasks with a verified answer."""
    attempts: int
    passed: int
    bins: dict[Bin, int]
    """Tasks by difficulty."""
    calibrations: tuple[Calibration, ...]
    errors_before: dict[str, int]
    """Attempts at the validation tasks by class of error, before the round's training; `pass` for those that
    pass."""
    errors_after: dict[str, int]
    pass_at: dict[int, Interval]
    """On the validation tasks, after training."""
    gain: Interval | None = None
    """pass@1 less the best before it, paired over validation tasks."""
    kept: Interval | None = None
    """pass@1 on the first round's tasks."""
    faults: dict[str, int] = Field(default_factory=dict)
    """Faulty programs of the round's rows, by who wrote them."""
    fault_errors: dict[str, int] = Field(default_factory=dict)
    """And by class of error."""
    length_auroc: float | None = None
    """How often a right program is longer than a faulty one: 0.5 is no confound."""
    teacher_tokens: int = 0
    """Written by the teacher, and by the judge, for this round's rows, feedback and questions; whether this
    run paid for them or found them kept."""


@dataclass
class Measured:
    """A student's validation, round after round, the start first; and what is kept of the first questions."""

    validation: TaskSet
    watched: TaskSet
    stop: StopConfig
    max_new_tokens: int
    sandbox: Sandbox
    rates: list[list[float]] = field(default_factory=list)
    """Of each validation task."""
    errors: list[dict[str, int]] = field(default_factory=list)
    """Answers to validation tasks by class of error."""
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    """Of each view in the first round that had it."""

    def start(self, student: Completer, part: Run) -> None:
        """Before the first round."""
        self._validate(student, part)

    def round(self, student: Completer, part: Run) -> dict[str, object]:
        """After a round: the record's fields that are measured here."""
        before = self.errors[-1]
        each = self._validate(student, part)
        greedy = SamplingConfig(max_new_tokens=self.max_new_tokens)
        make = partial(attempt, student, self.watched, self.sandbox, greedy, part.seed)
        again = part.stage("first-tasks", Attempt, requests(self.watched), make)
        progress = Progress(self.rates)
        samples = self.stop.samples_per_task
        return {
            "errors_before": before,
            "errors_after": self.errors[-1],
            "pass_at": {k: interval([pass_at_k(samples, n, k) for n in each]) for k in range(1, samples + 1)},
            "gain": progress.gain(len(self.rates) - 1),
            "kept": interval([float(one.result.passed) for one in again]),
        }

    @property
    def stalled(self) -> bool:
        """Whether the rule to stop is met."""
        return Progress(self.rates).stalled(self.stop.rounds)

    def _validate(self, student: Completer, part: Run) -> list[int]:
        """How many answers to each validation task pass."""
        samples = self.stop.samples_per_task
        how = SamplingConfig(temperature=self.stop.temperature, max_new_tokens=self.max_new_tokens)
        make = partial(attempt, student, self.validation, self.sandbox, how, part.seed)
        answers = part.stage("validation", Attempt, requests(self.validation, samples), make)
        passed = Counter(one.task_id for one in answers if one.result.passed)
        each = [passed[task.task_id] for task in self.validation.tasks]
        self.rates.append([count / samples for count in each])
        self.errors.append(by_error(answers))
        return each


def by_error(attempts: Sequence[Attempt]) -> dict[str, int]:
    """Attempts by class of error, the commonest first."""
    return dict(Counter(error_class(one.result) for one in attempts).most_common())


def keep(cycle: Cycle, part: Run) -> None:
    """Write the record, its numbers into log and account, and say which view is no better than chance."""
    for one in cycle.calibrations:
        if one.warning:
            part.message("feedback", one.warning)
    write_atomic(part.directory / part.prefix / "cycle.json", to_json(cycle) + "\n")
    metrics: dict[str, float | int | str | None] = {f"bin_{name}": n for name, n in cycle.bins.items()}
    metrics |= {f"auroc_{one.view}": _mean(one.auroc) for one in cycle.calibrations}
    metrics |= {f"validation_pass@{k}": value.mean for k, value in cycle.pass_at.items()}
    metrics |= {"kept_pass@1": _mean(cycle.kept), "teacher_tokens": cycle.teacher_tokens}
    part.log("cycle", metrics)
    part.account(
        tasks=cycle.tasks,
        attempts_passed=cycle.passed,
        rows=cycle.solved,
        faults=sum(cycle.faults.values()),
        written=cycle.teacher_tokens,
    )


def _mean(value: Interval | None) -> float | None:
    return None if value is None else value.mean
