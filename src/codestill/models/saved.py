"""What a saved model says of itself beside its weights, in ``codestill.json``: how it is asked, and whether
it fills gaps."""

from pathlib import Path

from pydantic import Field, ValidationError

from codestill.errors import ModelError
from codestill.models.settings import ChatConfig

_FILE = "codestill.json"


class SavedForm(ChatConfig):
    """How a model was asked when it was saved, and what it was trained for."""

    fills_gaps: bool | None = Field(default=None, exclude_if=lambda value: value is None)
    """Whether it was trained to fill in the middle; None where nobody has said."""

    def write(self, directory: Path) -> None:
        """Put it beside the weights."""
        (directory / _FILE).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_saved_form(directory: Path) -> SavedForm | None:
    """What the file in a model's directory says; None without one. Raises ModelError for a damaged file."""
    path = directory / _FILE
    if not path.is_file():
        return None
    try:
        return SavedForm.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ModelError(
            f"{path} does not say how the model is asked: {error.errors()[0]['msg']}.",
            next_step="Delete the file, and say it by `chat`.",
        ) from error
