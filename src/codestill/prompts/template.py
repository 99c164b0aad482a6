"""A set of prompt templates, and the form of the answers."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from pydantic import Field

from codestill.assembly import is_program
from codestill.errors import ConfigError
from codestill.languages import LANGUAGES
from codestill.pocket.skills import Level
from codestill.prompts.answers import PROPOSAL, STATED, as_completion, fenced_blocks
from codestill.prompts.modular import Modular
from codestill.prompts.rating import Rating, read_rubric, read_steps
from codestill.prompts.render import render
from codestill.tasks.extract import after_thought, extract_code
from codestill.tasks.stops import StopRule, cut, stopped
from codestill.types import Settings, Task

Nearness = Literal["free", "near", "nearest"]
"""How close to the attempt a repair should stay: PERsD's prompts v0, v1 and v2."""


class Prompts(Settings):
    """Templates (jinja2), and the form of the answers.

    ``prompt`` is a task's prompt, ``attempt`` and ``solution`` are completions of it, ``attempted`` and
    ``solved`` the whole programs that these make, ``feedback`` is text; ``language`` is the task's language
    as a fence names it, ``called`` as prose does.
    The filter ``ended`` makes a text end with a newline, ``commented`` puts ``#`` before every line.
    """

    version: str
    """Name and number of the set; part of the run's config."""
    answers: Literal["continuation", "fenced"]
    """A completion of the task's prompt, or a fenced block that holds the whole program."""
    solve: str
    """Asks for a solution."""
    refine: str
    """Asks for the repair of ``attempt``, given ``feedback``, ``nearness`` and, if it is to be shown, the
    ``solution``."""
    show: str | None = None
    """Asks for a solution and shows one, the ``solution``. None if the set has no such prompt."""
    explain: str | None = None
    """Asks for a repair without execution feedback: first the mistakes in prose, then the repair. None if
    the set has no such prompt."""
    propose: str | None = None
    """Asks for a new task, given ``seeds`` (it should vary the first) and ``level``."""
    inputs: str | None = None
    """Asks for calls that test the ``solution``, one a line, alone or in assertions: values come from
    execution."""
    judge: str | None = None
    """Asks for a judgement of the ``solution``."""
    verdict: str | None = None
    """Asks whether the ``solution`` is right: yes or no."""
    rubric: dict[str, int] = Field(default_factory=dict)
    """Criteria of a judgement, with the most points of each; without any, answers have the pocket teacher's
    form."""
    fault: str | None = None
    """Asks for a program with a mistake that a learner might make, given a correct ``solution``. None: faults
    are taken from the teacher's own wrong answers."""
    shows_solution: bool = True
    """Whether ``refine`` has a place for the teacher's own solution."""
    nearness: dict[str, str] = Field(default_factory=dict)
    """The instruction for each rule of nearness; without any, the set makes no difference between them."""
    modular: Modular | None = None
    """Prompts that decompose a task and evolve its answer with functions. None if the set has none."""

    def to_solve(self, task: Task) -> str:
        """The prompt that asks for a solution; a gap's is what stands before it."""
        if task.suffix is not None:
            return task.prompt
        return render(self.solve, prompt=task.prompt, **_language(task))

    def to_train(self, task: Task, completion: str) -> str:
        """The answer that holds a completion of the task's prompt, in the form in which answers are read."""
        if self.answers == "continuation" or task.suffix is not None:
            return completion
        whole = is_program(completion, task.entry_point, task.language)
        return f"```{task.language}\n{(completion if whole else task.prompt + completion).strip()}\n```"

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
        """The prompt that asks for a repair. Raises ConfigError if the set has no such prompt."""
        template = self.explain if explain else self.refine
        if template is None:
            raise ConfigError(
                f"the prompts {self.version} cannot ask for an explanation first.",
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
            attempted=task.program(attempt),
            feedback=feedback,
            solution=solution,
            solved=None if solution is None else task.program(solution),
            nearness=self.nearness.get(nearness, ""),
            **_language(task),
        )

    def to_show(self, task: Task, solution: str) -> str:
        """The prompt that asks for a solution and shows one. Raises ConfigError if the set has none."""
        return _with_solution(_needed(self.show, self, "a solution beside another"), task, solution)

    def to_propose(self, seeds: Sequence[Task], level: Level) -> str:
        """The prompt that asks for a new task. Raises ConfigError if the set has none, or a seed is not in
        Python: proposals are read as headers with docstrings."""
        require_python(seeds, "new tasks are made")
        return render(
            _needed(self.propose, self, "tasks"), seeds=[task.prompt for task in seeds], level=level
        )

    def to_inputs(self, task: Task, solution: str) -> str:
        """The prompt that asks for calls. Raises ConfigError if the set has none."""
        return _with_solution(_needed(self.inputs, self, "test inputs"), task, solution)

    def to_judge(self, task: Task, solution: str) -> str:
        """The prompt that asks for a judgement. Raises ConfigError if the set has none."""
        template = _needed(self.judge, self, "judgements")
        points = [f"{name}: 0 to {most}" for name, most in self.rubric.items()]
        return _with_solution(template, task, solution, rubric=points)

    def to_verdict(self, task: Task, solution: str) -> str:
        """The prompt that asks whether a program is right. Raises ConfigError if the set has none."""
        return _with_solution(_needed(self.verdict, self, "a yes or no"), task, solution)

    def to_fault(self, task: Task, solution: str) -> str:
        """The prompt that asks for a faulty program."""
        return _with_solution(self.fault or self.solve, task, solution)

    def read_judgement(self, answer: str) -> Rating | None:
        """The points in an answer; None where they cannot be parsed."""
        return read_rubric(answer, self.rubric) if self.rubric else read_steps(answer)

    def read_proposal(self, answer: str) -> str | None:
        """The task's prompt in an answer: imports, a function's header, its docstring; or, of instructed
        models, a text with an assertion between quotes, as MBPP's prompts are. None if there is none."""
        if self.answers == "fenced":
            answer = after_thought(answer)
            answer = next(filter(_holds_task, reversed(fenced_blocks(answer))), answer)
        match = PROPOSAL.search(answer) or (STATED.search(answer) if self.answers == "fenced" else None)
        return f"{match[0].rstrip()}\n" if match else None

    def proposed(self, text: str) -> bool:
        """Whether the text generated so far holds a complete proposal."""
        return self.answers == "continuation" and PROPOSAL.search(text) is not None

    def ended(self, stop: StopRule, gaps: bool = False) -> Callable[[str], bool] | None:
        """A test of whether a text needs no more tokens, also where it fills a gap; None where the model ends
        its answers itself."""
        return partial(stopped, rule=stop) if self.answers == "continuation" or gaps else None

    def read(self, answer: str, task: Task, stop: StopRule) -> str:
        """The completion of the task's prompt in an answer."""
        if self.answers == "continuation" or task.suffix is not None:
            return cut(answer, stop)
        return as_completion(extract_code(answer, task.entry_point, task.prompt, task.language)[0], task)


