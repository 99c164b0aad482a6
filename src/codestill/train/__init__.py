"""``fit``: the only training loop. Recipes differ in their examples and objectives."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt

from codestill.types import Example, Settings

if TYPE_CHECKING:
    from codestill.losses import Objective
    from codestill.models.student import Student
    from codestill.run import Run
    from codestill.teachers import LogitTeacher
    from codestill.teachers.cached import CachedLogits

__all__ = ["TrainConfig", "fit"]


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class TrainConfig(Settings):
    """How a student is optimised."""

    epochs: Positive = 7
    """Passes over the examples, unless ``max_steps`` is given."""
    max_steps: PositiveInt | None = None
    """Optimiser steps in all: for comparisons at equal steps."""
    batch_tokens: PositiveInt = 2048
    """Padded tokens per batch; batches hold examples of similar length."""
    accumulation: PositiveInt = 4
    """Batches per optimiser step; the loss is normalised over all of them together."""
    max_length: PositiveInt = 512
    """Longer examples, in tokens of prompt and completion, are left out and counted."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """``muon``: matrices by Muon (its own rate below), everything else by AdamW."""
    learning_rate: Positive = 5e-5
    """Peak rate of AdamW."""
    muon_learning_rate: Positive = 0.02
    """Peak rate of Muon, where it is used."""
    schedule: Literal["constant", "linear", "cosine", "warmup_stable_decay"] = "linear"
    """Learning rate after warm-up; ``warmup_stable_decay`` falls to zero over the last 60%."""
    warmup_fraction: float = Field(default=0.03, ge=0, lt=1)
    """Share of the steps in which the rate rises."""
    weight_decay: float = Field(default=0.01, ge=0, allow_inf_nan=False)
    """Decoupled weight decay of matrices."""
    max_grad_norm: Positive = 1.0
    """Gradients are clipped to this norm."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """``auto``: bfloat16 autocast where the hardware has it and the model is large enough to gain."""
    checkpoint_steps: PositiveInt | None = None
    """Optimiser steps between checkpoints (default: one per epoch)."""
    keep: Literal["last", "best"] = "last"
    """Which checkpoint becomes the student: the last, or the one with the lowest validation loss."""


def fit(
    student: "Student",
    examples: Sequence[Example],
    objective: "Objective",
    config: TrainConfig,
    run: "Run",
    *,
    teacher: "LogitTeacher | CachedLogits | None" = None,
    validation: Sequence[Example] = (),
) -> "Student":
    """Train ``student`` on ``examples`` and save it in the run's student directory.

    A killed training continues from its last checkpoint, with the same batches and the same result; a
    finished one is loaded. Raises TrainingError, with a saved state, when a loss is not finite;
    ConfigError when no example fits; LogitsError when the objective needs a teacher and there is none, or
    its cache lacks an example.
    """
    from codestill.train.loop import fit as fit_

    return fit_(student, examples, objective, config, run, teacher=teacher, validation=validation)
