"""Scores and their uncertainty: unbiased pass@k, intervals over tasks, paired differences, BLEU."""

import math
from collections.abc import Sequence

import numpy as np

from codestill.types import Interval

DRAWS = 10_000
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


def interval(values: Sequence[float], seed: int = 0) -> Interval:
    """Mean of one value per task with its 95% percentile-bootstrap interval over tasks.

    Where every task has the same 0 or 1 a bootstrap sees no spread; Wilson's interval is used.
    """
    if not values:
        raise ValueError("an interval needs at least one task")
    data = np.asarray(values, dtype=float)
    mean = float(data.mean())
    if data.min() == data.max() and mean in (0.0, 1.0):
        return _wilson(mean, len(data))
    rng = np.random.default_rng(seed)
    draws = _bootstrap_means(data, rng)
    low, high = np.quantile(draws, (0.025, 0.975))
    return Interval(mean=mean, low=float(low), high=float(high))


def interval_over_seeds(values_ST: Sequence[Sequence[float]], seed: int = 0) -> Interval:
    """Mean score with its 95% interval over training seeds (rows) and tasks (columns).

    Each bootstrap draw resamples seeds and tasks, both with replacement; as :func:`interval` where every
    value is the same 0 or 1.
    """
    data_ST = np.asarray(values_ST, dtype=float)
    if data_ST.min() == data_ST.max() and data_ST.min() in (0.0, 1.0):
        return _wilson(float(data_ST.min()), data_ST.shape[1])
    return _over_seeds(data_ST, seed)


def paired_difference(
    a_ST: Sequence[Sequence[float]], b_ST: Sequence[Sequence[float]], seed: int = 0
) -> Interval:
    """``a - b`` with its 95% bootstrap interval; every draw keeps the pairs of seed and task together.

    Raises ValueError when the two do not have the same seeds and tasks.
    """
    a, b = np.asarray(a_ST, dtype=float), np.asarray(b_ST, dtype=float)
    if a.shape != b.shape:
        raise ValueError(f"scores of shape {a.shape} and {b.shape} (seeds, tasks) are no pairs")
    return _over_seeds(a - b, seed)


def _over_seeds(data_ST: np.ndarray, seed: int) -> Interval:
    seeds, tasks = data_ST.shape
    rng = np.random.default_rng(seed)
    means = np.empty(DRAWS)
    for draw in range(DRAWS):
        rows = data_ST[rng.integers(seeds, size=seeds)].mean(axis=0)
        means[draw] = rows[rng.integers(tasks, size=tasks)].mean()
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(mean=float(data_ST.mean()), low=float(low), high=float(high))


def auroc(scores: Sequence[float], labels: Sequence[bool], seed: int = 0) -> Interval:
    """Probability that a positive is scored above a negative, ties counted half, with its 95% bootstrap
    interval over the pairs of score and label.

    Raises ValueError where all labels are the same.
    """
    values, positive = np.asarray(scores, dtype=float), np.asarray(labels, dtype=bool)
    if positive.all() or not positive.any():
        raise ValueError("an AUROC needs positives and negatives")
    rng = np.random.default_rng(seed)
    draws = []
    while len(draws) < DRAWS // 10:
        rows = rng.integers(len(values), size=len(values))
        if positive[rows].any() and not positive[rows].all():
            draws.append(_area(values[rows], positive[rows]))
    low, high = np.quantile(draws, (0.025, 0.975))
    return Interval(mean=_area(values, positive), low=float(low), high=float(high))


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
