"""``fit``: the only training loop. Recipes differ in their examples and objectives."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from codestill.types import Example, Settings

if TYPE_CHECKING:
    from codestill.losses import Objective
    from codestill.models.student import Student
    from codestill.run import Run
    from codestill.teachers import LogitTeacher
    from codestill.teachers.cached import CachedLogits

__all__ = ["TrainConfig", "fit"]


LEARNING_RATE = 5e-5
ADAPTER_LEARNING_RATE = 10 * LEARNING_RATE
"""An adapter's update begins at nothing and has few directions: it wants about ten times the rate."""

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
    fim: float = Field(default=0.0, ge=0, le=1)
    """Share of the examples that become gaps to fill (fill-in-the-middle), which is what editors ask a model
    for; the tokenizer must have tokens for it. Whole examples are read the less often: raise the steps."""
    max_length: PositiveInt = 512
    """Longer examples, in tokens of prompt and completion, are left out and counted."""
    optimizer: Literal["adamw", "muon", "adamw_8bit"] = "adamw"
    """``muon``: matrices by Muon (its own rate below), everything else by AdamW. ``adamw_8bit``: AdamW whose
    states of matrices have 8 bits (bitsandbytes); those of embeddings and vectors stay exact."""
    learning_rate: Positive | None = None
    """Peak rate of AdamW (default: 5e-5; for an adapter 5e-4). One that is given counts as it is, with an
    adapter too."""
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
    """Of products with float32 weights. ``auto``: bfloat16 (autocast) where the hardware has it and the model
    is large enough to gain. Weights that are bfloat16 themselves multiply in bfloat16, whatever is set."""
    checkpoint_steps: PositiveInt | None = None
    """Optimiser steps between checkpoints (default: one per epoch)."""
    keep: Literal["last", "best"] = "last"
    """Which checkpoint becomes the student: the last, or the one with the lowest validation loss."""

    @model_validator(mode="after")
    def _has_optimizer(self) -> Self:
        if self.optimizer == "adamw_8bit" and find_spec("bitsandbytes") is None:
            raise ValueError("adamw_8bit needs the package bitsandbytes: pip install 'codestill[quantize]'")
        return self

    @property
    def peak_rate(self) -> float:
        """Peak rate of AdamW, where the weights themselves are trained if none is given."""
        return LEARNING_RATE if self.learning_rate is None else self.learning_rate

    @property
    def for_adapter(self) -> Self:
        """The same settings for an adapter: they differ where no rate is given."""
        return self.model_copy(update={"learning_rate": self.learning_rate or ADAPTER_LEARNING_RATE})


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

    A student with ``adapter`` gets a new one, which is saved in the run's adapter directory; the student that
    is saved and returned has it in its weights. The weights of the ``student`` that is given are freed: what
    is returned takes their place.

    A killed training continues from its last checkpoint, with the same batches and the same result; a
    finished one is loaded. Raises TrainingError for a student that was used up before and, with a saved
    state, when a loss is not finite; ConfigError when no example fits; LogitsError when the objective needs a
    teacher and there is none, or its cache lacks an example.
    """
    from codestill.train.loop import fit as fit_

    return fit_(student, examples, objective, config, run, teacher=teacher, validation=validation)


def require_ready(student: "Student", config: TrainConfig, run: "Run") -> None:
    """Raises ConfigError where a run that begins has no room on the disk for a training of the student, or
    the student's tokenizer cannot frame the gaps that it shall learn to fill."""
    from codestill.train.gaps import require_fim_tokens
    from codestill.train.room import require_disk

    require_fim_tokens(student, config.fim)
    require_disk(student, run)
