"""A run's training examples as a dataset that other trainers read."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from codestill.browse.rows import EXAMPLES
from codestill.errors import ConfigError, RunError
from codestill.files.run_files import read_config
from codestill.files.serialize import is_object, read_jsonl, to_json, write_atomic
from codestill.types import Example

Form = Literal["sft", "messages", "hf"]
"""``sft``: a line per example, prompt and completion. ``messages``: a line per example, the turns of a chat.
``hf``: a dataset on disk for ``datasets.load_from_disk``."""
FORMS: tuple[Form, ...] = get_args(Form)


def export(directory: Path, form: Form, output: Path | None = None, part: str = "") -> tuple[Path, int]:
    """Write the examples that a run's student was trained on; returns the place and their number.

    ``part`` names a round or the warm-up; empty, the last training's. By default ``output`` is
    ``data/<form>.jsonl`` or ``data/hf`` in the run's directory, below the part.

    Raises RunError where the run has none (yet), ConfigError where ``datasets`` is needed and missing.
    """
    config, _ = read_config(directory)
    path = directory / part / f"{EXAMPLES}.jsonl"
    if not path.exists():
        there = [file.parent.name for file in sorted(directory.glob(f"*/{EXAMPLES}.jsonl"))]
        raise RunError(
            f"{directory} has no training examples{f' of {part}' if part else ''} yet.",
            next_step=f"Choose a part: {', '.join(there)}."
            if there
            else "They are kept when training begins.",
        )
    examples = list(read_jsonl(path, Example, whole=True))
    output = output or directory / "data" / part / ("hf" if form == "hf" else f"{form}.jsonl")
    if form == "hf":
        _save_dataset(examples, output)
    else:
        rows = _messages(examples, _system_prompt(config)) if form == "messages" else map(_pair, examples)
        write_atomic(output, "".join(f"{to_json(row)}\n" for row in rows))
    return output, len(examples)


def _pair(example: Example) -> dict[str, Any]:
    return {"prompt": example.prompt, "completion": example.completion}


def _messages(examples: list[Example], system: str | None) -> Iterator[dict[str, Any]]:
    first = [{"role": "system", "content": system}] if system else []
    for example in examples:
        asked = {"role": "user", "content": example.prompt}
        yield {"messages": [*first, asked, {"role": "assistant", "content": example.completion}]}


def _system_prompt(config: Mapping[str, Any]) -> str | None:
    """The student's, where one is set."""
    student = config.get("student")
    return student.get("system_prompt") if is_object(student) else None


def _save_dataset(examples: list[Example], output: Path) -> None:
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            "the form hf needs the package datasets.", next_step="pip install datasets, or take --to sft."
        ) from error
    rows = [
        _pair(example)
        | {"example_id": example.example_id, "source": example.source}
        | {"faults": [fault.completion for fault in example.faults]}
        for example in examples
    ]
    datasets.Dataset.from_list(rows).save_to_disk(output)
