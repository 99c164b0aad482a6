"""Scores and their uncertainty: unbiased pass@k, intervals over tasks, paired differences, BLEU."""

import math
from collections.abc import Hashable, Sequence

import numpy as np

from codestill.types import Interval, PairedDifference

DRAWS = 10_000
FEW_SEEDS = 5
FEW_TASKS = 10
"""Below it a bootstrap over seeds is too narrow where seeds differ: a t interval stands beside it."""
Z95 = 1.959963984540054


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """Probability that at least one of ``k`` of the samples passes (Chen et al. 2021, eq. 1).

    1 - C(n - c, k) / C(n, k), in its stable product form. Raises ValueError when k > n.
    """
    if not 1 <= k <= samples or not 0 <= passed <= samples:
        raise ValueError(f"pass@{k} of {passed}/{samples} samples is not defined")
    if samples - passed < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(samples - passed + 1, samples + 1))


def interval(values: Sequence[float], seed: int = 0, groups: Sequence[Hashable] | None = None) -> Interval:
    """Mean of one value per task with its 95% percentile-bootstrap interval over tasks, or over ``groups`` of
    tasks that are not independent, such as the parts of one problem.

    Where every task has the same 0 or 1 a bootstrap sees no spread; Wilson's interval is used.
    """
    if not values:
        raise ValueError("an interval needs at least one task")
    data = np.asarray(values, dtype=float)
    mean = float(data.mean())
    if data.min() == data.max() and mean in (0.0, 1.0):
        return _wilson(mean, len(data) if groups is None else len(set(groups)))
    if groups is not None and len(set(groups)) == 1:
        return Interval(mean=mean, low=0.0, high=1.0)  # of other groups it says nothing
    if groups is not None:
        return _percentiles(mean, _over_seeds(data[None], seed, groups))
    rng = np.random.default_rng(seed)
    return _percentiles(mean, _bootstrap_means(data, rng))


def ratio(tops: Sequence[float], bottoms: Sequence[float], seed: int = 0) -> Interval:
    """Sum over sum of one pair of numbers per task, such as tokens and passes, with its 95%
    percentile-bootstrap interval over tasks."""
    return _percentiles(sum(tops) / sum(bottoms), _ratios(tops, bottoms, seed))


def ratio_difference(
    a: tuple[Sequence[float], Sequence[float]], b: tuple[Sequence[float], Sequence[float]], seed: int = 0
) -> Interval:
    """``a - b`` of two :func:`ratio` of the same tasks, with its interval; every draw has the same tasks in
    both."""
    mean = sum(a[0]) / sum(a[1]) - sum(b[0]) / sum(b[1])
    return _percentiles(mean, _ratios(*a, seed) - _ratios(*b, seed))


def share(parts: Sequence[float], wholes: Sequence[float], seed: int = 0) -> Interval:
    """:func:`ratio` of parts of wholes; as :func:`interval` where every task's share is the same 0 or 1."""
    mean = sum(parts) / sum(wholes)
    if mean in (0.0, 1.0):
        return _wilson(mean, len(parts))
    return ratio(parts, wholes, seed)


def _ratios(tops: Sequence[float], bottoms: Sequence[float], seed: int) -> np.ndarray:
    """The ratios of the bootstrap's draws."""
    pairs_TC = np.asarray([tops, bottoms], dtype=float).T
    rng, size = np.random.default_rng(seed), len(pairs_TC)
    sums_DC = np.stack([pairs_TC[rng.integers(size, size=size)].sum(axis=0) for _ in range(DRAWS)])
    return sums_DC[:, 0] / sums_DC[:, 1]


def interval_over_seeds(
    values_ST: Sequence[Sequence[float]], seed: int = 0, groups: Sequence[Hashable] | None = None
) -> Interval:
    """Mean score with its 95% interval over training seeds (rows) and tasks (columns), or groups of tasks.

    Each bootstrap draw resamples seeds and tasks, both with replacement; as :func:`interval` where every
    value is the same 0 or 1.
    """
    data_ST = np.asarray(values_ST, dtype=float)
    if data_ST.min() == data_ST.max() and data_ST.min() in (0.0, 1.0):
        return _wilson(float(data_ST.min()), data_ST.shape[1] if groups is None else len(set(groups)))
    return _percentiles(float(data_ST.mean()), _over_seeds(data_ST, seed, groups))