def _holds_task(block: str) -> bool:
    return bool(PROPOSAL.search(block) or STATED.search(block))


def _with_solution(template: str, task: Task, solution: str, **values: list[str]) -> str:
    solved = task.program(solution)
    given: dict[str, str | list[str]] = {"prompt": task.prompt, "solution": solution, "solved": solved}
    return render(template, **given, **_language(task), **values)


def _language(task: Task) -> dict[str, str]:
    """What templates are told of the task's language. Raises ConfigError for a gap, which none describes."""
    if task.suffix is not None:
        raise ConfigError(
            f"{task.task_id} asks for what fills a gap, and no prompt shows a teacher both of its sides.",
            next_step="Give tasks that ask for whole functions; train.fim makes gaps of their solutions.",
        )
    return {"language": task.language, "called": LANGUAGES[task.language].called}


def require_python(tasks: Sequence[Task], what: str) -> None:
    """Raise ConfigError, naming the first, where a task is in another language."""
    other = next((task for task in tasks if task.language != "python"), None)
    if other is not None:
        raise ConfigError(
            f"{other.task_id} is in {LANGUAGES[other.language].called}, and {what} in Python alone.",
            next_step="Give tasks in Python.",
        )


def _needed(template: str | None, prompts: Prompts, what: str) -> str:
    if template is None:
        raise ConfigError(
            f"the prompts {prompts.version} cannot ask for {what}.",
            next_step="Use the prompts `instruct` or `continued`, or give tasks that have tests.",
        )
    return template
