"""The error that a cache publishes is that of the loss that trains: held to autograd and to plain numpy."""

import numpy as np
import pytest
import torch
from tests.logits import oracle
from tests.logits.made import SPEC, plain_rows, random_logits
from tests.logits.oracle import TAIL_RULES
from torch.nn import functional

from codestill.capture import error
from codestill.capture.error import UNIGRAM, loss_errors, measure_error, unigram_logits
from codestill.errors import LogitsError
from codestill.logits import FixedK, SparseRows, Threshold
from codestill.logits.select import select_for
from codestill.logits.shard import roundtrip
from codestill.losses import chunks
from codestill.types import TailRule

every_rule = pytest.mark.parametrize("rule", TAIL_RULES)
TEMPERATURES = (0.7, 1.0, 2.0, 4.0)


def sparse_rows(temperature: float) -> tuple[torch.Tensor, SparseRows, torch.Tensor]:
    """Teacher logits, what a cache gives back of them, and student logits: of 40 positions."""
    spec = SPEC.model_copy(
        update={
            "vocabulary": 200,
            "temperatures": TEMPERATURES,
            "truncation": Threshold(min_probability=0.01, max_k=9),
            "tail_samples": 3,
        }
    )
    teacher, student = random_logits(40, 200, 1), random_logits(40, 200, 2)[::-1].copy()
    rows = roundtrip(plain_rows(teacher, spec), spec, temperature)
    return torch.from_numpy(teacher), rows, torch.from_numpy(student)


@every_rule
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("at_once", [1, 1000, 2**20])
def test_the_training_loss_equals_numpy(
    rule: TailRule, temperature: float, at_once: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(error, "ELEMENTS_AT_ONCE", at_once)
    teacher, rows, student = sparse_rows(temperature)
    found = loss_errors(teacher, rows, student, rule)
    assert min(found) > 1e-6
    wanted = oracle.errors(teacher.numpy(), rows, student.numpy(), rule)
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)


@every_rule
def test_a_change_to_the_training_loss_changes_the_error(rule: TailRule, monkeypatch: pytest.MonkeyPatch):
    """So the number in the manifest cannot be of other code."""
    teacher, rows, student = sparse_rows(2.0)
    before = loss_errors(teacher, rows, student, rule)
    sparse = chunks._sparse

    def broken(*arguments) -> tuple[torch.Tensor, torch.Tensor | None]:
        value, gradient = sparse(*arguments)
        return 0.5 * value, gradient if gradient is None else 0.5 * gradient

    monkeypatch.setattr(chunks, "_sparse", broken)
    after = loss_errors(teacher, rows, student, rule)
    assert after[0] == before[0]
    assert all(abs(x - y) > 1e-2 for x, y in zip(after[1:], before[1:], strict=True))


def plain_loss(student: torch.Tensor, p_NV: torch.Tensor, rest: tuple | None) -> torch.Tensor:
    """KL to a dense target, and to what is listed in no row as one more outcome."""
    log_q = functional.log_softmax(student, dim=1)
    loss = (torch.xlogy(p_NV, p_NV) - p_NV * log_q).sum()
    if rest is not None:
        unlisted, mass = rest
        log_rest = log_q.masked_fill(~unlisted, -torch.inf).logsumexp(dim=1)
        loss = loss + (torch.xlogy(mass, mass) - mass * log_rest).sum()
    return loss


