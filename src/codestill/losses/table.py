"""The table of divergences: adding one is an entry here and a case in the tests (docs/extending.md).

P is the teacher's next-token distribution softmax(logits / temperature), Q the student's. A divergence is
written once, as its term for one outcome: the vocabulary's tokens are the outcomes for whole logits; for a
cached teacher they are the kept tokens and the rest together (``codestill.losses.chunks``).

No torch is imported here, since ``codestill --help`` needs this file: an integrand calls methods of tensors.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import Field

from codestill.errors import ConfigError, LogitsError
from codestill.types import Settings, TailRule

if TYPE_CHECKING:
    from torch import Tensor

Integrand = Callable[["Tensor", "Tensor", "Tensor", "Tensor"], "tuple[Tensor, Tensor]"]
"""(p, q, log p, log q) of every outcome -> its term f(p, q) of the divergence, and q df/dq.

``p`` may be overwritten. A divergence's parameter comes as a keyword argument of its name."""


@dataclass(frozen=True)
class Parameter:
    """A number that shapes a divergence: ``low`` to ``high``, the upper end excluded where it is open."""

    name: str
    low: float
    high: float
    open_high: bool = False

    def field(self) -> Any:
        """The setting: None stands for the chosen divergence's default."""
        lt, le = (self.high, None) if self.open_high else (None, self.high)
        return Field(default=None, ge=self.low, lt=lt, le=le)

    def require(self, value: float) -> None:
        """Raises ConfigError where ``value`` is out of range."""
        if not (self.low <= value < self.high or (value == self.high and not self.open_high)):
            end = f"below {self.high:g}" if self.open_high else f"{self.high:g}"
            raise ConfigError(
                f"{self.name} is {value}", next_step=f"Choose {self.name} from {self.low:g} to {end}."
            )


BETA = Parameter("beta", 0.0, 1.0)
SKEW = Parameter("skew", 0.0, 1.0, open_high=True)


class DivergenceParameters(Settings):
    """The settings that belong to a divergence: a field for each parameter, by its name."""

    beta: float | None = BETA.field()
    """Weight of the teacher in generalized_jsd's mixture: 0 is forward_kl, 1 is reverse_kl (default 0.5)."""
    skew: float | None = SKEW.field()
    """How much of its first argument a skew divergence mixes into its second: 0 is none (default 0.1)."""


@dataclass(frozen=True)
class Divergence:
    """A divergence between the next-token distributions of a teacher and a student."""

    formula: str
    """As in its paper, of P and Q."""
    paper: str
    """Where it comes from."""
    integrand: Callable[..., "tuple[Tensor, Tensor]"]
    """An :data:`Integrand`, plus the parameter as a keyword."""
    tail_rules: tuple[TailRule, ...]
    """The tail rules of a sparse target under which it has a meaning."""
    parameter: Parameter | None = None
    """Its own parameter, besides the temperature."""
    default: float = 0.0
    """The parameter's default."""
    ends: Mapping[float, str] = field(default_factory=dict)
    """Parameter values at which it is another divergence, by name."""


# An outcome of probability 0 adds nothing where the formula has 0 log 0, whatever is on the other side.


def _forward_kl(p: "Tensor", q: "Tensor", log_p: "Tensor", log_q: "Tensor") -> "tuple[Tensor, Tensor]":
    return (log_p - log_q).masked_fill_(p == 0, 0.0).mul_(p), p.neg_()


def _reverse_kl(p: "Tensor", q: "Tensor", log_p: "Tensor", log_q: "Tensor") -> "tuple[Tensor, Tensor]":
    value = (log_q - log_p).masked_fill_(q == 0, 0.0).mul_(q)
    return value, value + q


def _above_zero(m: "Tensor") -> "Tensor":
    """A mixture, in place, where a probability near the smallest number loses its share of it to rounding."""
    return m.clamp_(min=2.0**-126)


def _generalized_jsd(
    p: "Tensor", q: "Tensor", log_p: "Tensor", log_q: "Tensor", *, beta: float
) -> "tuple[Tensor, Tensor]":
    log_m = _above_zero(beta * p + (1 - beta) * q).log_()
    of_p = p * (log_p - log_m).masked_fill_(p == 0, 0.0)
    of_q = q * (log_q - log_m).masked_fill_(q == 0, 0.0)
    return beta * of_p + (1 - beta) * of_q, (1 - beta) * of_q


def _skew_kl(
    p: "Tensor", q: "Tensor", log_p: "Tensor", log_q: "Tensor", *, skew: float
) -> "tuple[Tensor, Tensor]":
    m = _above_zero(skew * p + (1 - skew) * q)
    value = p * (log_p - m.log()).masked_fill_(p == 0, 0.0)
    return value, (p * q).mul_(skew - 1).div_(m).masked_fill_(p == 0, 0.0)


def _skew_reverse_kl(
    p: "Tensor", q: "Tensor", log_p: "Tensor", log_q: "Tensor", *, skew: float
) -> "tuple[Tensor, Tensor]":
    m = _above_zero(skew * q + (1 - skew) * p)
    value = q * (log_q - m.log()).masked_fill_(q == 0, 0.0)
    return value, value + q - (q * q).mul_(skew).div_(m).masked_fill_(q == 0, 0.0)


