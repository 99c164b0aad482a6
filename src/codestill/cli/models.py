"""``codestill students``: the shapes of students."""

from collections.abc import Sequence

from rich.table import Table

from codestill.cli.console import console
from codestill.errors import ConfigError
from codestill.models import SizeRow, StudentConfig, model_table, preset_table
from codestill.pocket import BUNDLED


def students(model: str | None = None, /, *, layers: tuple[str, ...] = ()) -> None:
    """List the student presets with exact parameter counts and sizes, or a model and students cut out of it.

    Parameters
    ----------
    model
        A directory, GGUF file or hub id: its own row, and one for each `--layers`.
    layers
        Layers that a student keeps: so many at even distances, or their numbers as `0,3,6`.
    """
    if model is None and layers:
        raise ConfigError("--layers are those of a model.", next_step="Name one: codestill students MODEL.")
    kept = [StudentConfig.model_validate({"model": model, "layers": wanted}).layers for wanted in layers]
    wanted = [chosen for chosen in kept if chosen is not None]
    _print_students(preset_table() if model is None else model_table(model, wanted))


def _print_students(rows: Sequence[SizeRow]) -> None:
    """The presets with exact parameter counts."""
    table = Table(box=None, pad_edge=False)
    names = list(SizeRow.model_fields)
    for name in names:
        table.add_column(
            name.replace("_", " "), justify="left" if name in ("name", "architecture") else "right"
        )
    for row in rows:
        table.add_row(*(_cell(getattr(row, name)) for name in names))
    console.print(table)
    trained = ", ".join(name for name in BUNDLED if name.startswith("pocket-base"))
    console.print(f"Presets begin with random weights. Trained and bundled: {trained}.", soft_wrap=True)
    console.print("Any Hugging Face causal language model works as a student: --student DIRECTORY_OR_HUB_ID")


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
