"""A divergence's value and derivative at random and at extreme distributions."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from codestill.extend.finding import Finding
from codestill.losses import DIVERGENCES

if TYPE_CHECKING:
    from torch import Tensor

_STEP = 1e-6
_TOLERANCE = 1e-5


def check_divergence(name: str) -> Iterator[Finding]:
    """Zero at equality, never negative, the derivative that it says, and finite where a probability is 0."""
    import torch

    entry = DIVERGENCES[name]
    integrand = entry.integrand
    if entry.parameter is not None:
        integrand = partial(integrand, **{entry.parameter.name: entry.default})

    def terms(p: "Tensor", q: "Tensor") -> "tuple[Tensor, Tensor]":
        return integrand(p.clone(), q, p.log(), q.log())

    generator = torch.Generator().manual_seed(0)
    p, q = (torch.randn(200, 7, generator=generator, dtype=torch.float64).softmax(-1) for _ in range(2))
    with torch.no_grad():
        equal = float(terms(p, p)[0].sum(-1).abs().max())
        yield Finding(name, "is 0 between equals", equal < _TOLERANCE, f"at most {equal:.2g}")
        least = float(terms(p, q)[0].sum(-1).min())
        yield Finding(name, "is never negative", least > -_TOLERANCE, f"at least {least:.2g}")
        numeric = (terms(p, q + _STEP)[0] - terms(p, q - _STEP)[0]) / (2 * _STEP) * q
        error = float((terms(p, q)[1] - numeric).abs().max())
        yield Finding(name, "gives q df/dq as its second value", error < _TOLERANCE, f"off by {error:.2g}")
        one = torch.eye(3, dtype=torch.float64)
        at_limits = torch.stack([torch.stack(terms(one, one.roll(shift, 0))) for shift in (0, 1)])
        # A divergence may be infinite where supports differ; what is no number is an error.
        numbers = not bool(at_limits.isnan().any()) and bool(at_limits[0].isfinite().all())
        yield Finding(name, "gives numbers where a probability is 0", numbers, "nan" if not numbers else "")
