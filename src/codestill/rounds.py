"""Rounds: a student writes, is trained on what came of it, and writes again."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import NonNegativeInt, PositiveInt

from codestill.errors import TaskError
from codestill.examples import subset
from codestill.records import GROWS
from codestill.run import Run
from codestill.tasks import TasksConfig
from codestill.tasks.decontaminate import DecontaminateConfig
from codestill.types import Example
from codestill.warm_up import WarmedUpConfig

if TYPE_CHECKING:
    from codestill.models.student import Student


class RoundsConfig(WarmedUpConfig):
    """Base of the recipes whose rounds each collect examples from tasks and train on them."""

    tasks: TasksConfig = TasksConfig(source="pocket", split="train", count=500, skip=1000)
    """What is attempted; pocket tasks are fresh in every round."""
    decontaminate: DecontaminateConfig | None = None
    """Leave out tasks that repeat evaluation tasks; pocket tasks are split by composition instead."""
    rounds: PositiveInt = 1
    """Collections, each followed by training."""
    evaluated: Literal["all", "last"] = "all"
    """Which rounds' students are evaluated."""
    start: Literal["base", "last"] = "last"
    """What each further round trains: the student as it was before the first round, or the last round's."""
    replay_examples: Annotated[NonNegativeInt, GROWS] = 0
    """Examples of earlier rounds, sampled at random, that each round trains on again."""
    max_examples: Annotated[PositiveInt | None, GROWS] = None
    """At most this many new examples per round, sampled at random: for comparisons at equal data."""

    @property
    def fresh_rounds(self) -> int:
        """How often the tasks are drawn anew."""
        return self.rounds


@dataclass(frozen=True)
class Round:
    """One of a run's rounds."""

    number: int
    """Counted from 0."""
    run: Run
    """Keeps the round's records."""
    keeper: Run
    """Keeps the student that the round trains, and its evaluation: the last round's are the whole run's."""
    student: "Student"
    """As it was when the round began: who writes."""

    @property
    def seed(self) -> int:
        """That of the round's own sampling."""
        return self.run.seed + self.number

    def tokens(self, example: Example) -> int:
        """Tokens of prompt and completion."""
        ((prompt, completion),) = self.student.codec.examples([(example.prompt, example.completion)])
        return len(prompt) + len(completion)

    def named(self, examples: Iterable[Example]) -> list[Example]:
        """The examples under names of this round: a task may come again in a later one."""
        return [
            example.model_copy(update={"example_id": self.run.named(example.example_id)})
            for example in examples
        ]


def in_rounds(
    config: RoundsConfig,
    run: Run,
    base: Callable[[], "Student"],
    *,
    collect: Callable[[Round], list[Example]],
    train: Callable[[Round, "Student", list[Example], list[Example]], "Student"],
    evaluate: Callable[["Student", Run], object],
    nothing: TaskError,
) -> "Student":
    """The student that the last round trained.

    base: loads the student before the first round.
    collect: the round's new examples, named as :meth:`Round.named` names them.
    train: the round, the student to train, its new examples, and all of its examples -> the trained student.
    nothing: raised where the first round has no example. After a later one the student stays as it was.
    """
    student, earlier = base(), list[Example]()
    for number, part in enumerate(run.rounds(config.rounds)):
        keeper = run if number == config.rounds - 1 else part
        this = Round(number, part, keeper, student)
        new = subset(collect(this), config.max_examples, config.seed)
        examples = new + subset(earlier, config.replay_examples, config.seed + number)
        earlier += new
        part.account(examples=len(examples), example_tokens=sum(map(this.tokens, examples)))
        part.funnel({"rows": len(examples)})
        if examples:
            learner = base() if config.start == "base" and number else student
            student = train(this, learner, new, examples)
        elif number == 0:
            raise nothing
        else:
            keeper.message("train", "this round gave no training example: the student stays as it was")
            student.save(keeper.student_directory)
        if config.evaluated == "all" or keeper is run:
            evaluate(student, keeper)
    return student
