"""Files to start from."""

import keyword
from importlib import resources
from pathlib import Path
from typing import Literal, get_args

from codestill.errors import ConfigError
from codestill.files.serialize import write_atomic

Kind = Literal["recipe", "tasks", "divergence"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def new(kind: Kind, name: str, directory: Path = Path()) -> Path:
    """Write ``name.py``, a working one of its kind. Raises ConfigError for a name that is none in Python, or
    a file that is there already."""
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ConfigError(
            f"{name!r} is no name in Python.", next_step="Use letters, digits and _, and no digit first."
        )
    path = directory / f"{name}.py"
    if path.exists():
        raise ConfigError(f"{path} is there already.", next_step="Choose another name, or remove the file.")
    template = resources.files("codestill.extend").joinpath(f"templates/{kind}.txt")
    text = template.read_text(encoding="utf-8")
    title = "".join(word.capitalize() for word in name.split("_")) or name
    write_atomic(path, text.replace("NAME_TITLE", title).replace("NAME", name))
    return path
