"""Prompts for teachers, and how their answers are parsed: sets of templates, saved with the run's config.

A set is either for models that continue a prompt, as base models and the pocket teacher do, or for models
that follow instructions and answer with a fenced block of code. A student is trained and evaluated in the
form that suits it: :func:`prompts_for`.
"""

from typing import Literal, TypeVar

from codestill.models import Asked, ChatConfig
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
    "PromptsSetting",
    "as_completion",
    "fitting",
    "prompt_set",
    "prompts_for",
]

PROMPT_SETS: dict[str, Prompts] = {"continued": CONTINUED, "instruct": INSTRUCT}
PromptSetName = Literal["continued", "instruct"]
PromptsSetting = Literal["auto"] | PromptSetName | Prompts
"""``auto``: the set that suits the model. A set of one's own is a mapping of templates."""
C = TypeVar("C")


def prompt_set(prompts: PromptSetName | Prompts) -> Prompts:
    """The set of that name; a set of one's own is returned as it is."""
    return PROMPT_SETS[prompts] if isinstance(prompts, str) else prompts


def prompts_for(model: Asked, prompts: PromptsSetting = "auto") -> Prompts:
    """The set that suits the model, unless another is named. Students are trained and evaluated with it."""
    if prompts == "auto":
        return INSTRUCT if model.form else CONTINUED
    return prompt_set(prompts)


def fitting(config: C, prompts: PromptsSetting) -> C:
    """The settings of a model that is asked with these prompts: ``chat: auto`` puts none into a template that
    the model shall continue. Those of an endpoint, whose template is the server's, stay as they are."""
    if not isinstance(config, ChatConfig):
        return config
    continues = prompts == "continued" or (isinstance(prompts, Prompts) and prompts.answers == "continuation")
    return config.model_copy(update={"chat": False}) if continues and config.undecided else config
