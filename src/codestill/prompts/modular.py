"""Further templates for AMR-Evol and its baselines, and how their answers are parsed."""

import re
from collections.abc import Sequence

from codestill.errors import ConfigError
from codestill.prompts.render import render
from codestill.tasks.extract import after_thought
from codestill.types import Settings

_MENTIONED = re.compile(
    r"\b(?:relevant|provided|given|retrieved|helper|reference|above|supplied)\s+(?:\w+\s+)?functions?\b",
    re.IGNORECASE,
)


class Modular(Settings):
    """Further templates (jinja2) of a set, in the form of :class:`codestill.prompts.Prompts`.

    ``prompt`` is a task's prompt, ``answer`` the direct answer as a program, ``modules`` are headers with
    docstrings, ``functions`` are programs; ``attempt`` and ``solution`` are completions, ``attempted`` and
    ``solved`` their whole programs.
    """

    decompose: str
    """Asks for functions that the task can be composed of, given ``answer``: only headers with docstrings."""
    alias: str | None = None
    """Name of a module while the teacher is prompted for it alone: the pocket teacher knows functions named
    after an operation only from compositions."""
    evolve: str
    """Asks for a better answer, given ``answer``, ``modules`` and ``functions``."""
    needs_code: bool = False
    """Whether ``evolve`` has no place for a module without code."""
    think: str
    """Asks for reasoning first, after one worked example (chain of thought)."""
    regenerate: str
    """Asks for another answer, given a wrong one (``attempt``) but no feedback on it."""
    tests: str | None = None
    """Asks for assertions about ``solution``, one a line. None where the teacher only generates calls."""
    evolve_task: str | None = None
    """Asks for a new task based on this one, given ``how`` (Code-Evol). None: asks for a harder task, by
    ``propose``."""
    ways: tuple[str, ...] = ()
    """Values of ``how``, taken in turn."""
    same: str | None = None
    """Asks whether a training task (``prompt``) gives away an evaluation task (``other``): yes or no."""

    @property
    def exemplary(self) -> frozenset[str]:
        """Names and docstrings (in lower case) of the functions that ``decompose`` gives as examples."""
        form = render(self.decompose, prompt="", answer="")
        named = re.findall(r"def (\w+)\(", form)
        said = re.findall(r'"""(.*?)"""', form, re.DOTALL)
        return frozenset([*named, *(" ".join(text.split()).lower() for text in said)])

    def to_decompose(self, prompt: str, answer: str) -> str:
        """The prompt that asks for modules."""
        return render(self.decompose, prompt=prompt, answer=answer)

    def to_evolve(self, prompt: str, answer: str, modules: Sequence[str], functions: Sequence[str]) -> str:
        """The prompt that asks for a better answer."""
        return render(
            self.evolve, prompt=prompt, answer=answer, modules=list(modules), functions=list(functions)
        )

    def to_think(self, prompt: str) -> str:
        """The prompt that asks for reasoning and an answer."""
        return render(self.think, prompt=prompt)

    def to_regenerate(self, prompt: str, attempt: str, attempted: str) -> str:
        """The prompt that asks for another answer."""
        return render(self.regenerate, prompt=prompt, attempt=attempt, attempted=attempted)

    def to_tests(self, prompt: str, solution: str, solved: str) -> str | None:
        """The prompt that asks for assertions, or None."""
        return render(self.tests, prompt=prompt, solution=solution, solved=solved) if self.tests else None

    def to_evolve_task(self, prompt: str, number: int) -> str | None:
        """The prompt that asks for a new task based on this one, in the ``number``-th way; or None."""
        if self.evolve_task is None:
            return None
        how = self.ways[number % len(self.ways)] if self.ways else ""
        return render(self.evolve_task, prompt=prompt, how=how)

    def to_compare(self, prompt: str, other: str) -> str:
        """The prompt that asks whether two tasks are the same. Raises ConfigError if the set has none."""
        if self.same is None:
            raise ConfigError(
                "these prompts cannot ask whether two tasks are the same.",
                next_step="Use the prompts `instruct`, or set instructions.judge to rule.",
            )
        return render(self.same, prompt=prompt, other=other)


def mentions(program: str) -> bool:
    """Whether a comment or docstring refers to functions that were shown, as an evolved answer must not."""
    comments = re.findall(r"#[^\n]*|\"{3}.*?\"{3}|'{3}.*?'{3}", program, re.DOTALL)
    return any(_MENTIONED.search(text) for text in comments)


def says_yes(answer: str) -> bool:
    """Whether an answer to ``to_compare`` is yes; one that is neither counts as yes, to be safe."""
    match = re.search(r"\b(yes|no)\b", after_thought(answer).lower())
    return match is None or match[1] == "yes"