def _total_variation(p: "Tensor", q: "Tensor", log_p: "Tensor", log_q: "Tensor") -> "tuple[Tensor, Tensor]":
    apart = (q - p) / 2
    return apart.abs(), q * apart.sign() / 2


DIVERGENCES: dict[str, Divergence] = {
    "forward_kl": Divergence(
        formula="KL(P || Q)",
        paper="Hinton et al. 2015, arXiv:1503.02531",
        integrand=_forward_kl,
        tail_rules=("bucket", "renormalise", "drop", "sampled"),
    ),
    "reverse_kl": Divergence(
        formula="KL(Q || P)",
        paper="Gu et al. 2024 (MiniLLM), arXiv:2306.08543",
        integrand=_reverse_kl,
        tail_rules=("bucket", "drop"),
    ),
    # By its formula it vanishes at both ends, JSD/beta tending to KL(P || Q) and JSD/(1 - beta) to
    # KL(Q || P); so, as in GKD, the ends *mean* the two, which is a jump in scale.
    "generalized_jsd": Divergence(
        formula="beta KL(P || M) + (1 - beta) KL(Q || M), M = beta P + (1 - beta) Q",
        paper="Agarwal et al. 2024 (GKD, eq. 1), arXiv:2306.13649",
        integrand=_generalized_jsd,
        tail_rules=("bucket", "renormalise", "drop"),
        parameter=BETA,
        default=0.5,
        ends={0.0: "forward_kl", 1.0: "reverse_kl"},
    ),
    "skew_kl": Divergence(  # never above -log(skew)
        formula="KL(P || skew P + (1 - skew) Q)",
        paper="Ko et al. 2024 (DistiLLM), arXiv:2402.03898",
        integrand=_skew_kl,
        tail_rules=("bucket", "renormalise", "drop"),
        parameter=SKEW,
        default=0.1,
        ends={0.0: "forward_kl"},
    ),
    "skew_reverse_kl": Divergence(  # never above -log(skew)
        formula="KL(Q || skew Q + (1 - skew) P)",
        paper="Ko et al. 2024 (DistiLLM), arXiv:2402.03898",
        integrand=_skew_reverse_kl,
        tail_rules=("bucket", "renormalise", "drop"),
        parameter=SKEW,
        default=0.1,
        ends={0.0: "reverse_kl"},
    ),
    # Of first order in the difference: times temperature^2 its gradient grows with the temperature.
    "total_variation": Divergence(
        formula="sum |P - Q| / 2",
        paper="Wen et al. 2023 (f-distill), arXiv:2307.15190",
        integrand=_total_variation,
        tail_rules=("bucket", "renormalise", "drop"),
    ),
}
"""Every divergence, by the name that ``objective.divergence`` gives it."""


def nearest(name: str, names: Mapping[str, Any]) -> str:
    """Advice on a name that is none of ``names``: the valid ones, and the nearest if one is near."""
    close = difflib.get_close_matches(name, names, n=1)
    return f"Choose one of {', '.join(names)}." + (f" Did you mean {close[0]}?" if close else "")


def find(divergence: str) -> Divergence:
    """The entry of a divergence. Raises ConfigError, with the valid names, where there is none."""
    if divergence not in DIVERGENCES:
        raise ConfigError(f"{divergence!r} is not a divergence", next_step=nearest(divergence, DIVERGENCES))
    return DIVERGENCES[divergence]


def parameters_of(divergence: str, chosen: Mapping[str, float | None]) -> dict[str, float]:
    """The divergence's own parameter by name, from ``chosen`` or by default; empty where it has none."""
    entry = find(divergence)
    if entry.parameter is None:
        return {}
    value = chosen.get(entry.parameter.name)
    return {entry.parameter.name: entry.default if value is None else value}


def resolve_parameter(divergence: str, parameters: Mapping[str, float]) -> tuple[Divergence, Integrand]:
    """The divergence that it is at these parameters, e.g. forward_kl at ``beta`` 0, and its integrand.

    Raises ConfigError for an unknown name and a parameter out of range.
    """
    entry = find(divergence)
    bound = parameters_of(divergence, parameters)
    for value in bound.values():
        assert entry.parameter is not None
        entry.parameter.require(value)
        for end, name in entry.ends.items():
            if value == end:
                return DIVERGENCES[name], DIVERGENCES[name].integrand
    return entry, partial(entry.integrand, **bound) if bound else entry.integrand


_WITHOUT_MEANING = {
    "sampled": "samples of the tail are unbiased only where the gradient is linear in the teacher's "
    "probabilities, as forward_kl's is",
    "renormalise": "it is infinite where the teacher's tail is taken to be impossible",
}


def require_rule(divergence: str, parameters: Mapping[str, float], rule: TailRule) -> None:
    """Raises LogitsError where a divergence has no meaning under a tail rule."""
    entry, _ = resolve_parameter(divergence, parameters)
    if rule not in entry.tail_rules:
        why = _WITHOUT_MEANING.get(rule)
        raise LogitsError(
            f"the divergence {divergence} cannot be taken with the tail rule {rule}"
            + (f": {why}." if why else "."),
            next_step=f"Use a tail rule of {', '.join(entry.tail_rules)}, or the divergence forward_kl.",
        )
