"""What an iterative recipe measures in each round, and the record of it that the report reads."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from pydantic import Field, PositiveInt

from codestill.attempt import Completer, attempt, requests
from codestill.evaluation.metrics import interval, paired_difference, pass_at_k
from codestill.models import SamplingConfig
from codestill.recipes.iterkd.records import Cycle
from codestill.recipes.iterkd.views import Calibration
from codestill.run import Run
from codestill.sandbox import Sandbox, error_class
from codestill.serialize import to_json, write_atomic
from codestill.tasks import TaskSet
from codestill.types import Attempt, Interval, Settings


class StopConfig(Settings):
    """When there is no point in going on."""

    rounds: PositiveInt = 2
    """Stop after so many rounds in a row without a gain on the validation tasks that its interval shows."""
    samples_per_task: PositiveInt = 2
    """Answers to each validation task."""
    temperature: float = Field(default=0.2, gt=0)
    """How they are drawn."""


@dataclass(frozen=True)
class Progress:
    """pass rates per validation task, round by round, the start first."""

    rates: Sequence[Sequence[float]]

    def gain(self, number: int) -> Interval:
        """Of round ``number`` (from 1) over the best before it, paired over tasks."""
        best = max(self.rates[:number], key=lambda one: sum(one))
        return paired_difference([self.rates[number]], [best])

    def stalled(self, rounds: int) -> bool:
        """Whether none of the last ``rounds`` rounds has shown a gain."""
        last = len(self.rates) - 1
        return last >= rounds and all(self.gain(last - n).low <= 0 for n in range(rounds))


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
