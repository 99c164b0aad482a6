"""Scores against brute force, and intervals against simulation."""

from itertools import combinations, pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestill.evaluation import metrics
from codestill.evaluation.metrics import (
    auroc,
    bleu,
    compare_pairs,
    interval,
    interval_over_seeds,
    paired_difference,
    pass_at_k,
    student_t,
)
from codestill.tables.differences import correction, holm
from codestill.types import Difference, Interval


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


@pytest.mark.parametrize("tasks", range(1, 10))
def test_few_tasks_show_a_difference_only_where_a_sign_test_would(tasks: int) -> None:
    """All of them pass with the one and none with the other: six are the fewest that tell at 5%."""
    found = compare_pairs([[1.0] * tasks], [[0.0] * tasks])
    assert found.interval.mean == found.interval.high == 1
    assert (found.interval.low > 0) is (tasks >= 6)
    assert found.p is not None and (found.p < 0.05) is (tasks >= 6)


def test_three_tasks_that_differ_show_nothing() -> None:
    found = compare_pairs([[1.0, 1.0, 0.5]], [[0.0, 0.0, 0.0]])
    assert found.interval.low < 0 < found.interval.mean
    assert found.p is not None and found.p > 0.05


def test_a_model_does_not_differ_from_itself() -> None:
    scores = np.random.default_rng(0).random((2, 30)).tolist()
    same = paired_difference(scores, scores)
    share = 0.025 ** (1 / 30)  # of tasks that are like these, at least
    assert (same.mean, same.low, same.high) == (0, pytest.approx(share - 1), pytest.approx(1 - share))


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


def width(found: Interval) -> float:
    return found.high - found.low


def test_intervals_over_seeds_are_as_wide_as_theory_says() -> None:
    """Where seeds agree, tasks alone make the interval; where tasks agree, seeds alone."""
    rng = np.random.default_rng(1)
    tasks, seeds = rng.normal(0.1, 0.3, 300), rng.normal(0.1, 0.3, 60)
    for data in (np.tile(tasks, (4, 1)), np.tile(seeds[:, None], (1, 20))):
        draws = tasks if data.shape[0] == 4 else seeds
        theory = 2 * 1.96 * draws.std() / np.sqrt(len(draws))
        zeros = np.zeros_like(data).tolist()
        for found in (interval_over_seeds(data.tolist()), paired_difference(data.tolist(), zeros)):
            assert width(found) == pytest.approx(theory, rel=0.05)


def test_a_difference_has_each_seeds_own_beside_it() -> None:
    a = [[1.0, 1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]]
    b = [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]]
    found = compare_pairs(a, b)
    assert found.by_seed == (0.5, 0.25, 0.0)
    assert (found.t_interval, found.t_p) == student_t((0.5, 0.25, 0.0))
    assert found.interval == paired_difference(a, b)
    assert compare_pairs(a[:1], b[:1]).t_interval is None  # one seed shows no spread
    assert compare_pairs(a[:2] * 2, b[:2] * 2).t_interval is not None
    many = compare_pairs(a[:1] * 2 + a, b[:1] * 2 + b)
    assert len(many.by_seed) == 5 and many.t_interval is None and many.t_p is None


def test_a_t_interval_is_students() -> None:
    two, p = student_t([1.0, 3.0])
    assert two is not None and (two.mean, two.low, two.high) == pytest.approx((2, 2 - 12.7062, 2 + 12.7062))
    assert p == pytest.approx(0.295167, abs=1e-6)  # 1 - 2 arctan(2) / pi
    three, p = student_t([1.0, 2.0, 3.0])
    reach = 4.302653 / np.sqrt(3)
    assert three is not None and (three.low, three.high) == pytest.approx((2 - reach, 2 + reach))
    assert p == pytest.approx(0.0741799, abs=1e-6)
    for nothing_to_see in ([1.0], [0.5, 0.5, 0.5]):
        assert student_t(nothing_to_see) == (None, None)


@pytest.mark.parametrize("shift", [-0.2, 0.0, 0.2])
def test_a_p_value_is_small_where_the_interval_excludes_zero(shift: float) -> None:
    data = np.random.default_rng(3).normal(0, 0.4, (3, 100))
    found = compare_pairs((data - data.mean() + shift).tolist(), np.zeros_like(data).tolist())
    turned = compare_pairs((data.mean() - data - shift).tolist(), np.zeros_like(data).tolist())
    assert found.p is not None and found.p == turned.p
    assert found.excludes_zero == (found.p < 0.05) == (shift != 0)
    assert found.p < 0.001 or found.p > 0.9
    same = compare_pairs(data.tolist(), data.tolist())
    assert same.p == 1


def test_holms_correction_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.02]) == [0.02] and holm([]) == []
    assert holm([0.02, None]) == [0.04, None]


