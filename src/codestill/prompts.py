"""What teachers are asked, and how their answers are read: sets of templates, kept with the run's config.

A set is written either for models that continue a prompt, as base models and the pocket teacher do, or for
models that follow instructions and answer with a fenced block of code. A student reads and writes in one
form only, the first: :data:`CONTINUED`.
"""

import ast
import re
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from codestill.errors import ConfigError
from codestill.tasks.stops import StopRule, cut, extract_code, stopped
from codestill.types import Task

Nearness = Literal["free", "near", "nearest"]
"""How near to the attempt a repair shall stay: PERsD's prompts v0, v1 and v2."""


Level = Literal["easier", "same", "harder"]
"""How hard a proposed task shall be, beside its seed."""


class Prompts(BaseModel):
    """Templates (jinja2), and the form of the answers.

    ``prompt`` is a task's, ``attempt`` and ``solution`` are completions of it, ``feedback`` is text; the
    filter ``ended`` gives a text its last newline, ``commented`` puts ``#`` before every line.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

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
    shows_solution: bool = True
    """Whether ``refine`` has a place for the teacher's own solution."""
    nearness: dict[str, str] = {}
    """What is said for each rule of nearness; a set without words knows one rule."""

    def to_solve(self, task: Task) -> str:
        """The prompt that asks for a solution."""
        return _render(self.solve, prompt=task.prompt)

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
        return _render(
            template,
            prompt=task.prompt,
            attempt=attempt,
            feedback=feedback,
            solution=solution,
            nearness=self.nearness.get(nearness, ""),
        )

    def to_propose(self, seeds: Sequence[Task], level: Level) -> str:
        """The prompt that asks for a new task. Raises ConfigError where the set has none."""
        return _render(
            _needed(self.propose, self, "tasks"), seeds=[task.prompt for task in seeds], level=level
        )

    def to_inputs(self, task: Task, solution: str) -> str:
        """The prompt that asks for calls. Raises ConfigError where the set has none."""
        return _render(_needed(self.inputs, self, "test inputs"), prompt=task.prompt, solution=solution)

    def read_proposal(self, answer: str) -> str | None:
        """The prompt of the task in an answer: imports, a function's header, its docstring. None where there
        is none."""
        if self.answers == "fenced":
            blocks = re.findall(r"```[^\n]*\n(.*?)```", answer, re.DOTALL)
            answer = next((block for block in reversed(blocks) if "def " in block), "")
        found = _PROPOSAL.search(answer)
        return f"{found[0].rstrip()}\n" if found else None

    def proposed(self, text: str) -> bool:
        """Whether a proposal is complete as far as it is written."""
        return self.answers == "continuation" and _PROPOSAL.search(text) is not None

    def ended(self, stop: StopRule) -> Callable[[str], bool] | None:
        """Whether a text needs no continuation; None where the model ends its answers itself."""
        return partial(stopped, rule=stop) if self.answers == "continuation" else None

    def read(self, answer: str, task: Task, stop: StopRule) -> str:
        """The completion of the task's prompt that an answer holds."""
        if self.answers == "continuation":
            return cut(answer, stop)
        return as_completion(extract_code(answer, task.entry_point)[0], task)


def as_completion(program: str, task: Task) -> str:
    """A whole program as a completion of the task's prompt: the body of its function, then everything else.

    A program that does not parse, or lacks the function, is returned as it is: execution will say so.
    """
    try:
        tree = ast.parse(program)
    except SyntaxError:
        return program
    lines = program.split("\n")
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == task.entry_point]
    if not functions:
        return program
    function = functions[-1]
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body or function.body[0].lineno == function.lineno:  # a docstring alone, or all in one line
        indented = [f"    {ast.unparse(statement)}" for statement in body] or ["    pass"]
    else:
        # From where the statement before ends: comments between them stay.
        before = function.body[0].end_lineno if len(body) < len(function.body) else body[0].lineno - 1
        indented = lines[before or 0 : function.end_lineno]
    others = [
        "\n".join(lines[min([n.lineno, *_decorators(n)]) - 1 : n.end_lineno])
        for n in tree.body
        if n is not function
    ]
    return "\n".join(indented) + "\n" + "".join(f"\n\n{other}\n" for other in others)


