"""Each divergence: its properties, its formula in plain probabilities, and torch's own KL."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from tests.losses.cases import FORMULAS, formula
from torch import Tensor
from torch.nn import functional

from codestill.errors import ConfigError
from codestill.losses import DIVERGENCES, divergences

Divergence = Callable[..., Tensor]

PARAMETERS: list[tuple[str, dict[str, float]]] = [
    *[("generalized_jsd", {"beta": beta}) for beta in (0.0, 0.1, 0.5, 1.0)],
    ("skew_kl", {"skew": 0.1}),
    ("skew_reverse_kl", {"skew": 0.3}),
]
PARAMETERS += [(name, {}) for name in DIVERGENCES if name not in dict(PARAMETERS)]
CASES = [(name, parameters, partial(formula, name, parameters)) for name, parameters in PARAMETERS]
every_divergence = pytest.mark.parametrize(("name", "parameters", "formula"), CASES)


def checked(name: str, **parameters: float) -> Divergence:
    return partial(divergences.divergence, name, **parameters)


def logits(seed: int, *shape: int, scale: float = 2.0, dtype: torch.dtype = torch.float64) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@every_divergence
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_equals_its_formula(name: str, parameters: dict, formula: Divergence, temperature: float):
    student, teacher = logits(0, 6, 17).requires_grad_(), logits(1, 6, 17)
    found = checked(name, **parameters)(student, teacher, temperature)
    wanted = formula((teacher / temperature).softmax(-1), (student / temperature).softmax(-1))
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    for mine, theirs in zip(*(torch.autograd.grad(x.sum(), student) for x in (found, wanted)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-12)


def test_every_divergence_of_the_table_has_a_formula_and_a_paper():
    assert set(FORMULAS) == set(DIVERGENCES)
    assert all(entry.formula and entry.paper for entry in DIVERGENCES.values())


def test_kl_equals_torch():
    student, teacher = logits(0, 6, 17), logits(1, 6, 17)
    log_p, log_q = (teacher / 2).log_softmax(-1), (student / 2).log_softmax(-1)
    torch.testing.assert_close(
        divergences.divergence("forward_kl", student, teacher, 2.0),
        functional.kl_div(log_q, log_p.exp(), reduction="none").sum(-1),
    )
    torch.testing.assert_close(
        divergences.divergence("reverse_kl", student, teacher, 2.0),
        functional.kl_div(log_p, log_q.exp(), reduction="none").sum(-1),
    )


@every_divergence
def test_gradient_equals_finite_differences(name: str, parameters: dict, formula: Divergence):
    student, teacher = logits(2, 3, 5).requires_grad_(), logits(3, 3, 5)
    assert torch.autograd.gradcheck(lambda x: checked(name, **parameters)(x, teacher, 1.7), (student,))


finite = st.floats(-30, 30, width=32)
pairs = st.integers(1, 8).flatmap(
    lambda width: st.tuples(*[st.lists(finite, min_size=width, max_size=width) for _ in range(2)])
)


@every_divergence
@settings(max_examples=30, deadline=None)
@given(pair=pairs, temperature=st.floats(0.3, 5))
def test_nonnegative_and_zero_at_equality(
    name: str, parameters: dict, formula: Divergence, pair: tuple[list, list], temperature: float
):
    student, teacher = (torch.tensor([x]) for x in pair)
    of = checked(name, **parameters)
    value = of(student, teacher, temperature)
    assert torch.isfinite(value).all()
    assert value.item() >= -1e-6  # float32's rounding
    assert abs(of(student, student, temperature).item()) <= 1e-6
    # Adding a constant to all logits changes no distribution.
    torch.testing.assert_close(of(student + 3, teacher - 5, temperature), value, rtol=1e-3, atol=1e-4)


@every_divergence
def test_positive_where_distributions_differ(name: str, parameters: dict, formula: Divergence):
    assert (checked(name, **parameters)(logits(0, 4, 9), logits(1, 4, 9), 2.0) > 1e-2).all()


def test_ends_of_the_mixtures_are_the_divergences():
    student, teacher = logits(0, 4, 9, dtype=torch.float32), logits(1, 4, 9, dtype=torch.float32)
    forward = divergences.divergence("forward_kl", student, teacher, 2.0)
    reverse = divergences.divergence("reverse_kl", student, teacher, 2.0)
    assert torch.equal(divergences.divergence("generalized_jsd", student, teacher, 2.0, beta=0.0), forward)
    assert torch.equal(divergences.divergence("generalized_jsd", student, teacher, 2.0, beta=1.0), reverse)
    assert torch.equal(divergences.divergence("skew_kl", student, teacher, 2.0, skew=0.0), forward)
    assert torch.equal(divergences.divergence("skew_reverse_kl", student, teacher, 2.0, skew=0.0), reverse)


def test_limits_of_the_mixtures():
    student, teacher = logits(0, 4, 9), logits(1, 4, 9)
    tiny = 1e-7
    forward, reverse = (
        divergences.divergence("forward_kl", student, teacher),
        divergences.divergence("reverse_kl", student, teacher),
    )
    near = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-6)
    near(divergences.divergence("generalized_jsd", student, teacher, beta=tiny) / tiny, forward)
    near(divergences.divergence("generalized_jsd", student, teacher, beta=1 - tiny) / tiny, reverse)
    near(divergences.divergence("skew_kl", student, teacher, skew=tiny), forward)
    near(divergences.divergence("skew_reverse_kl", student, teacher, skew=tiny), reverse)


def test_mixtures_are_bounded():
    """By the entropy of the weights, and by -log(skew): reached by distributions with nothing in common."""
    student, teacher = torch.tensor([[1e4, 0.0]]), torch.tensor([[0.0, 1e4]])
    assert divergences.divergence("generalized_jsd", student, teacher, beta=0.5).item() == pytest.approx(
        math.log(2)
    )
    assert divergences.divergence("skew_kl", student, teacher, skew=0.1).item() == pytest.approx(
        -math.log(0.1)
    )
    assert divergences.divergence("skew_reverse_kl", student, teacher, skew=0.1).item() == pytest.approx(
        -math.log(0.1)
    )


@every_divergence
def test_huge_logits_stay_finite(name: str, parameters: dict, formula: Divergence):
    student = torch.tensor([[1e4, -1e4, 0.0], [1e4, 1e4, -1e4], [0.0, 0.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[-1e4, 1e4, 0.0], [1e4, 1e4, -1e4], [1e4, -1e4, 0.0]])
    value = checked(name, **parameters)(student, teacher, 2.0)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert student.grad is not None and torch.isfinite(student.grad).all()


@every_divergence
def test_tokens_masked_in_both_are_as_if_absent(name: str, parameters: dict, formula: Divergence):
    student, teacher = logits(0, 3, 7).requires_grad_(), logits(1, 3, 7)
    impossible = torch.tensor([0, 0, 1, 0, 1, 1, 0], dtype=torch.bool)
    of = checked(name, **parameters)
    value = of(student.masked_fill(impossible, -math.inf), teacher.masked_fill(impossible, -math.inf), 2.0)
    torch.testing.assert_close(value, of(student[:, ~impossible], teacher[:, ~impossible], 2.0))
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert torch.isfinite(gradient).all()
    assert (gradient[:, impossible] == 0).all()


@pytest.mark.parametrize(
    ("name", "parameters", "masked"),
    [
        ("forward_kl", {}, "teacher"),
        ("reverse_kl", {}, "student"),
        *[("generalized_jsd", {"beta": 0.5}, side) for side in ("student", "teacher")],
        *[("skew_kl", {"skew": 0.1}, side) for side in ("student", "teacher")],
        *[("skew_reverse_kl", {"skew": 0.1}, side) for side in ("student", "teacher")],
    ],
)
def test_token_masked_on_one_side(name: str, parameters: dict, masked: str):
    """As good as the same token at a very low logit."""
    student, teacher = logits(0, 3, 7).requires_grad_(), logits(1, 3, 7)
    token = torch.arange(7) == 4

    def value(low: float) -> Tensor:
        sides = {"student": student, "teacher": teacher}
        sides[masked] = sides[masked].masked_fill(token, low)
        return checked(name, **parameters)(sides["student"], sides["teacher"], 2.0)

    torch.testing.assert_close(value(-math.inf), value(-1e3))
    gradients = [torch.autograd.grad(value(low).sum(), student)[0] for low in (-math.inf, -1e3)]
    torch.testing.assert_close(*gradients)


def test_infinite_where_the_formula_is():
    possible, impossible = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, -math.inf]])
    assert divergences.divergence("forward_kl", impossible, possible).item() == math.inf
    assert divergences.divergence("reverse_kl", possible, impossible).item() == math.inf
    assert divergences.divergence("forward_kl", possible, impossible).item() == pytest.approx(math.log(2))


@every_divergence
def test_teacher_gets_no_gradient(name: str, parameters: dict, formula: Divergence):
    student, teacher = logits(0, 3, 7).requires_grad_(), logits(1, 3, 7).requires_grad_()
    checked(name, **parameters)(student, teacher, 2.0).sum().backward()
    assert student.grad is not None and student.grad.abs().sum() > 0
    assert teacher.grad is None


@every_divergence
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(
    name: str, parameters: dict, formula: Divergence, dtype: torch.dtype
):
    student, teacher = logits(0, 4, 50).to(dtype), logits(1, 4, 50).to(dtype)
    of = checked(name, **parameters)
    found = of(student, teacher, 2.0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, of(student.float(), teacher.float(), 2.0), rtol=0, atol=0)


@every_divergence
def test_temperature_squared_keeps_the_gradient_of_its_size(name: str, parameters: dict, formula: Divergence):
    """At high temperature T^2 times the gradient no longer depends on T (Hinton et al. 2015, section 2.1).

    Total variation is of first order in the difference where the others are of second: T times it is enough.
    """
    student, teacher = logits(0, 4, 9).requires_grad_(), logits(1, 4, 9)
    power = 1 if name == "total_variation" else 2

    def scaled_gradient(temperature: float) -> Tensor:
        value = checked(name, **parameters)(student, teacher, temperature).sum()
        return temperature**power * torch.autograd.grad(value, student)[0]

    torch.testing.assert_close(scaled_gradient(1e3), scaled_gradient(1e4), rtol=3e-2, atol=1e-4)
    if name == "forward_kl":  # where it tends to (student - teacher) / V, both centred
        centred = [x - x.mean(-1, keepdim=True) for x in (student.detach(), teacher)]
        torch.testing.assert_close(scaled_gradient(1e4), (centred[0] - centred[1]) / 9, rtol=1e-2, atol=1e-4)


def test_refuses_parameters_out_of_range():
    student, teacher = logits(0, 2, 3), logits(1, 2, 3)
    with pytest.raises(ConfigError, match="temperature is 0"):
        divergences.divergence("forward_kl", student, teacher, 0.0)
    with pytest.raises(ConfigError, match=r"beta is 1\.5"):
        divergences.divergence("generalized_jsd", student, teacher, beta=1.5)
    with pytest.raises(ConfigError, match=r"skew is 1\.0"):
        divergences.divergence("skew_kl", student, teacher, skew=1.0)
    with pytest.raises(ConfigError, match=r"skew is -0\.1"):
        divergences.divergence("skew_reverse_kl", student, teacher, skew=-0.1)


def test_a_name_that_is_not_in_the_table_is_refused_with_the_nearest():
    with pytest.raises(
        ConfigError, match=r"'generalised_jsd' is not a divergence[\s\S]*Did you mean generalized_jsd\?"
    ):
        divergences.divergence("generalised_jsd", logits(0, 2, 3), logits(1, 2, 3))


def test_shapes_are_enforced():
    with pytest.raises(TypeCheckError):
        divergences.divergence("forward_kl", logits(0, 2, 3), logits(1, 2, 4))
    with pytest.raises(TypeCheckError):
        divergences.divergence("forward_kl", logits(0, 2, 3, 4), logits(1, 2, 3, 4))
