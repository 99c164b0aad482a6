"""What is kept of dense logits, the rules for the tail, the measured error: all against plain forms."""

import numpy as np
import pytest
import torch
from tests.logits.made import SPEC, log_softmax, plain_rows, random_logits
from torch.nn import functional

from codestill.errors import LogitsError, VocabularyError
from codestill.logits import FixedK, Mass, Threshold, Truncation, rows_from_top, target
from codestill.logits import select as module
from codestill.logits.error import UNIGRAM, errors, measure, unigram_logits
from codestill.logits.rows import TAIL_RULES
from codestill.logits.select import select, select_for
from codestill.logits.shard import roundtrip
from codestill.types import TailRule

TRUNCATIONS = [Threshold(min_probability=1e-4, max_k=50), Mass(mass=0.9, max_k=50), FixedK(k=7)]


@pytest.mark.parametrize("truncation", TRUNCATIONS, ids=lambda one: one.type)
@pytest.mark.parametrize("chunk", [1, 2**20])
def test_select_equals_the_plain_form(truncation: Truncation, chunk: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(module.CHUNK_ELEMENTS, "cpu", chunk)
    spec = SPEC.model_copy(update={"truncation": truncation, "vocabulary": 300, "tail_samples": 0})
    logits = random_logits(40, 320)  # 20 logits that pad the model's matrix take no part
    plain, found = plain_rows(logits, spec), select_for(spec, torch.from_numpy(logits))
    np.testing.assert_array_equal(found.counts_N, plain.counts_N)
    np.testing.assert_array_equal(found.ids_E, plain.ids_E)
    np.testing.assert_allclose(found.log_probabilities_E, plain.log_probabilities_E, atol=1e-5)
    np.testing.assert_allclose(np.exp(found.log_tails_NJ), np.exp(plain.log_tails_NJ), atol=1e-6)


def test_nothing_is_left_of_a_vocabulary_that_is_kept_whole():
    rows = select(torch.from_numpy(random_logits(5, 30)), 30, (1.0, 3.0), FixedK(k=256), tail_samples=2)
    assert rows.counts_N.tolist() == [30] * 5
    assert (rows.log_tails_NJ == -np.inf).all()
    assert not rows.samples_NJM.any()


def test_a_token_that_cannot_occur_is_never_kept():
    logits = torch.zeros(2, 10)
    logits[:, 4:] = -torch.inf
    assert select(logits, 10, (1.0,), FixedK(k=6)).counts_N.tolist() == [4, 4]


def test_no_positions_give_no_rows():
    assert len(select(torch.zeros(0, 10), 10, (1.0, 2.0), Threshold(), tail_samples=3)) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(value: float):
    logits = torch.zeros(3, 10)
    logits[1] = value
    with pytest.raises(LogitsError, match="not finite"):
        select(logits, 10, (1.0,), Threshold())


def test_too_narrow_logits_are_refused():
    with pytest.raises(VocabularyError, match="vocabulary is 11, and the logits are 10 wide"):
        select(torch.zeros(3, 10), 11, (1.0,), Threshold())


def test_samples_follow_the_tail_at_each_temperature():
    logits = torch.from_numpy(random_logits(1, 12)).expand(20_000, -1) * 20
    generator = torch.Generator().manual_seed(0)
    rows = select(logits, 12, (1.0, 2.0), FixedK(k=3), tail_samples=2, generator=generator)
    for place, temperature in enumerate((1.0, 2.0)):
        p = torch.softmax(logits[0] / temperature, dim=0).numpy()
        p[rows.ids_E[:3]] = 0
        found = np.bincount(rows.samples_NJM[:, place].reshape(-1), minlength=12) / 40_000
        np.testing.assert_allclose(found, p / p.sum(), atol=0.015)


def test_rows_from_top_are_those_of_the_whole_vocabulary_at_temperature_one():
    spec = SPEC.model_copy(
        update={"temperatures": (1.0,), "tail_samples": 0, "truncation": Threshold(max_k=9)}
    )
    logits = random_logits(20, spec.vocabulary)
    log_p = log_softmax(logits)
    ids = np.random.default_rng(0).permuted(np.argsort(-log_p)[:, :12], axis=1)  # a server's order is its own
    found = rows_from_top(ids, np.take_along_axis(log_p, ids, axis=1), spec.truncation)
    plain = plain_rows(logits, spec)
    np.testing.assert_array_equal(found.ids_E, plain.ids_E)
    np.testing.assert_allclose(found.log_probabilities_E, plain.log_probabilities_E, rtol=1e-6)
    np.testing.assert_allclose(np.exp(found.log_tails_NJ), np.exp(plain.log_tails_NJ), atol=1e-6)


def test_rows_from_top_take_rounding_and_absent_entries():
    log_p = np.log([[0.7, 0.4, 1.0], [0.5, 0.25, 1.0]])
    log_p[:, 2] = [-np.inf, np.nan]
    rows = rows_from_top(np.array([[4, 5, 0], [6, 7, 0]]), log_p, FixedK(k=3))
    assert rows.counts_N.tolist() == [2, 2]
    np.testing.assert_allclose(np.exp(rows.log_probabilities_E), [0.7 / 1.1, 0.4 / 1.1, 0.5, 0.25], rtol=1e-6)
    assert np.exp(rows.log_tails_NJ[0, 0]) < 1e-7
    np.testing.assert_allclose(np.exp(rows.log_tails_NJ[1]), 0.25, rtol=1e-6)
    with pytest.raises(LogitsError, match="no token with a finite"):
        rows_from_top(np.zeros((1, 2), dtype=int), np.full((1, 2), -np.inf), FixedK())


def plain_loss(student: torch.Tensor, p_NV: torch.Tensor, rest: tuple | None) -> torch.Tensor:
    """KL to a dense target, and to what is listed in no row as one more outcome."""
    log_q = functional.log_softmax(student, dim=1)
    loss = (torch.xlogy(p_NV, p_NV) - p_NV * log_q).sum()
    if rest is not None:
        unlisted, mass = rest
        log_rest = log_q.masked_fill(~unlisted, -torch.inf).logsumexp(dim=1)
        loss = loss + (torch.xlogy(mass, mass) - mass * log_rest).sum()
    return loss


@pytest.mark.parametrize("rule", TAIL_RULES)
@pytest.mark.parametrize("temperature", SPEC.temperatures)
def test_targets_and_errors_equal_autograd_over_the_vocabulary(rule: TailRule, temperature: float):
    spec = SPEC.model_copy(update={"vocabulary": 60, "truncation": Threshold(min_probability=0.01, max_k=9)})
    teacher, student = random_logits(15, 60, 1), random_logits(15, 60, 2)[::-1].copy()
    rows = roundtrip(plain_rows(teacher, spec), spec, temperature)
    found = target(rows, rule)
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
    kl, kl_error, gradient_error = errors(teacher, rows, student, rule)
    relative = ((gradients[0] - gradients[1]).norm() / gradients[0].norm()).item()
    np.testing.assert_allclose(kl, values[0], rtol=1e-6)
    np.testing.assert_allclose(gradient_error, relative, rtol=1e-4)
    # Two draws of one token are one outcome here, two in a target: the gradient is the same.
    if rule != "sampled":
        np.testing.assert_allclose(kl_error, abs(values[0] - values[1]), rtol=1e-4)


def test_sampled_needs_samples():
    spec = SPEC.model_copy(update={"tail_samples": 0})
    rows = roundtrip(plain_rows(random_logits(2, 1000), spec), spec, 1.0)
    with pytest.raises(LogitsError, match="holds no tail samples"):
        target(rows, "sampled")


def test_more_samples_approach_the_full_gradient():
    teacher, student = random_logits(30, 200, 1), random_logits(30, 200, 2)[::-1]
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
        rows = select_for(spec, torch.from_numpy(teacher), torch.Generator().manual_seed(0))
        found.append(errors(teacher, roundtrip(rows, spec, 1.0), student, "sampled")[2])
    assert found[1] < found[0] / 8


def test_the_error_record_names_every_rule_temperature_and_its_student():
    logits = random_logits(30, 1000)
    rows = plain_rows(logits, SPEC)
    unigram = unigram_logits([3, 3, 5], 1000, 30)
    np.testing.assert_allclose(np.exp(unigram[0, [3, 5, 6]]), np.array([3, 2, 1]) / 1003)
    records = measure(logits, rows, unigram, SPEC, UNIGRAM)
    assert {(one.temperature, one.rule) for one in records} == {
        (t, r) for t in (1.0, 2.0) for r in TAIL_RULES
    }
    assert {one.student for one in records} == {"unigram"}
    exact = SPEC.model_copy(update={"truncation": FixedK(k=256), "vocabulary": 256, "tail_samples": 0})
    small = logits[:, :256]
    whole = measure(logits, plain_rows(small, exact), unigram, exact, UNIGRAM)
    assert max(one.gradient_error for one in whole) < 0.01
    assert all(one.kl > 0 and one.positions == 30 for one in whole)
