"""What AMR-Evol and its baselines ask besides: templates, and answers that are functions without bodies."""

import re
from collections.abc import Sequence

from codestill.errors import ConfigError
from codestill.prompts.render import render
from codestill.types import Settings

_MENTIONED = re.compile(
    r"\b(?:relevant|provided|given|retrieved|helper|reference|above|supplied)\s+(?:\w+\s+)?functions?\b",
    re.IGNORECASE,
)


class Modular(Settings):
    """Templates (jinja2) of a set, as :class:`codestill.prompts.Prompts` has them.

    ``prompt`` is a task's, ``answer`` is the direct one as a program, ``modules`` are headers with
    docstrings, ``functions`` are programs.
    """

    decompose: str
    """Asks for functions of which the task can be made, given ``answer``: headers with docstrings alone."""
    alias: str | None = None
    """What a module is called while the teacher is asked about it alone: the pocket teacher has met functions
    that are named after an operation in compositions only."""
    evolve: str
    """Asks for the answer once more, given ``answer``, ``modules`` and ``functions``."""
    needs_code: bool = False
    """Whether ``evolve`` has no place for a module without code."""
    think: str
    """Asks for thoughts first, with one worked example (chain of thought)."""
    regenerate: str
    """Asks for another answer, shown one that is wrong (``attempt``), but not why."""
    tests: str | None = None
    """Asks for assertions about ``solution``, a line each. None where the teacher writes calls alone."""
    evolve_task: str | None = None
    """Asks for a task made of this one, given ``how`` (Code-Evol). None: one that is harder, as
    ``propose``."""
    ways: tuple[str, ...] = ()
    """What ``how`` says, in turn."""
    same: str | None = None
    """Asks whether a training task gives an evaluation task away, ``prompt`` and ``other``: yes or no."""

    def to_decompose(self, prompt: str, answer: str) -> str:
        """The prompt that asks for modules."""
        return render(self.decompose, prompt=prompt, answer=answer)

    def to_evolve(self, prompt: str, answer: str, modules: Sequence[str], functions: Sequence[str]) -> str:
        """The prompt that asks for the answer once more."""
        return render(
            self.evolve, prompt=prompt, answer=answer, modules=list(modules), functions=list(functions)
        )

    def to_think(self, prompt: str) -> str:
        """The prompt that asks for thoughts and an answer."""
        return render(self.think, prompt=prompt)

    def to_regenerate(self, prompt: str, attempt: str) -> str:
        """The prompt that asks for another answer."""
        return render(self.regenerate, prompt=prompt, attempt=attempt)

    def to_tests(self, prompt: str, solution: str) -> str | None:
        """The prompt that asks for assertions, or None."""
        return render(self.tests, prompt=prompt, solution=solution) if self.tests else None

    def to_evolve_task(self, prompt: str, number: int) -> str | None:
        """The prompt that asks for a task made of this one, in the ``number``-th way; or None."""
        if self.evolve_task is None:
            return None
        how = self.ways[number % len(self.ways)] if self.ways else ""
        return render(self.evolve_task, prompt=prompt, how=how)

    def to_compare(self, prompt: str, other: str) -> str:
        """The prompt that asks whether two tasks are one. Raises ConfigError where the set has none."""
        if self.same is None:
            raise ConfigError(
                "these prompts cannot ask whether two tasks are the same.",
                next_step="Use the prompts `instruct`, or set instructions.judge to rule.",
            )
        return render(self.same, prompt=prompt, other=other)


def mentions(program: str) -> bool:
    """Whether a comment or docstring speaks of functions that were shown: an evolved answer must not."""
    said = re.findall(r"#[^\n]*|\"{3}.*?\"{3}|'{3}.*?'{3}", program, re.DOTALL)
    return any(_MENTIONED.search(text) for text in said)


def says_yes(answer: str) -> bool:
    """Whether an answer to ``to_compare`` is yes; what is neither yes nor no is taken as yes, the safe
    side."""
    found = re.search(r"\b(yes|no)\b", answer.lower())
    return found is None or found[1] == "yes"


def fenced_code(answer: str) -> str:
    """All fenced blocks that define functions, one after the other; the answer itself where there is none."""
    blocks = re.findall(r"```[^\n]*\n(.*?)```", answer, re.DOTALL)
    return "\n".join(block for block in blocks if "def " in block) or answer
