"""A set of templates, and the form of the answers."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from pydantic import Field

from codestill.errors import ConfigError
from codestill.pocket.skills import Level
from codestill.prompts.answers import PROPOSAL, as_completion
from codestill.prompts.modular import Modular
from codestill.prompts.rating import Rating, read_rubric, read_steps
from codestill.prompts.render import render
from codestill.tasks.stops import StopRule, cut, extract_code, stopped
from codestill.types import Settings, Task

Nearness = Literal["free", "near", "nearest"]
"""How near to the attempt a repair shall stay: PERsD's prompts v0, v1 and v2."""


class Prompts(Settings):
    """Templates (jinja2), and the form of the answers.

    ``prompt`` is a task's, ``attempt`` and ``solution`` are completions of it, ``feedback`` is text; the
    filter ``ended`` gives a text its last newline, ``commented`` puts ``#`` before every line.
    """

    version: str
    """Name and number of the set: part of what a run is."""
    answers: Literal["continuation", "fenced"]
    """A completion of the task's prompt, or a fenced block that holds the whole program."""
    solve: str
    """Asks for a solution."""
    refine: str
    """Asks for the repair of ``attempt``, given ``feedback``, the ``solution`` where it is to be shown, and
    ``nearness``."""
    explain: str | None = None
    """The same without execution: mistakes first, in words, then the repair. None where the set has no such
    prompt."""
    propose: str | None = None
    """Asks for a new task, given ``seeds`` (the first is to be varied) and ``level``."""
    inputs: str | None = None
    """Asks for calls that test the ``solution``, a line each."""
    judge: str | None = None
    """Asks for a judgement of the ``solution``."""
    rubric: dict[str, int] = Field(default_factory=dict)
    """Criteria of a judgement and the most points of each; without any, the pocket teacher's form is read."""
    fault: str | None = None
    """Asks for a program that is wrong in a way that a learner would be, given a right ``solution``. None:
    wrong ones are found among the teacher's own answers."""
    shows_solution: bool = True
    """Whether ``refine`` has a place for the teacher's own solution."""
    nearness: dict[str, str] = Field(default_factory=dict)
    """What is said for each rule of nearness; a set without words knows one rule."""
    modular: Modular | None = None
    """How a task is taken apart and its answer written again with functions. None where the set cannot
    ask."""

    def to_solve(self, task: Task) -> str:
        """The prompt that asks for a solution."""
        return render(self.solve, prompt=task.prompt)

    def to_refine(
        self,
        task: Task,
        attempt: str,
        feedback: str,
        *,
        solution: str | None = None,
        nearness: Nearness = "near",
        explain: bool = False,
    ) -> str:
        """The prompt that asks for a repair. Raises ConfigError where the set cannot ask for it so."""
        template = self.explain if explain else self.refine
        if template is None:
            raise ConfigError(
                f"the prompts {self.version} have no form that asks for an explanation first.",
                next_step="Use the prompts `instruct`, or set refine.explain to false.",
            )
        if solution is not None and not self.shows_solution:
            raise ConfigError(
                f"the prompts {self.version} have no place for the teacher's own solution.",
                next_step="Use the prompts `instruct`, or set refine.show_solution to false.",
            )
        return render(
            template,
            prompt=task.prompt,
            attempt=attempt,
            feedback=feedback,
            solution=solution,
            nearness=self.nearness.get(nearness, ""),
        )

    def to_propose(self, seeds: Sequence[Task], level: Level) -> str:
        """The prompt that asks for a new task. Raises ConfigError where the set has none."""
        return render(
            _needed(self.propose, self, "tasks"), seeds=[task.prompt for task in seeds], level=level
        )

    def to_inputs(self, task: Task, solution: str) -> str:
        """The prompt that asks for calls. Raises ConfigError where the set has none."""
        return render(_needed(self.inputs, self, "test inputs"), prompt=task.prompt, solution=solution)

    def to_judge(self, task: Task, solution: str) -> str:
        """The prompt that asks for a judgement. Raises ConfigError where the set has none."""
        template = _needed(self.judge, self, "judgements")
        points = [f"{name}: 0 to {most}" for name, most in self.rubric.items()]
        return render(template, prompt=task.prompt, solution=solution, rubric=points)

    def to_fault(self, task: Task, solution: str) -> str:
        """The prompt that asks for a faulty program."""
        return render(self.fault or self.solve, prompt=task.prompt, solution=solution)

    def read_judgement(self, answer: str) -> Rating | None:
        """The points in an answer; None where they cannot be read."""
        return read_rubric(answer, self.rubric) if self.rubric else read_steps(answer)

    def read_proposal(self, answer: str) -> str | None:
        """The prompt of the task in an answer: imports, a function's header, its docstring. None where there
        is none."""
        if self.answers == "fenced":
            blocks = re.findall(r"```[^\n]*\n(.*?)```", answer, re.DOTALL)
            answer = next((block for block in reversed(blocks) if "def " in block), "")
        found = PROPOSAL.search(answer)
        return f"{found[0].rstrip()}\n" if found else None

    def proposed(self, text: str) -> bool:
        """Whether a proposal is complete as far as it is written."""
        return self.answers == "continuation" and PROPOSAL.search(text) is not None

    def ended(self, stop: StopRule) -> Callable[[str], bool] | None:
        """Whether a text needs no continuation; None where the model ends its answers itself."""
        return partial(stopped, rule=stop) if self.answers == "continuation" else None

    def read(self, answer: str, task: Task, stop: StopRule) -> str:
        """The completion of the task's prompt that an answer holds."""
        if self.answers == "continuation":
            return cut(answer, stop)
        return as_completion(extract_code(answer, task.entry_point)[0], task)


def _needed(template: str | None, prompts: Prompts, what: str) -> str:
    if template is None:
        raise ConfigError(
            f"the prompts {prompts.version} cannot ask for {what}.",
            next_step="Use the prompts `instruct` or `continued`, or give tasks that have tests.",
        )
    return template
