"""The contrastive objective: its formulas, its invariances, and what gets no gradient."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tests.losses.cases import batch
from torch import Tensor

from codestill.losses import Contrastive, CrossEntropy
from codestill.losses.compute import compute
from codestill.losses.contrast import (
    StepCounts,
    contrastive_loss,
    linear_log_probabilities,
    log_probabilities,
    scores,
)

HINGE = Contrastive(contrast="hinge", weight=0.7, margin=1.5)
INFONCE = Contrastive(contrast="infonce", weight=0.7, tau=0.4)
DPO = Contrastive(contrast="dpo", weight=0.7, dpo_beta=3.0)
every = pytest.mark.parametrize("objective", [HINGE, INFONCE, DPO], ids=lambda one: one.contrast)
# Rows 0, 1 and 5 are right programs; 1 has no faulty one.
GROUP = torch.tensor([0, 1, 0, 0, 5, 5])


def data(seed: int = 0) -> Any:
    return batch(seed=seed, B=6, T=11, dtype=torch.float64)


def loss_and_gradients(
    objective: Contrastive, hidden: Tensor, head: Tensor, labels: Tensor, group: Tensor, **o
):
    chunk = o.pop("chunk_tokens", None)
    hidden, head = hidden.clone().requires_grad_(), head.clone().requires_grad_()
    log_p = linear_log_probabilities(hidden, head, labels, chunk_tokens=chunk)
    reference = o.pop("reference", torch.linspace(-2, -1, len(group), dtype=torch.float64))
    loss = contrastive_loss(objective, log_p, labels, group, reference, **o)
    loss.total.backward()
    assert hidden.grad is not None and head.grad is not None
    return loss, hidden.grad, head.grad


def by_hand(objective: Contrastive, s: list[float], before: list[float]) -> float:
    """The contrast of GROUP's two groups, as the docstring of the objective has it."""
    total = 0.0
    for right, faulty in ((0, (2, 3)), (5, (4,))):
        if objective.contrast == "hinge":
            total += sum(max(0.0, 1.5 - s[right] + s[f]) for f in faulty) / len(faulty)
        elif objective.contrast == "infonce":
            shares = [math.exp(s[row] / 0.4) for row in (right, *faulty)]
            total += -math.log(shares[0] / sum(shares))
        else:
            gains = [(s[right] - before[right]) - (s[f] - before[f]) for f in faulty]
            total += sum(-math.log(1 / (1 + math.exp(-3.0 * gain))) for gain in gains) / len(faulty)
    return total


@every
def test_is_the_formula(objective: Contrastive):
    one = data()
    log_p = (one.hidden @ one.head.T).log_softmax(-1)
    sums, entropy, tokens = [], 0.0, 0
    for row in range(6):
        scored = [t for t in range(1, 11) if one.labels[row, t] != -100]
        own = [float(log_p[row, t - 1, one.labels[row, t]]) for t in scored]
        sums.append(sum(own) / len(own))
        if GROUP[row] == row:
            entropy, tokens = entropy - sum(own), tokens + len(own)
    before = torch.linspace(-2, -1, 6, dtype=torch.float64)
    loss, *_ = loss_and_gradients(objective, one.hidden, one.head, one.labels, GROUP)
    contrast = by_hand(objective, sums, before.tolist())
    assert float(loss.total.detach()) == pytest.approx(entropy / tokens + 0.7 * contrast / 2)
    assert float(loss.parts["contrast"]) == pytest.approx(contrast)
    assert float(loss.parts["cross_entropy"]) == pytest.approx(entropy)
    assert int(loss.parts["tokens"]) == tokens and int(loss.parts["groups"]) == 2
    gap = sums[0] - (sums[2] + sums[3]) / 2 + sums[5] - sums[4]
    assert float(loss.parts["gap"]) == pytest.approx(gap)
    assert int(loss.parts["ranked"]) == (sums[0] > max(sums[2:4])) + (sums[5] > sums[4])


@every
def test_gradient_is_that_of_finite_differences(objective: Contrastive):
    one = data(3)
    reference = torch.linspace(-2, -1, 6, dtype=torch.float64)

    def value(hidden: Tensor, head: Tensor) -> Tensor:
        log_p = linear_log_probabilities(hidden, head, one.labels, chunk_tokens=4)
        return contrastive_loss(objective, log_p, one.labels, GROUP, reference).total

    inputs = one.hidden.clone().requires_grad_(), one.head.clone().requires_grad_()
    assert torch.autograd.gradcheck(value, inputs, fast_mode=True)


def test_hinge_has_no_gradient_past_the_margin():
    one = data()
    far = torch.tensor([-0.1, -0.1, -9.0, -9.0, -9.0, -0.1], dtype=torch.float64)
    rows = torch.nonzero(one.labels[:, 1:] != -100, as_tuple=True)[0]
    log_p = far[rows].clone().requires_grad_()
    loss = contrastive_loss(HINGE, log_p, one.labels, GROUP)
    loss.total.backward()
    assert float(loss.parts["contrast"]) == 0 and int(loss.parts["ranked"]) == 2
    assert log_p.grad is not None
    faulty = (torch.arange(6) != GROUP)[rows]
    assert not log_p.grad[faulty].any() and log_p.grad[~faulty].all()


