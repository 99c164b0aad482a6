"""What a teacher is asked in one run: every stage kept, and what it wrote counted."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from codestill.errors import ConfigError
from codestill.models import SamplingConfig
from codestill.prompts import Prompts
from codestill.prompts.modular import Modular
from codestill.run import Run
from codestill.tasks.stops import StopRule
from codestill.teachers.desk import Desk
from codestill.types import Completion, Request


@dataclass(frozen=True)
class Asker:
    """Asks a teacher stage by stage; a kept stage is read, and counts all the same."""

    desk: Desk
    prompts: Prompts
    stop: StopRule
    run: Run
    spent: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Stage -> answers and tokens that the teacher wrote, in whatever run it did."""

    def at(self, part: Run) -> "Asker":
        """The same for a part of the run; what is spent is counted together."""
        return replace(self, run=part)

    def ask(
        self, stage: str, requests: Sequence[Request], sampling: SamplingConfig, *, code: bool = False
    ) -> list[Completion]:
        """The answers, in the order of the requests. ``code``: each ends where the set's solutions do."""
        name = f"{self.run.prefix}{stage}"
        stopped = self.prompts.ended(self.stop) if code else None
        make = partial(self.desk.at(name).complete, sampling=sampling, seed=self.run.seed, stopped=stopped)
        answers = self.run.stage(stage, Completion, requests, make)
        self.count(stage, answers)
        return answers

    def count(self, stage: str, answers: Sequence[Completion]) -> None:
        """Count the answers of a stage that somebody else asked for."""
        self.spent[f"{self.run.prefix}{stage}"] = len(answers), sum(one.tokens for one in answers)

    @property
    def tokens(self) -> int:
        """Written by the teacher so far."""
        return sum(tokens for _, tokens in self.spent.values())

    @property
    def modular(self) -> Modular:
        """The prompts' forms for functions. Raises ConfigError where they have none."""
        if self.prompts.modular is None:
            raise ConfigError(
                f"the prompts {self.prompts.version} cannot ask for functions.",
                next_step="Give them `modular`, or use the prompts `instruct` or `continued`.",
            )
        return self.prompts.modular
