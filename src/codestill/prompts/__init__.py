"""Prompts for teachers, and how their answers are parsed: sets of templates, saved with the run's config.

A set is either for models that continue a prompt, as base models and the pocket teacher do, or for models
that follow instructions and answer with a fenced block of code. Students only use the first form:
:data:`CONTINUED`.
"""

from typing import Literal

from codestill.pocket.skills import Level
from codestill.prompts.answers import as_completion
from codestill.prompts.continued import CONTINUED
from codestill.prompts.instruct import INSTRUCT
from codestill.prompts.template import Nearness, Prompts

__all__ = [
    "CONTINUED",
    "INSTRUCT",
    "Level",
    "Nearness",
    "PromptSetName",
    "Prompts",
    "as_completion",
    "prompt_set",
]

PROMPT_SETS: dict[str, Prompts] = {"continued": CONTINUED, "instruct": INSTRUCT}
PromptSetName = Literal["continued", "instruct"]


def prompt_set(prompts: "PromptSetName | Prompts") -> Prompts:
    """The set of that name; a set of one's own is returned as it is."""
    return PROMPT_SETS[prompts] if isinstance(prompts, str) else prompts