@every
def test_order_of_faulty_ones_and_of_rows_does_not_matter(objective: Contrastive):
    one, order = data(1), torch.tensor([5, 3, 2, 0, 4, 1])
    place = torch.argsort(order)  # where each row went
    reference = torch.linspace(-3, -1, 6, dtype=torch.float64)
    plain = loss_and_gradients(objective, one.hidden, one.head, one.labels, GROUP, reference=reference)
    moved = loss_and_gradients(
        objective,
        one.hidden[order],
        one.head,
        one.labels[order],
        place[GROUP[order]],
        reference=reference[order],
    )
    torch.testing.assert_close(moved[0].total, plain[0].total)
    torch.testing.assert_close(moved[1], plain[1][order])
    torch.testing.assert_close(moved[2], plain[2])


@every
def test_accumulation_and_chunks_change_nothing(objective: Contrastive):
    one = data(2)
    reference = torch.linspace(-2, -1, 6, dtype=torch.float64)
    whole = loss_and_gradients(objective, one.hidden, one.head, one.labels, GROUP, chunk_tokens=3)
    tokens, groups = whole[0].parts["tokens"], whole[0].parts["groups"]
    total, head = torch.zeros((), dtype=torch.float64), torch.zeros_like(one.head)
    for rows in (torch.tensor([0, 2, 3]), torch.tensor([1, 5, 4])):
        group = torch.tensor([int((rows == GROUP[row]).nonzero()) for row in rows])
        options = {"counts": StepCounts(tokens, groups), "reference": reference[rows]}
        part = loss_and_gradients(objective, one.hidden[rows], one.head, one.labels[rows], group, **options)
        total, head = total + part[0].total.detach(), head + part[2]
        torch.testing.assert_close(part[1], whole[1][rows])
    torch.testing.assert_close(total, whole[0].total.detach())
    torch.testing.assert_close(head, whole[2])


@every
def test_padding_changes_nothing(objective: Contrastive):
    one = data(4)
    plain, *_ = loss_and_gradients(objective, one.hidden, one.head, one.labels, GROUP)
    junk = torch.full((6, 3, one.hidden.shape[2]), math.nan, dtype=torch.float64)
    labels = torch.cat([one.labels, torch.full((6, 3), -100)], dim=1)
    padded, *_ = loss_and_gradients(objective, torch.cat([one.hidden, junk], 1), one.head, labels, GROUP)
    assert padded.total.item() == plain.total.item()


def test_a_batch_without_faulty_ones_is_cross_entropy():
    one = data()
    own = torch.arange(6)
    loss, hidden, _ = loss_and_gradients(INFONCE, one.hidden, one.head, one.labels, own)
    logits = (one.hidden @ one.head.T).requires_grad_()
    plain = compute(CrossEntropy(), logits, one.labels)
    torch.testing.assert_close(loss.total, plain.total)
    assert int(loss.parts["groups"]) == 0 and hidden.abs().sum() > 0


def test_whole_logits_give_the_same():
    one = data()
    logits = one.hidden @ one.head.T
    wanted = linear_log_probabilities(one.hidden, one.head, one.labels)
    torch.testing.assert_close(log_probabilities(logits, one.labels, chunk_tokens=5), wanted)


def test_scores_are_means_whatever_the_length():
    labels = torch.tensor([[-100, 1, 2, 3], [-100, -100, 4, -100], [-100, -100, -100, -100]])
    log_p = torch.tensor([-1.0, -2.0, -3.0, -2.0])
    assert scores(log_p, labels).tolist() == [-2.0, -2.0, 0.0]


def test_no_tensor_of_batch_length_and_vocabulary_is_made():
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            sizes = [x.numel() for x in (out if isinstance(out, tuple) else (out,)) if isinstance(x, Tensor)]
            self.elements = max(self.elements, *sizes, 0)
            return out

    one = batch(B=6, T=40, V=1000, D=4)
    with Largest() as seen:
        loss_and_gradients(INFONCE, one.hidden, one.head, one.labels, GROUP, chunk_tokens=8)
    assert seen.elements <= 8 * 1000


def test_settings():
    assert Contrastive().parameter == 0.5 and Contrastive(contrast="dpo").parameter == 2.0
    with pytest.raises(ValidationError, match="tau has no effect on hinge"):
        Contrastive.model_validate({"tau": 1.0})
    assert Contrastive.model_validate_json(INFONCE.model_dump_json()) == INFONCE
    with pytest.raises(ValueError, match="dpo needs"):
        contrastive_loss(DPO, torch.zeros(1), torch.tensor([[-100, 1], [-100, -100]]), torch.tensor([0, 0]))