@every_rule
@pytest.mark.parametrize("temperature", SPEC.temperatures)
def test_targets_and_errors_equal_autograd_over_the_vocabulary(rule: TailRule, temperature: float):
    spec = SPEC.model_copy(update={"vocabulary": 60, "truncation": Threshold(min_probability=0.01, max_k=9)})
    teacher, student = random_logits(15, 60, 1), random_logits(15, 60, 2)[::-1].copy()
    rows = roundtrip(plain_rows(teacher, spec), spec, temperature)
    found = oracle.target(rows, rule)
    outcomes = {"bucket": 1, "renormalise": 0, "drop": 0, "sampled": 2}[rule]
    assert found.ids_NO.shape == (15, rows.ids_NK.shape[1] + outcomes)

    dense_NV, listed_NV = torch.zeros(15, 60, dtype=torch.double), torch.zeros(15, 60, dtype=torch.bool)
    kept_NK = np.exp(rows.log_probabilities_NK.astype(float))
    for row in range(15):
        for token, p in zip(rows.ids_NK[row], kept_NK[row], strict=True):
            dense_NV[row, token] += p / (kept_NK[row].sum() if rule == "renormalise" else 1)
            listed_NV[row, token] |= bool(p > 0)
        if rule == "sampled":
            assert rows.samples_NM is not None
            for token in rows.samples_NM[row]:
                dense_NV[row, token] += np.exp(float(rows.log_tail_N[row])) / 2
    whole = {"drop": kept_NK.sum(axis=1)}.get(rule, np.ones(15))
    total = np.exp(found.log_probabilities_NO.astype(float)).sum(axis=1)
    np.testing.assert_allclose(total, whole, atol=1e-5)

    rest = (~listed_NV, torch.from_numpy(np.exp(rows.log_tail_N))) if rule == "bucket" else None
    gradients, values = [], []
    p_NV = torch.softmax(torch.from_numpy(teacher).double() / temperature, dim=1)
    for args in [(p_NV, None), (dense_NV, rest)]:
        scaled = (torch.from_numpy(student).double() / temperature).requires_grad_()
        loss = plain_loss(scaled, *args)
        loss.backward()
        assert scaled.grad is not None
        gradients.append(scaled.grad)
        values.append(loss.item() / 15)
    kl, kl_error, gradient_error = loss_errors(
        torch.from_numpy(teacher), rows, torch.from_numpy(student), rule
    )
    relative = ((gradients[0] - gradients[1]).norm() / gradients[0].norm()).item()
    np.testing.assert_allclose(kl, values[0], rtol=1e-6)
    np.testing.assert_allclose(gradient_error, relative, rtol=1e-4)
    # Two draws of one token are one outcome here, two in a target: the gradient is the same.
    if rule != "sampled":
        np.testing.assert_allclose(kl_error, abs(values[0] - values[1]), rtol=1e-4)


def test_sampled_needs_samples():
    spec = SPEC.model_copy(update={"tail_samples": 0})
    rows = roundtrip(plain_rows(random_logits(2, 1000), spec), spec, 1.0)
    logits = torch.zeros(2, 1000)
    with pytest.raises(LogitsError, match="hold no samples of the tail"):
        loss_errors(logits, rows, logits, "sampled")


def test_more_samples_approach_the_full_gradient():
    teacher = torch.from_numpy(random_logits(30, 200, 1))
    student = torch.from_numpy(random_logits(30, 200, 2)[::-1].copy())
    found = []
    for count in (1, 200):
        spec = SPEC.model_copy(
            update={
                "vocabulary": 200,
                "tail_samples": count,
                "truncation": FixedK(k=4),
                "temperatures": (1.0,),
            }
        )
        rows = select_for(spec, teacher, torch.Generator().manual_seed(0))
        found.append(loss_errors(teacher, roundtrip(rows, spec, 1.0), student, "sampled")[2])
    assert found[1] < found[0] / 8


def test_the_error_record_names_every_rule_temperature_and_its_student():
    logits = random_logits(30, 1000)
    dense, rows = torch.from_numpy(logits), plain_rows(logits, SPEC)
    unigram = unigram_logits([3, 3, 5], 1000, 30)
    np.testing.assert_allclose(unigram[0, [3, 5, 6]].exp(), np.array([3, 2, 1]) / 1003)
    records = measure_error(dense, rows, unigram, SPEC, UNIGRAM)
    assert {(one.temperature, one.rule) for one in records} == {
        (t, r) for t in (1.0, 2.0) for r in TAIL_RULES
    }
    assert {one.student for one in records} == {"unigram"}
    exact = SPEC.model_copy(update={"truncation": FixedK(k=256), "vocabulary": 256, "tail_samples": 0})
    whole = measure_error(dense, plain_rows(logits[:, :256], exact), unigram, exact, UNIGRAM)
    assert max(one.gradient_error for one in whole) < 0.01
    assert all(one.kl > 0 and one.positions == 30 for one in whole)
