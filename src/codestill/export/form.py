"""What a form of artefact is: how it is written, and which program runs it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from codestill.errors import ConfigError

if TYPE_CHECKING:
    from codestill.models.alone import Reader


@dataclass(frozen=True)
class Form:
    """A form of artefact. Its functions import their packages when they are called."""

    name: str
    kinds: tuple[str, ...]
    """How weights are stored in it; the first is the usual one."""
    write: Callable[[str, Path, str], None]
    """``write(source, place, kind)`` writes a saved model, a directory or hub id, whole or not at all. Raises
    ModelError for one that the form cannot hold."""
    open: "Callable[[Path, int, int], Reader]"
    """``open(place, threads, positions)``: the artefact in the program that runs it."""
    program: str
    """That program's name."""
    package: str
    """The package that brings it, and the module that it is imported as, where that is another."""
    writes_with: tuple[str, ...]
    """Modules that are needed to write it."""
    extra: str
    """Of codestill: what installs them."""
    ending: str = ""
    """Of a file's name; a directory has none."""

    @property
    def runs_with(self) -> str:
        """The program and its version; empty where it is not installed."""
        module = self.package.replace("-", "_").removesuffix("_python")
        try:
            return f"{self.program} {version(self.package)}" if find_spec(module) else ""
        except PackageNotFoundError:
            return ""

    def require(self) -> None:
        """Raises ConfigError where what writes it is not installed."""
        if missing := [module for module in self.writes_with if find_spec(module) is None]:
            raise ConfigError(
                f"{self.name} is written by packages that are not installed: {', '.join(missing)}.",
                next_step=f"Install them with: pip install 'codestill[{self.extra}]'",
            )


FORMS = ("gguf", "openvino", "onnx", "ollama")
"""Modules of this folder, each with a ``FORM``."""


@cache
def form(name: str) -> Form:
    """A form by its name. Raises KeyError for an unknown one."""
    if name not in FORMS:
        raise KeyError(name)
    return import_module(f"codestill.export.{name}").FORM
