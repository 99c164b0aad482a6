"""A teacher's next-token distributions, in the forms that a loss can be computed from."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from codestill.errors import LogitsError
from codestill.types import TailRule


@dataclass(frozen=True)
class LinearTeacher:
    """Hidden states and head of a teacher: logits = hidden @ head.T, computed a chunk at a time."""

    hidden_BTD: Float[Tensor, "B T D_teacher"]
    head_VD: Float[Tensor, "V_teacher D_teacher"]


@dataclass(frozen=True)
class SparseTargets:
    """The most likely tokens of a teacher's distribution, for the N scored positions of a batch in order.

    What is not listed follows ``rule``:

        bucket       one outcome of mass exp(log_tail): the student's rest is compared with it
        renormalise  impossible: the listed tokens are scaled to sum to 1
        drop         left out of the sum, which is then no divergence and can be negative
        sampled      ``samples_NM`` of the rest share its mass: unbiased where the gradient is
                     linear in the teacher's probabilities, as forward_kl's is; its value is then off by a
                     constant
    """

    ids_NK: Int[Tensor, "N K"]
    log_probabilities_NK: Float[Tensor, "N K"]
    """At ``temperature``; minus infinity where a row lists fewer than K."""
    log_tail_N: Float[Tensor, "N"]
    """Log of the mass that is not listed, at ``temperature``; minus infinity where nothing is left."""
    temperature: float
    """Softmax temperature that the probabilities were taken at."""
    rule: TailRule = "bucket"
    """How the rest is treated."""
    samples_NM: Int[Tensor, "N M"] | None = None
    """Ids sampled from the rest, with repetition."""

    def __post_init__(self) -> None:
        if self.rule == "sampled" and self.samples_NM is None:
            raise LogitsError(
                "the tail rule is `sampled`, and the targets hold no samples of the tail.",
                next_step="Capture them with the logits (tail_samples), or use the rule `bucket`.",
            )

    def rows(self, start: int, end: int) -> "SparseTargets":
        """The targets of positions ``start`` to ``end``."""
        return SparseTargets(
            self.ids_NK[start:end],
            self.log_probabilities_NK[start:end],
            self.log_tail_N[start:end],
            self.temperature,
            self.rule,
            None if self.samples_NM is None else self.samples_NM[start:end],
        )
