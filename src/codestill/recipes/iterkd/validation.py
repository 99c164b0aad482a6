"""Validation round by round: when to stop, what is forgotten, and the record that the report shows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import Field, PositiveInt

from codestill.attempt import Workbench
from codestill.evaluation.metrics import interval, paired_difference, pass_at_k
from codestill.models import Completer, SamplingConfig
from codestill.recipes.iterkd.records import RoundRecord
from codestill.recipes.iterkd.views import Calibration
from codestill.run import Run
from codestill.sandbox import error_class
from codestill.tasks import TaskSet
from codestill.types import Attempt, Interval, Settings


class StopConfig(Settings):
    """Early stopping."""

    rounds: PositiveInt = 2
    """Stop after this many rounds in a row without a gain on the validation tasks whose interval excludes
    zero."""
    samples_per_task: PositiveInt = 2
    """Samples for each validation task."""
    temperature: float = Field(default=0.2, gt=0)
    """Their temperature."""


@dataclass
class RoundValidation:
    """A student's validation before the first round and after each; and its retention of the first tasks."""

    validation: TaskSet
    retained: TaskSet
    """Tasks of the first round that are attempted again after each."""
    stop: StopConfig
    max_new_tokens: int
    rates: list[list[float]] = field(default_factory=list)
    """Pass rate of each validation task, round by round, the start first."""
    errors: list[dict[str, int]] = field(default_factory=list)
    """Attempts at validation tasks by class of error, round by round."""
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    """Of each view in the first round that had it."""

    def start(self, student: Completer, bench: Workbench) -> None:
        """Validate before the first round."""
        self._validate(student, bench)

    def round(self, student: Completer, bench: Workbench) -> dict[str, object]:
        """Validate after a round: the fields of its record that are measured here."""
        before = self.errors[-1]
        passed = self._validate(student, bench)
        greedy = SamplingConfig(max_new_tokens=self.max_new_tokens)
        again = bench.attempt("first-tasks", student, self.retained, greedy)
        samples = self.stop.samples_per_task
        return {
            "errors_before": before,
            "errors_after": self.errors[-1],
            "pass_at": {
                k: interval([pass_at_k(samples, n, k) for n in passed]) for k in range(1, samples + 1)
            },
            "gain": self.gain(len(self.rates) - 1),
            "kept": interval([float(attempt.result.passed) for attempt in again]),
        }

    def gain(self, number: int) -> Interval:
        """Gain of round ``number`` (from 1) over the best before it, paired over validation tasks."""
        best = max(self.rates[:number], key=lambda rates: sum(rates))
        return paired_difference([self.rates[number]], [best])

    @property
    def stalled(self) -> bool:
        """Whether none of the last ``stop.rounds`` rounds has shown a gain."""
        last, rounds = len(self.rates) - 1, self.stop.rounds
        return last >= rounds and all(self.gain(last - n).low <= 0 for n in range(rounds))

    def _validate(self, student: Completer, bench: Workbench) -> list[int]:
        """How many samples of each validation task pass. Stage: validation."""
        samples = self.stop.samples_per_task
        sampling = SamplingConfig(temperature=self.stop.temperature, max_new_tokens=self.max_new_tokens)
        attempts = bench.attempt("validation", student, self.validation, sampling, samples=samples)
        passed = Counter(attempt.task_id for attempt in attempts if attempt.result.passed)
        counts = [passed[task.task_id] for task in self.validation.tasks]
        self.rates.append([count / samples for count in counts])
        self.errors.append(by_error(attempts))
        return counts


def by_error(attempts: Sequence[Attempt]) -> dict[str, int]:
    """Attempts by class of error, the commonest first."""
    return dict(Counter(error_class(attempt.result) for attempt in attempts).most_common())


def write_round(record: RoundRecord, run: Run) -> None:
    """Write the record, log and account its numbers, and warn of a view that is no better than chance."""
    for calibration in record.calibrations:
        if calibration.warning:
            run.message("feedback", calibration.warning)
    run.write("round.json", record)
    metrics: dict[str, float | int | str | None] = {f"bin_{name}": n for name, n in record.bins.items()}
    metrics |= {f"auroc_{calibration.view}": _mean(calibration.auroc) for calibration in record.calibrations}
    metrics |= {f"validation_pass@{k}": value.mean for k, value in record.pass_at.items()}
    metrics |= {"kept_pass@1": _mean(record.kept), "teacher_tokens": record.teacher_tokens}
    run.log("round", metrics)
    run.account(
        tasks=record.tasks,
        attempts_passed=record.passed,
        examples=record.solved,
        faults=sum(record.faults.values()),
        teacher_tokens=record.teacher_tokens,
    )


def _mean(value: Interval | None) -> float | None:
    return None if value is None else value.mean