def paired_difference(
    a_ST: Sequence[Sequence[float]], b_ST: Sequence[Sequence[float]], seed: int = 0
) -> Interval:
    """``a - b`` with its 95% bootstrap interval; every draw keeps the pairs of seed and task together.

    Raises ValueError when the two do not have the same seeds and tasks.
    """
    return compare_pairs(a_ST, b_ST, seed).interval


def compare_pairs(
    a_ST: Sequence[Sequence[float]],
    b_ST: Sequence[Sequence[float]],
    seed: int = 0,
    groups: Sequence[Hashable] | None = None,
) -> PairedDifference:
    """:func:`paired_difference` with all that stands beside its interval.

    The p-value is twice the share of draws at or beyond zero, on the side where fewer are, and at least that
    of a sign test in which all tasks agree. With fewer than ten tasks, or where all differ alike, a bootstrap
    sees too little spread: the interval also allows for tasks unlike these, whose share is bounded exactly
    (Clopper and Pearson, 1934) and whose difference may be anything. With two to four seeds there is also a t
    interval over the seeds' own differences, for the same tasks. Where tasks belong to ``groups``, such as
    the parts of one problem, these take the tasks' place.
    """
    a, b = np.asarray(a_ST, dtype=float), np.asarray(b_ST, dtype=float)
    if a.shape != b.shape:
        raise ValueError(f"scores of shape {a.shape} and {b.shape} (seeds, tasks) are no pairs")
    difference_ST = a - b
    draws = _over_seeds(difference_ST, seed, groups)
    beyond = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    by_seed = tuple(difference_ST.mean(axis=1).tolist())
    t_interval, t_p = student_t(by_seed) if len(by_seed) < FEW_SEEDS else (None, None)
    interval = _percentiles(float(difference_ST.mean()), draws)
    tasks = difference_ST.shape[1] if groups is None else len(set(groups))
    if tasks < FEW_TASKS or np.ptp(difference_ST) == 0:
        interval = _with_unmet(interval, tasks)
    return PairedDifference(
        interval=interval,
        p=min(1.0, max(2 * (beyond + 1) / (len(draws) + 1), 2 * 0.5**tasks)),
        by_seed=by_seed,
        t_interval=t_interval,
        t_p=t_p,
    )


def _with_unmet(interval: Interval, tasks: int) -> Interval:
    """An interval of differences that allows for tasks of which none was among so many."""
    met = 0.025 ** (1 / tasks)  # what share is at least like those that were met
    return Interval(
        mean=interval.mean,
        low=max(-1.0, met * interval.low - (1 - met)),
        high=min(1.0, met * interval.high + (1 - met)),
    )


def student_t(values: Sequence[float]) -> tuple[Interval | None, float | None]:
    """95% t interval of a mean, and the two-sided p-value of a mean of zero; both None where there are fewer
    than two values, or all are equal: they show no spread."""
    data = np.asarray(values, dtype=float)
    if len(data) < 2 or np.ptp(data) == 0:
        return None, None
    from scipy.special import stdtr, stdtrit  # here: scoring samples does without it

    mean, error = float(data.mean()), float(data.std(ddof=1)) / math.sqrt(len(data))
    reach = error * float(stdtrit(len(data) - 1, 0.975))
    p = 2 * float(stdtr(len(data) - 1, -abs(mean) / error))
    return Interval(mean=mean, low=mean - reach, high=mean + reach), p


def _over_seeds(data_ST: np.ndarray, seed: int, groups: Sequence[Hashable] | None = None) -> np.ndarray:
    """Means of the bootstrap's draws: seeds and tasks, or groups of tasks, are resampled, each with
    replacement."""
    seeds, tasks = data_ST.shape
    rng = np.random.default_rng(seed)
    means = np.empty(DRAWS)
    group_T = _numbered(range(tasks) if groups is None else groups)
    sizes_G = np.bincount(group_T)
    for draw in range(DRAWS):
        rows = data_ST[rng.integers(seeds, size=seeds)].mean(axis=0)
        if groups is None:
            means[draw] = rows[rng.integers(tasks, size=tasks)].mean()
        else:
            drawn = rng.integers(len(sizes_G), size=len(sizes_G))
            means[draw] = np.bincount(group_T, weights=rows)[drawn].sum() / sizes_G[drawn].sum()
    return means