@given(st.lists(st.floats(0, 1), max_size=30))
def test_holms_correction_is_between_none_and_bonferronis(values: list[float]) -> None:
    adjusted = [p for p in holm(values) if p is not None]
    assert len(adjusted) == len(values)
    for before, after in zip(values, adjusted, strict=True):
        assert before <= after <= min(1, before * len(values) + 1e-12)
    order = np.argsort(values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()
    if values:
        assert min(adjusted) == pytest.approx(min(1, min(values) * len(values)))


def difference(a: str, p: float | None, t_p: float | None) -> Difference:
    around = Interval(mean=0.1, low=0.0, high=0.2)
    return Difference(a=a, b="b", metric="pass@1", pairs=9, interval=around, p=p, t_p=t_p)


def test_a_caption_names_what_survives_a_correction() -> None:
    assert correction([difference("a", 0.01, None)]) == ""
    found = correction([difference("a", 0.02, None), difference("c", 0.03, None), difference("d", 0.9, None)])
    assert found.startswith("Of 3 differences") and found.endswith("(all together at 5%): none.")
    found = correction(
        [difference("a", 0.001, 0.01), difference("c", 0.04, 0.4), difference("d", 0.01, None)]
    )
    assert "5%): a − b, c − b, d − b; by the t intervals: a − b." in found
    assert "not adjusted" in correction([difference("a", None, None)] * 2)


def test_an_auroc_interval_is_as_wide_as_theory_says() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.random(400), np.arange(400) % 2 == 0
    found = auroc(scores.tolist(), labels.tolist())
    assert width(found) == pytest.approx(2 * 1.96 * np.sqrt(401 / (12 * 200 * 200)), rel=0.08)


def test_attempts_at_one_task_count_as_one() -> None:
    """What was said twice of the same task says no more than once."""
    rng = np.random.default_rng(0)
    scores, labels = rng.random(300).round(2).tolist(), (rng.random(300) < 0.4).tolist()
    once = auroc(scores, labels)
    tasks = [f"t/{n}" for n in range(300)]
    twice = auroc(scores * 2, labels * 2, tasks * 2)
    assert twice.mean == pytest.approx(once.mean)
    assert width(twice) == pytest.approx(width(once), rel=0.05)
    assert width(auroc(scores * 2, labels * 2)) == pytest.approx(width(once) / np.sqrt(2), rel=0.05)


ATTEMPTS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.booleans(), st.integers(0, 6)),
    min_size=1,
    max_size=30,
)


def draws_are_areas(rows: list[tuple[float, bool, int]]) -> None:
    """Each draw is the AUROC of the attempts at the tasks that were drawn, each as often as it was drawn."""
    values, positive = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    _, group = np.unique([row[2] for row in rows], return_inverse=True)
    found = iter(metrics._areas(values, positive, group, np.random.default_rng(5)).tolist())
    size = int(group.max()) + 1
    for drawn in np.random.default_rng(5).integers(size, size=(1000, size))[:20]:
        places = np.concatenate([np.flatnonzero(group == task) for task in drawn])
        if 0 < positive[places].sum() < len(places):
            assert next(found) == pytest.approx(metrics._area(values[places], positive[places]))


@given(ATTEMPTS)
@settings(max_examples=50)
def test_a_draw_of_tasks_is_the_auroc_of_their_attempts(rows: list[tuple[float, bool, int]]) -> None:
    draws_are_areas(rows)


@pytest.mark.slow
@given(ATTEMPTS)
@settings(max_examples=5000)
def test_any_draw_of_tasks_is_the_auroc_of_their_attempts(rows: list[tuple[float, bool, int]]) -> None:
    draws_are_areas(rows)


def test_scores_that_are_all_in_order_have_wilsons_interval() -> None:
    """A bootstrap would see no spread; two attempts show nothing."""
    assert auroc([1, 0], [True, False]).low < 0.25
    assert auroc([0, 1], [True, False]).high > 0.75
    many = auroc([1] * 50 + [0] * 50, [True] * 50 + [False] * 50)
    assert 0.9 < many.low < many.high == 1
    assert auroc([1] * 50 + [0] * 50, [True] * 50 + [False] * 50, [0] * 50 + [1] * 50).low < 0.25


COVERAGE = {
    (2, 0.0): (0.985, 0.94),
    (2, 0.05): (0.875, 0.94),
    (3, 0.0): (0.985, 0.90),
    (3, 0.05): (0.92, 0.92),
    (5, 0.0): (0.975, 0.80),
    (5, 0.05): (0.955, 0.93),
}
"""Seeds and the spread of their effect: how often bootstrap and t interval hold a difference of zero."""


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("spread", [0.0, 0.05])
def test_intervals_of_differences_hold_the_truth_as_the_page_says(
    seeds: int, spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/evaluation.md has these shares: the bootstrap is conservative where seeds agree, and too narrow
    where two or three do not."""
    monkeypatch.setattr(metrics, "DRAWS", 1000)
    rng, held, held_by_t, runs = np.random.default_rng(seeds), 0, 0, 400
    for number in range(runs):
        data = rng.normal(0, 0.2, 150) + rng.normal(0, 0.35, (seeds, 150)) + rng.normal(0, spread, (seeds, 1))
        found = compare_pairs(data.tolist(), np.zeros_like(data).tolist(), seed=number)
        over_seeds, _ = student_t(found.by_seed)
        assert over_seeds is not None
        held += not found.excludes_zero
        held_by_t += not over_seeds.excludes_zero
    expected, by_t = COVERAGE[seeds, spread]
    assert held / runs == pytest.approx(expected, abs=0.04)
    assert held_by_t / runs == pytest.approx(by_t, abs=0.04)


def test_parts_of_one_problem_count_as_one() -> None:
    """Each of 40 problems in 10 parts that all pass or all fail: 40 values, not 400."""
    problems = [float(number % 2) for number in range(40)]
    parts, groups = [v for v in problems for _ in range(10)], [n for n in range(40) for _ in range(10)]
    alone, together = interval(problems), interval(parts, groups=groups)
    assert together.mean == alone.mean
    assert abs((together.high - together.low) / (alone.high - alone.low) - 1) < 0.1
    assert (interval(parts).high - interval(parts).low) < 0.4 * (together.high - together.low)
    zeros = [0.0] * 400
    assert interval(zeros, groups=groups) == interval([0.0] * 40)
    paired = compare_pairs([parts], [zeros], groups=groups)
    assert abs(paired.interval.low - compare_pairs([problems], [[0.0] * 40]).interval.low) < 0.03
