"""How hard a task is for a student, by the feedback on its attempts."""

from typing import Literal

Bin = Literal["easy", "medium", "hard"]
BINS: tuple[Bin, ...] = ("easy", "medium", "hard")
