"""The settings that a task family gets: which tasks to load."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from codestill.types import Settings

TaskSplit = Literal["train", "validation", "test", "prompt", "all"]
PromptMode = Literal["zero-shot", "few-shot"]


class TaskSelection(Settings):
    """Which tasks of which family. Every family sees all settings and uses those that concern it."""

    source: str
    path: Path | None = None
    """Local file (.jsonl or .json, also .gz). Without it: the CODESTILL_DATA directory, then the hub."""
    hub_id: str | None = None
    """Another dataset on the hub, or a local dataset directory, with the same columns."""
    split: TaskSplit = "test"
    """Which tasks. MBPP by id: prompt 1-10, test 11-510, validation 511-600, train 601-974."""
    prompt_mode: PromptMode = "zero-shot"
    """MBPP only: a docstring with the first assertion, or the paper's three examples before it."""
    limit: int | None = Field(default=None, ge=1)
    """Use only the first tasks, at most this many; scores are then marked as of a subset."""
    count: int = Field(default=100, ge=1)
    """Pocket: how many tasks to generate."""
    seed: int = 0
    """Pocket: the generator's seed."""
    skip: int = Field(default=0, ge=0)
    """Pocket: skip this many of the generator's tasks. No prompt occurs twice, so tasks of one seed that
    begin where others end are new."""
    depths: tuple[int, ...] | None = None
    """Pocket: numbers of operations that a task composes (default: 2 and 3; easy 1 and 2; hard 3 and 4)."""

    @field_validator("depths")
    @classmethod
    def _has_depths(cls, depths: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if depths is not None and (not depths or min(depths) < 1):
            raise ValueError("give one depth or more, each at least 1")
        return depths
