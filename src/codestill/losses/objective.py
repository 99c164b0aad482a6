"""Configs of the training objectives. No torch here: ``codestill --help`` imports them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveFloat, WrapValidator, model_serializer, model_validator
from pydantic_core import PydanticCustomError

from codestill.losses.table import DIVERGENCES, DivergenceParameters, nearest, parameters_of
from codestill.types import Settings


def _known(name: Any, _: Any) -> str:
    if not isinstance(name, str) or name not in DIVERGENCES:
        problem = f"{name!r} is not a divergence. {nearest(str(name), DIVERGENCES)}"
        raise PydanticCustomError("unknown_divergence", "{problem}", {"problem": problem})
    return name


if TYPE_CHECKING:
    DivergenceName = str
else:  # the choices are for --help; a name that joined the table later is as valid
    DivergenceName = Annotated[Literal[tuple(DIVERGENCES)], WrapValidator(_known)]

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


class _WithParameters(Settings):
    """Settings with a choice that has parameters of its own, which may be left to their defaults."""

    @property
    def parameters(self) -> dict[str, float]:
        """The choice's own parameters, given or by default."""
        raise NotImplementedError

    @model_serializer(mode="wrap")
    def _with_defaults(self, serialize: Any) -> dict[str, Any]:
        """Save the parameters in use, given or by default."""
        values = serialize(self)
        return values | {name: value for name, value in self.parameters.items() if name in values}


class _Distillation(_WithParameters):
    """The settings that every divergence shares."""

    type: Literal["distillation"] = "distillation"
    """Kind of objective."""
    divergence: DivergenceName = "forward_kl"
    """Divergence between teacher and student, per token, summed over the vocabulary."""
    temperature: PositiveFloat = Field(default=2.0, allow_inf_nan=False)
    """Divides the logits of teacher and student in the divergence; cross-entropy stays at 1."""
    alpha: float = Field(default=0.5, ge=0, le=1)
    """Weight of the distillation term: 0 is cross-entropy alone, 1 is the divergence alone."""


class Distillation(DivergenceParameters, _Distillation):
    """loss = alpha * temperature^2 * divergence + (1 - alpha) * cross-entropy (Hinton et al. 2015)."""

    @model_validator(mode="before")
    @classmethod
    def _parameters_apply(cls, values: Any) -> Any:
        """Refuse a parameter that would change nothing."""
        if not isinstance(values, dict):
            return values
        divergence = values.get("divergence", "forward_kl")
        if not isinstance(divergence, str) or divergence not in DIVERGENCES:
            return values  # the field itself refuses an unknown name
        for name in DivergenceParameters.model_fields:
            if values.get(name) is not None and name not in parameters_of(divergence, {}):
                users = ", ".join(other for other in DIVERGENCES if name in parameters_of(other, {}))
                raise ValueError(
                    f"{name} has no effect on {divergence}: leave it out, or choose a divergence that "
                    f"takes it ({users})"
                )
        return values

    @property
    def parameters(self) -> dict[str, float]:
        """The chosen divergence's own parameter by name, given or by default; empty where it has none."""
        return parameters_of(self.divergence, self.__dict__)

    @property
    def needs_teacher(self) -> bool:
        """Whether teacher logits are needed: at ``alpha`` 0 the loss is cross-entropy alone."""
        return self.alpha > 0

    def total(self, terms: Mapping[str, float]) -> float:
        """The loss per token, from each term per token."""
        distillation = self.temperature**2 * terms["divergence"] if self.needs_teacher else 0.0
        return self.alpha * distillation + (1 - self.alpha) * terms["cross_entropy"]


class Contrastive(_WithParameters):
    """Cross-entropy of correct programs + weight * contrast with faulty ones (IterKD, arXiv:2408.03680).

    The paper's formula is not published; these are ours. A program's score s is its mean log-probability per
    completion token, end of sequence included: a longer program is not worse for being longer.
    """

    type: Literal["contrastive"] = "contrastive"
    """Kind of objective."""
    contrast: Contrast = "hinge"
    """hinge: max(0, margin - s(correct) + s(faulty)). infonce: -log of the correct program's share of exp(s /
    tau), summed over itself and its faulty ones. dpo: -log sigmoid(dpo_beta * (gain of s(correct) - gain of
    s(faulty))), gains over the student before training. hinge and dpo: mean over faulty ones."""
    weight: float = Field(default=0.5, ge=0, allow_inf_nan=False)
    """Lambda: weight of the contrast, averaged over correct programs. 0 is cross-entropy alone."""
    margin: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """hinge: required distance between scores, in nats per token (default 0.5)."""
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

    @property
    def parameters(self) -> dict[str, float]:
        """The chosen contrast's own parameter by name, given or by default."""
        name, default = CONTRASTS[self.contrast]
        value = getattr(self, name)
        return {name: default if value is None else value}

    @property
    def parameter(self) -> float:
        """The chosen contrast's own."""
        (value,) = self.parameters.values()
        return value

    @property
    def needs_teacher(self) -> bool:
        """Whether teacher logits are needed."""
        return False

    def total(self, terms: Mapping[str, float]) -> float:
        """The loss, from cross-entropy per token and contrast per correct program that has faulty ones."""
        return terms["cross_entropy"] + self.weight * terms.get("contrast", 0.0)


Objective = Annotated[CrossEntropy | Distillation | Contrastive, Field(discriminator="type")]