def _numbered(groups: Sequence[Hashable]) -> np.ndarray:
    """Each task's group as a number from 0, in the order in which they come."""
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    return np.array([numbers[group] for group in groups])


def _percentiles(mean: float, draws: np.ndarray) -> Interval:
    low, high = np.quantile(draws, (0.025, 0.975))
    return Interval(mean=mean, low=float(low), high=float(high))


def auroc(
    scores: Sequence[float],
    labels: Sequence[bool],
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Interval:
    """Probability that a positive is scored above a negative, ties counted half, with its 95% bootstrap
    interval over ``groups``.

    A group is what was drawn together, e.g. all attempts at one task, which are not independent; by default
    each score is its own. Where all pairs are in order, or none, a bootstrap sees no spread: Wilson's
    interval is used, for as many as there are groups with positives, or with negatives if these are fewer.

    Raises ValueError where all labels are the same.
    """
    values, positive = np.asarray(scores, dtype=float), np.asarray(labels, dtype=bool)
    if positive.all() or not positive.any():
        raise ValueError("an AUROC needs positives and negatives")
    mean = _area(values, positive)
    numbers: dict[Hashable, int] = {}
    keys = range(len(values)) if groups is None else groups
    group = np.array([numbers.setdefault(key, len(numbers)) for key in keys])
    if mean in (0.0, 1.0):
        return _wilson(mean, min(len(set(group[positive])), len(set(group[~positive]))))
    draws = np.empty(0)
    rng = np.random.default_rng(seed)
    while len(draws) < DRAWS:
        draws = np.concatenate([draws, _areas(values, positive, group, rng)])
    return _percentiles(mean, draws[:DRAWS])


def _areas(
    values: np.ndarray, positive: np.ndarray, group: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Areas of at most 1,000 draws of the groups; a draw without positives or without negatives has none."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])  # of equal values
    size = int(group.max()) + 1
    drawn = rng.integers(size, size=(1000, size)) + size * np.arange(1000)[:, None]
    times_DG = np.bincount(drawn.ravel(), minlength=1000 * size).reshape(1000, size)
    times_DN = times_DG[:, group[order]]
    ups_DV = np.add.reduceat(times_DN * positive[order], starts, axis=1)
    downs_DV = np.add.reduceat(times_DN * ~positive[order], starts, axis=1)
    below_DV = np.cumsum(downs_DV, axis=1) - downs_DV / 2
    pairs_D = ups_DV.sum(axis=1) * downs_DV.sum(axis=1)
    return (ups_DV * below_DV).sum(axis=1)[pairs_D > 0] / pairs_D[pairs_D > 0]


def _area(values: np.ndarray, positive: np.ndarray) -> float:
    """Mann and Whitney's U over the number of pairs, from mean ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    ups = int(positive.sum())
    u = ranks[positive].sum() - ups * (ups + 1) / 2
    return float(u / (ups * (len(values) - ups)))


def bleu(candidates: Sequence[str], references: Sequence[str]) -> tuple[float, str]:
    """Corpus BLEU (0-100) of code against one reference each, and sacrebleu's signature."""
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(tokenize="13a")
    score = metric.corpus_score(list(candidates), [list(references)])
    return float(score.score), str(metric.get_signature())


def _bootstrap_means(data: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    size = len(data)
    return np.concatenate(
        [data[rng.integers(size, size=(1000, size))].mean(axis=1) for _ in range(DRAWS // 1000)]
    )


def _wilson(mean: float, count: int) -> Interval:
    """Wilson's interval for a mean of 0 or 1, where one end is the mean itself."""
    reach = Z95**2 / (count + Z95**2)
    return Interval(mean=mean, low=max(0.0, mean - reach), high=min(1.0, mean + reach))
