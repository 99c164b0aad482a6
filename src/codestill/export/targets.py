"""What a student can be exported to: ``gguf:q8_0`` and its like."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from codestill.errors import ConfigError
from codestill.models.gguf.kinds import KINDS, Kind


@dataclass(frozen=True)
class Target:
    """A form, and how weights are stored in it."""

    form: str
    kind: Kind

    @classmethod
    def parse(cls, name: str) -> Self:
        """``gguf:q8_0``; ``gguf`` alone is that. Raises ConfigError for any other form or kind."""
        form, _, kind = name.partition(":")
        known = ", ".join(f"gguf:{one}" for one in KINDS)
        if form != "gguf" or (kind or "q8_0") not in KINDS:
            raise ConfigError(f"nothing is exported to {name!r}.", next_step=f"Give some of {known}.")
        return cls(form, next(one for one in KINDS if one == (kind or "q8_0")))

    @property
    def name(self) -> str:
        return f"{self.form}-{self.kind}"

    def file(self, model: str) -> str:
        return f"{model}-{self.kind}.{self.form}"

    def write(self, source: str, path: Path) -> None:
        """Write a saved model, a directory or hub id, to ``path``. Raises ModelError for one that the form
        cannot hold."""
        from codestill.models.gguf.write import write_gguf

        write_gguf(source, path, self.kind)
