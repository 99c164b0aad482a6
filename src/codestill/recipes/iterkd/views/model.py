"""The model view: a judge reads a program and gives points; it sees no test and no execution."""

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import PositiveInt

from codestill.attempt import Completer
from codestill.models import SamplingConfig
from codestill.prompts import Prompts
from codestill.tasks import TaskSet
from codestill.teachers import LocalTeacherConfig
from codestill.teachers.desk import AnyTeacherConfig
from codestill.types import Attempt, Completion, Record, Request, Settings


class JudgeConfig(Settings):
    """Who judges, and how it is asked."""

    by: Literal["teacher", "model"] = "teacher"
    """Who judges: the teacher, or the ``model`` below."""
    model: AnyTeacherConfig = LocalTeacherConfig()
    """Another model or endpoint, such as one that was trained to judge."""
    samples: PositiveInt = 1
    """Judgements of each program; their mean counts."""
    sampling: SamplingConfig = SamplingConfig()
    """How a judgement is drawn; with several, at a temperature."""


class Judged(Record):
    """What the judge gave an attempt."""

    attempt: str
    """The attempt's key."""
    shares: tuple[float, ...]
    """Of the points that could be had, 0 to 1: one for each judgement that could be read."""
    unreadable: int = 0
    clipped: int = 0
    fractions: int = 0
    tokens: int = 0
    """Written by the judge."""

    @property
    def key(self) -> str:
        return self.attempt

    @property
    def score(self) -> float | None:
        """None where no judgement could be read."""
        return sum(self.shares) / len(self.shares) if self.shares else None


def judge(
    judge: Completer,
    task_set: TaskSet,
    prompts: Prompts,
    config: JudgeConfig,
    seed: int,
    owed: Sequence[Attempt],
) -> Iterator[Judged]:
    """A judgement of each attempt, whether it passes or not; in any order."""
    tasks = {task.task_id: task for task in task_set.tasks}
    asked = [
        Request(task_id=one.key, prompt=prompts.to_judge(tasks[one.task_id], one.completion.text), sample=n)
        for one in owed
        for n in range(config.samples)
    ]
    found: dict[str, list[Completion]] = {}
    for answer in judge.complete(asked, config.sampling, seed=seed):
        of_attempt = found.setdefault(answer.task_id, [])
        of_attempt.append(answer)
        if len(of_attempt) == config.samples:
            yield _read(answer.task_id, found.pop(answer.task_id), prompts)


def _read(attempt: str, answers: list[Completion], prompts: Prompts) -> Judged:
    answers.sort(key=lambda one: one.sample)
    ratings = [prompts.read_judgement(one.text) for one in answers]
    good = [one for one in ratings if one is not None]
    return Judged(
        attempt=attempt,
        shares=tuple(one.share for one in good),
        unreadable=len(ratings) - len(good),
        clipped=sum(one.clipped for one in good),
        fractions=sum(one.fractions for one in good),
        tokens=sum(one.tokens for one in answers),
    )