_PROPOSAL = re.compile(
    r"""
      (?: ^(?:import|from)\ [^\n]*\n+ )*
      ^def\ \w+\(.*?\)[^\n]*:\n
      \s+ (\"{3}|'{3}) .*? \1 [^\n]*\n?
    """,
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)


def _needed(template: str | None, prompts: Prompts, what: str) -> str:
    if template is None:
        raise ConfigError(
            f"the prompts {prompts.version} cannot ask for {what}.",
            next_step="Use the prompts `instruct` or `continued`, or give tasks that have tests.",
        )
    return template


def _decorators(node: ast.stmt) -> list[int]:
    return [one.lineno for one in getattr(node, "decorator_list", [])]


@cache
def _compiled(template: str) -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    environment.filters["ended"] = lambda text: text if text.endswith("\n") else f"{text}\n"
    environment.filters["commented"] = _commented
    return environment.from_string(template)


def _render(template: str, **values: str | list[str] | None) -> str:
    from jinja2 import TemplateError

    try:
        return _compiled(template).render(**values)
    except TemplateError as error:
        raise ConfigError(
            f"a prompt template cannot be filled in: {error}",
            next_step=f"It may use {', '.join(values)}, and the filters ended and commented.",
        ) from error


def _commented(text: str) -> str:
    return "".join(f"# {line}\n" for line in text.split("\n")) if text else ""


CONTINUED = Prompts(
    version="continued-1",
    answers="continuation",
    solve="{{ prompt }}",
    refine="{{ prompt }}{{ attempt|ended }}{{ feedback|commented }}{{ prompt }}",
    propose="{{ seeds[0] }}# {{ level }}\n",
    inputs="{{ prompt }}{{ solution|ended }}# tests\n",
    shows_solution=False,
)
"""Python throughout: the task, the attempt, what happened as comments, and the task once more. What the
pocket teacher was trained on, and what every student reads."""

_ATTEMPTED = """\
This is a programming task:

```python
{{ prompt|ended }}```
{% if solution %}
You solved it like this:

```python
{{ prompt }}{{ solution|ended }}```
{% endif %}
A student wrote this:

```python
{{ prompt }}{{ attempt|ended }}```
"""

INSTRUCT = Prompts(
    version="instruct-1",
    answers="fenced",
    solve="""\
Complete this Python function:

```python
{{ prompt|ended }}```

Answer with one fenced block of Python that begins with the function's header and holds all of it.
""",
    refine=_ATTEMPTED
    + """\

Its unit tests ended with:

{{ feedback }}

Mend the student's program. {{ nearness }}
Answer with one fenced block of Python that begins with the function's header and holds all of it.
""",
    explain=_ATTEMPTED
    + """\

First name the student's mistakes, a line each. Then mend the program. {{ nearness }}
End with one fenced block of Python that begins with the function's header and holds all of it.
""",
    propose="""\
These are programming tasks, each the header of a Python function with its docstring:
{% for seed in seeds %}

```python
{{ seed|ended }}```
{% endfor %}

Invent one new task of this kind, {{ "as hard as" if level == "same" else level + " than" }} the first.
Its answer must follow from the arguments alone: no files, no network, no chance. Write one fenced block of
Python with imports where they are needed, the header with type hints, and the docstring; no body.
""",
    inputs="""\
This function solves a task:

```python
{{ prompt }}{{ solution|ended }}```

Write five calls of it that would find mistakes in another solution, edge cases among them: a call in each
line, with literal arguments, without their values and without any other text.
""",
    nearness={
        "free": "",
        "near": "If its idea can work, change as little as possible; write it anew only if it cannot.",
        "nearest": "Keep its idea, its names and every line that is not at fault.",
    },
)
"""For models that follow instructions."""

PROMPT_SETS: dict[str, Prompts] = {"continued": CONTINUED, "instruct": INSTRUCT}
PromptSetName = Literal["continued", "instruct"]


def prompt_set(prompts: "PromptSetName | Prompts") -> Prompts:
    """A set by name, or one's own as it is."""
    return PROMPT_SETS[prompts] if isinstance(prompts, str) else prompts
