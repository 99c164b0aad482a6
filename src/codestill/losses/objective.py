"""Configs that name a training objective. No torch here: ``codestill --help`` reads them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from codestill.types import Settings

Divergence = Literal[
    "forward_kl", "reverse_kl", "generalized_jsd", "skew_kl", "skew_reverse_kl", "total_variation"
]

# The parameter that a divergence takes besides the temperature, and its default.
PARAMETERS: dict[Divergence, dict[str, float]] = {
    "forward_kl": {},
    "reverse_kl": {},
    "generalized_jsd": {"beta": 0.5},
    "skew_kl": {"skew": 0.1},
    "skew_reverse_kl": {"skew": 0.1},
    "total_variation": {},
}

Contrast = Literal["hinge", "infonce", "dpo"]
# The parameter that a contrast takes, and its default.
CONTRASTS: dict[Contrast, tuple[str, float]] = {
    "hinge": ("margin", 0.5),
    "infonce": ("tau", 0.5),
    "dpo": ("dpo_beta", 2.0),
}


class CrossEntropy(Settings):
    """Negative log-likelihood of the completion: ordinary fine-tuning."""

    type: Literal["cross_entropy"] = "cross_entropy"
    """Kind of objective."""

    @property
    def needs_teacher(self) -> bool:
        """Whether teacher logits are needed."""
        return False

    def total(self, terms: Mapping[str, float]) -> float:
        """The loss per token, from each term per token."""
        return terms["cross_entropy"]


class Distillation(Settings):
    """loss = alpha * temperature^2 * divergence + (1 - alpha) * cross-entropy (Hinton et al. 2015)."""

    type: Literal["distillation"] = "distillation"
    """Kind of objective."""
    divergence: Divergence = "forward_kl"
    """Divergence between teacher and student, per token, summed over the vocabulary."""
    temperature: PositiveFloat = Field(default=2.0, allow_inf_nan=False)
    """Divides the logits of teacher and student in the divergence; cross-entropy stays at 1."""
    alpha: float = Field(default=0.5, ge=0, le=1)
    """Weight of the distillation term: 0 is cross-entropy alone, 1 is the divergence alone."""
    beta: float | None = Field(default=None, ge=0, le=1)
    """Weight of the teacher in generalized_jsd's mixture: 0 is forward_kl, 1 is reverse_kl (default 0.5)."""
    skew: float | None = Field(default=None, ge=0, lt=1)
    """How much of its first argument a skew divergence mixes into its second: 0 is none (default 0.1)."""

    @model_validator(mode="before")
    @classmethod
    def _parameters_apply(cls, values: Any) -> Any:
        """Refuse a parameter that would change nothing."""
        if not isinstance(values, dict):
            return values
        divergence = values.get("divergence", "forward_kl")
        applicable = PARAMETERS.get(divergence)
        if applicable is None:
            return values  # the field itself refuses an unknown name
        for name in ("beta", "skew"):
            if values.get(name) is not None and name not in applicable:
                users = ", ".join(other for other, taken in PARAMETERS.items() if name in taken)
                raise ValueError(
                    f"{name} has no effect on {divergence}: leave it out, or choose a divergence that "
                    f"takes it ({users})"
                )
        return values

    @model_validator(mode="after")
    def _own_parameter(self) -> Self:
        """The chosen divergence's own where none was given: not as if it had been, for another's sake."""
        missing = {
            name: value for name, value in PARAMETERS[self.divergence].items() if getattr(self, name) is None
        }
        vars(self).update(missing)
        return self

    @property
    def parameters(self) -> dict[str, float]:
        """The chosen divergence's own parameter, by name; empty where it has none."""
        return {name: getattr(self, name) for name in PARAMETERS[self.divergence]}

    @property
    def is_reverse_kl(self) -> bool:
        """Whether it is reverse_kl by its formula, whatever its name."""
        by_skew = self.divergence == "skew_reverse_kl" and self.skew == 0
        return self.divergence == "reverse_kl" or self.beta == 1 or by_skew

    @property
    def needs_teacher(self) -> bool:
        """Whether teacher logits are needed: at ``alpha`` 0 the loss is cross-entropy alone."""
        return self.alpha > 0

    def total(self, terms: Mapping[str, float]) -> float:
        """The loss per token, from each term per token."""
        distillation = self.temperature**2 * terms["divergence"] if self.needs_teacher else 0.0
        return self.alpha * distillation + (1 - self.alpha) * terms["cross_entropy"]


class Contrastive(Settings):
    """loss = cross-entropy of right programs + weight * contrast with faulty ones (IterKD, arXiv:2408.03680).

    The paper's formula is not published; these are ours. A program's score s is its mean log-probability per
    completion token, end of sequence included: a longer program is not worse for being longer.
    """

    type: Literal["contrastive"] = "contrastive"
    """Kind of objective."""
    contrast: Contrast = "hinge"
    """hinge: max(0, margin - s(right) + s(faulty)). infonce: -log of the right program's share of exp(s /
    tau), itself and its faulty ones together. dpo: -log sigmoid(dpo_beta * (gain of s(right) - gain of
    s(faulty))), gains over the student as it was before training. hinge and dpo: mean over faulty ones."""
    weight: float = Field(default=0.5, ge=0, allow_inf_nan=False)
    """Lambda, the weight of the contrast, which is averaged over right programs: 0 is cross-entropy alone."""
    margin: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """hinge: how far apart scores shall be, in nats per token (default 0.5)."""
    tau: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """infonce: divides the scores (default 0.5)."""
    dpo_beta: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """dpo: how sharp the preference is (default 2)."""

    @model_validator(mode="before")
    @classmethod
    def _parameters_apply(cls, values: Any) -> Any:
        """Refuse a parameter that would change nothing."""
        if not isinstance(values, dict) or values.get("contrast", "hinge") not in CONTRASTS:
            return values  # the field itself refuses an unknown name
        chosen = values.get("contrast", "hinge")
        own, _ = CONTRASTS[chosen]
        for other, (name, _) in CONTRASTS.items():
            if name != own and values.get(name) is not None:
                raise ValueError(f"{name} has no effect on {chosen}: leave it out, or choose {other}")
        return values

    @model_validator(mode="after")
    def _own_parameter(self) -> Self:
        """The chosen contrast's own where none was given: not as if it had been, for another's sake."""
        own, default = CONTRASTS[self.contrast]
        if getattr(self, own) is None:
            vars(self)[own] = default
        return self

    @property
    def parameter(self) -> float:
        """The chosen contrast's own."""
        return getattr(self, CONTRASTS[self.contrast][0])

    @property
    def needs_teacher(self) -> bool:
        """Whether teacher logits are needed."""
        return False

    def total(self, terms: Mapping[str, float]) -> float:
        """The loss, from cross-entropy per token and contrast per right program that has faulty ones."""
        return terms["cross_entropy"] + self.weight * terms.get("contrast", 0.0)


Objective = Annotated[CrossEntropy | Distillation | Contrastive, Field(discriminator="type")]
