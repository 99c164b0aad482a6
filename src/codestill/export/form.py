"""What a form of artefact is: how it is written, and which program runs it."""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codestill.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@contextmanager
def quietly() -> "Iterator[None]":
    """Exporters tell every step of theirs, and what to do about it; what goes wrong they raise."""
    import io
    import logging
    import warnings
    from contextlib import redirect_stderr, redirect_stdout

    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def decoding_graph(source: str) -> tuple[Any, dict[str, Any], Any]:
    """The model's pass over tokens that follow others, what such a pass takes, and the tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast
    from transformers.exporters.utils import decompose_for_generation

    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    tokens_1T = torch.arange(8)[None]
    parts = decompose_for_generation(
        model,
        {"input_ids": tokens_1T, "attention_mask": torch.ones_like(tokens_1T)},
        generation_config=GenerationConfig(max_new_tokens=3, do_sample=False, pad_token_id=0),
        multi_token_decode=True,
    )
    graph, inputs = parts["decode"]
    return graph, dict(inputs), PreTrainedTokenizerFast.from_pretrained(source)


def positions_after(past: int, ids: Sequence[int]) -> list[list[int]]:
    """Positions [1, n] of tokens that follow so many."""
    return [list(range(past, past + len(ids)))]
