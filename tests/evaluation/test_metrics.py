"""Scores against brute force, and intervals against simulation."""

from itertools import combinations, pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codestill.evaluation.metrics import (
    auroc,
    bleu,
    interval,
    interval_over_seeds,
    paired_difference,
    pass_at_k,
)


def brute_force(samples: int, passed: int, k: int) -> float:
    """The share of subsets of ``k`` samples of which one passes at least."""
    outcomes = [number < passed for number in range(samples)]
    subsets = list(combinations(outcomes, k))
    return sum(map(any, subsets)) / len(subsets)


def test_pass_at_k_is_the_share_of_subsets_with_a_pass() -> None:
    for samples in range(1, 9):
        for passed, k in product(range(samples + 1), range(1, samples + 1)):
            assert pass_at_k(samples, passed, k) == pytest.approx(brute_force(samples, passed, k), abs=1e-12)


def test_pass_at_k_grows_with_k_and_with_passes() -> None:
    for samples in (10, 200, 2000):
        for passed in (0, 1, samples // 3, samples):
            scores = [pass_at_k(samples, passed, k) for k in range(1, samples + 1)]
            assert all(0 <= low <= high <= 1 for low, high in pairwise(scores))
            assert scores[0] == pytest.approx(passed / samples)
            assert scores[-1] == (passed > 0)
        rising = [pass_at_k(samples, passed, 5) for passed in range(samples + 1)]
        assert rising == sorted(rising)


@pytest.mark.parametrize(
    ("samples", "passed", "k"), [(10, 3, 11), (0, 0, 1), (10, 3, 0), (10, 11, 1), (10, -1, 1), (10, 3, -2)]
)
def test_pass_at_k_is_refused_where_it_is_not_defined(samples: int, passed: int, k: int) -> None:
    with pytest.raises(ValueError, match="not defined"):
        pass_at_k(samples, passed, k)


@pytest.mark.parametrize(("tasks", "bound"), [(1, 0.7935), (10, 0.2775), (164, 0.0229)])
def test_nothing_and_everything_passed_have_wilsons_interval(tasks: int, bound: float) -> None:
    none, every = interval([0.0] * tasks), interval([1.0] * tasks)
    assert (none.mean, none.low) == (0, 0) and none.high == pytest.approx(bound, abs=1e-4)
    assert (every.mean, every.high) == (1, 1) and every.low == pytest.approx(1 - bound, abs=1e-4)
    assert interval_over_seeds([[0.0] * tasks] * 3) == none
    assert interval_over_seeds([[1.0] * tasks] * 3) == every


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    for truth in (0.1, 0.5, 0.8):
        trials = 50
        held = 0
        for trial in range(trials):
            found = interval((rng.random(100) < truth).astype(float).tolist(), seed=trial)
            held += found.low <= truth <= found.high
        assert held >= 0.85 * trials


def test_an_interval_is_as_wide_as_theory_says() -> None:
    values = [1.0] * 30 + [0.0] * 70
    found = interval(values)
    assert found.mean == pytest.approx(0.3)
    half = 1.96 * (0.3 * 0.7 / 100) ** 0.5
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)
    assert interval(values) == found


def test_an_interval_needs_a_task() -> None:
    with pytest.raises(ValueError, match="at least one task"):
        interval([])


def test_seeds_that_differ_widen_the_interval() -> None:
    same = [[1.0] * 50 + [0.0] * 50] * 4
    rates = (0.2, 0.4, 0.6, 0.8)
    differing = [[float(task < 100 * rate) for task in range(100)] for rate in rates]
    narrow, wide = interval_over_seeds(same), interval_over_seeds(differing)
    assert narrow.mean == wide.mean == 0.5
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_a_difference_turns_its_sign_with_its_sides() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.random((3, 40)) < 0.6).astype(float).tolist(), rng.random((3, 40)).tolist()
    forth, back = paired_difference(a, b), paired_difference(b, a)
    assert forth.mean == pytest.approx(-back.mean)
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))
    assert forth.mean == pytest.approx(np.mean(a) - np.mean(b))
    assert forth.low < forth.mean < forth.high


def test_a_model_does_not_differ_from_itself() -> None:
    scores = np.random.default_rng(0).random((2, 30)).tolist()
    same = paired_difference(scores, scores)
    assert (same.mean, same.low, same.high) == (0, 0, 0)


def test_pairs_show_what_separate_intervals_hide() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(60)  # tasks differ far more than the models do
    a, b = [(hard * 0.9 + 0.05).tolist()], [(hard * 0.9).tolist()]
    assert paired_difference(a, b).low > 0
    assert interval(a[0]).low < interval(b[0]).high


def test_pairs_must_match() -> None:
    for a, b in (([[1.0, 0.0]], [[1.0]]), ([[1.0]] * 3, [[1.0]] * 2), ([[1.0]] * 3, [[1.0]])):
        with pytest.raises(ValueError, match="pairs"):
            paired_difference(a, b)


def test_bleu_of_the_reference_is_100_and_of_something_else_is_not() -> None:
    references = ["    return x + 1\n", "    return sorted(values, key=len)\n"]
    score, signature = bleu(references, references)
    assert score == pytest.approx(100) and "tok:13a" in signature
    near, _ = bleu(["    return x + 2\n", references[1]], references)
    far, _ = bleu(["pass", "pass"], references)
    assert 100 > near > far


@given(
    st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=60).filter(
        lambda rows: len({label for _, label in rows}) == 2
    )
)
def test_auroc_is_the_share_of_pairs_in_order(rows: list[tuple[int, bool]]) -> None:
    scores, labels = zip(*rows, strict=True)
    pairs = [(a, b) for a, up in rows for b, other in rows if up and not other]
    wanted = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)
    found = auroc(scores, labels)
    assert found.mean == pytest.approx(wanted)
    assert 0 <= found.low <= found.high <= 1


def test_auroc_needs_both_labels() -> None:
    with pytest.raises(ValueError, match="positives and negatives"):
        auroc([1, 2], [True, True])
