"""What a student can be exported to: ``gguf:q8_0`` and its like."""

from dataclasses import dataclass
from typing import Self

from codestill.errors import ConfigError
from codestill.export.form import FORMS, Form, form


@dataclass(frozen=True)
class Target:
    """A form, and how weights are stored in it."""

    form: Form
    kind: str

    @classmethod
    def parse(cls, name: str) -> Self:
        """``gguf:q8_0``; a form alone is its usual kind. Raises ConfigError for any other form or kind."""
        form_name, _, kind = name.partition(":")
        if form_name not in FORMS:
            raise ConfigError(
                f"nothing is exported to {name!r}.",
                next_step=f"Give some of {', '.join(FORMS)}, with a kind after a colon: gguf:q8_0.",
            )
        found = form(form_name)
        if kind and kind not in found.kinds:
            raise ConfigError(
                f"{form_name} has no kind {kind!r}.", next_step=f"Its kinds are {', '.join(found.kinds)}."
            )
        return cls(found, kind or found.kinds[0])

    def __str__(self) -> str:
        return f"{self.form.name}:{self.kind}"

    @property
    def name(self) -> str:
        """For the names of stages."""
        return f"{self.form.name}-{self.kind}"

    def file(self, model: str) -> str:
        """The artefact's name."""
        ending = self.form.ending
        return f"{model}-{self.kind}{ending}" if ending else f"{model}-{self.form.name}-{self.kind}"
