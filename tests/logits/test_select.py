"""What is kept of dense logits, and of the lists that servers give: against plain forms."""

import numpy as np
import pytest
import torch
from tests.logits.made import SPEC, log_softmax, plain_rows, random_logits

from codestill.errors import LogitsError, VocabularyError
from codestill.logits import FixedK, Mass, Threshold, Truncation, rows_from_top
from codestill.logits import select as module
from codestill.logits.select import select, select_for

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
