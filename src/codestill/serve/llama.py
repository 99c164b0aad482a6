"""llama.cpp's own server, where it is installed and what is served is its own kind of file."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

from codestill.errors import ConfigError
from codestill.serve.config import ServeConfig

PROGRAM = "llama-server"
_SLOTS = 4


def llama_server(config: ServeConfig, source: str) -> str | None:
    """The program that is to serve; None where codestill serves itself. Raises ConfigError where llama.cpp is
    asked for and cannot."""
    is_gguf = Path(source).suffix == ".gguf" and Path(source).is_file()
    program = shutil.which(PROGRAM)
    if config.engine == "codestill" or (config.engine == "auto" and not (is_gguf and program)):
        return None
    if not is_gguf:
        raise ConfigError(
            f"llama.cpp runs GGUF files, and {source} is none.",
            next_step="Write one with codestill export RUN --to gguf:q8_0, or leave out --engine.",
        )
    if program is None:
        raise ConfigError(
            f"{PROGRAM} is not on the PATH.", next_step="Install llama.cpp, or leave out --engine."
        )
    return program


def command(program: str, config: ServeConfig, source: str, name: str) -> list[str]:
    """How it is started: each of its slots has the whole context."""
    limit = config.limits.prompt_tokens
    context = min(config.context, limit + config.limits.new_tokens) if limit else config.context
    options: dict[str, object] = {
        "--model": source,
        "--alias": name,
        "--host": config.host,
        "--port": config.port,
        "--ctx-size": context * _SLOTS,
        "--parallel": _SLOTS,
        "--n-predict": config.limits.new_tokens,
        "--timeout": round(config.limits.seconds),
    }
    options |= {"--threads": config.threads} if config.threads else {}
    return [program, *(str(part) for pair in options.items() for part in pair), "--metrics"]


def become(program: str, config: ServeConfig, source: str, name: str, key: str | None) -> NoReturn:
    """Run it in place of this process, whose signals are then its own. The key goes by the environment, where
    no list of processes shows it."""
    words = command(program, config, source, name)
    os.execve(program, words, os.environ | ({"LLAMA_API_KEY": key} if key else {}))
