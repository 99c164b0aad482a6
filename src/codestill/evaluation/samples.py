"""Samples that were made elsewhere: the form that a file's texts have."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

from codestill.prompts import as_completion
from codestill.tasks import extract_code
from codestill.types import Task

Form = Literal["completion", "answer", "stripped"]
"""``completion``: a continuation of the prompt, or a whole program; ``answer``: a chat answer, with fences or
prose; ``stripped``: a continuation whose first line lost its indentation."""

_BETTER = 0.1
"""Share of the samples that another form must make valid before it is preferred to plain completions."""


def _answer(text: str, task: Task) -> str:
    return as_completion(extract_code(text, task.entry_point, task.prompt)[0], task)


def _indented(text: str, task: Task) -> str:
    """The text with the indentation of the prompt's last line of code, where the text lacks it."""
    if not text or text[0].isspace():
        return text
    indent = re.search(r"^([ \t]+)\S[^\n]*\s*\Z", task.prompt, re.MULTILINE)
    return (indent[1] if indent else "    ") + text


_READ: Mapping[Form, Callable[[str, Task], str]] = {
    "completion": lambda text, task: text,
    "answer": _answer,
    "stripped": _indented,
}
assert tuple(_READ) == get_args(Form)


def read_as(form: Form, text: str, task: Task) -> str:
    """The completion of the task's prompt in a sample's text."""
    return _READ[form](text, task) if task.language == "python" else text


def form_of(samples: Sequence[tuple[Task, str]]) -> Form:
    """The form in which most texts are valid programs; plain completions unless another is clearly better."""
    enough = _BETTER * len(samples)

    def valid(form: Form) -> int:
        return sum(task.accepts(read_as(form, text, task)) for task, text in samples)

    plain = valid("completion")
    if not samples or len(samples) - plain < enough:  # no form can be that much better
        return "completion"
    counts: dict[Form, int] = {"completion": plain, "answer": valid("answer"), "stripped": valid("stripped")}
    best = max(counts, key=lambda form: counts[form])
    return best if counts[best] - plain >= enough else "completion"
