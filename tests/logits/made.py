"""CapturedRows and sequences for the tests, without torch: child processes start fast."""

import numpy as np
from numpy.typing import NDArray

from codestill.logits import CapturedRows, CaptureSpec, LogitWriter, Mass, Threshold, Truncation

SPEC = CaptureSpec(
    teacher="maker",
    revision="main",
    weights="00ff",
    tokenizer="aa11",
    template="bb22",
    vocabulary=1000,
    temperatures=(1.0, 2.0),
    truncation=Threshold(min_probability=1e-3, max_k=20),
    tail_samples=2,
)


def log_softmax(logits_NV: NDArray[np.floating]) -> NDArray[np.float64]:
    wide = logits_NV - logits_NV.max(axis=1, keepdims=True).astype(np.float64)
    return wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))


def plain_count(p: list[float], rule: Truncation) -> int:
    """How many of the descending probabilities ``p`` are kept."""
    count = 1
    while count < min(rule.max_k, len(p)) and p[count] > 0:
        if isinstance(rule, Threshold) and p[count] <= rule.min_probability:
            break
        if isinstance(rule, Mass) and sum(p[:count]) >= rule.mass:
            break
        count += 1
    return count


def plain_rows(logits_NV: NDArray[np.floating], spec: CaptureSpec, seed: int = 0) -> CapturedRows:
    """One row at a time, as the words of the truncation rules say."""
    random = np.random.default_rng(seed)
    counts, ids, values, tails, samples = [], [], [], [], []
    for logits in logits_NV[:, : spec.vocabulary].astype(np.float64):
        log_p = log_softmax(logits[None])[0]
        order = np.argsort(-log_p, kind="stable")
        count = plain_count(np.exp(log_p[order]).tolist(), spec.truncation)
        kept, rest = order[:count], order[count:]
        counts.append(count)
        ids.append(kept)
        values.append(log_p[kept])
        tails.append([])
        samples.append([])
        for temperature in spec.temperatures:
            p = np.exp(log_softmax(logits[None] / temperature)[0])
            with np.errstate(divide="ignore"):
                tails[-1].append(np.log(p[rest].sum()))
            chance = p[rest] / p[rest].sum() if p[rest].sum() > 0 else None
            drawn = random.choice(rest, spec.tail_samples, p=chance) if chance is not None else [0]
            samples[-1].append(np.resize(drawn, spec.tail_samples))
    return CapturedRows(
        np.array(counts),
        np.concatenate(ids),
        np.concatenate(values).astype(np.float32),
        np.array(tails, dtype=np.float32),
        np.array(samples, dtype=np.int64).reshape(len(counts), len(spec.temperatures), spec.tail_samples),
    )


def random_logits(rows: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    """From nearly uniform to nearly one-hot."""
    random = np.random.default_rng(seed)
    sharpness = np.linspace(0.05, 8, rows)[:, None]
    return (random.standard_normal((rows, width)) * sharpness).astype(np.float32)


def sequences(
    count: int, spec: CaptureSpec = SPEC, seed: int = 0
) -> list[tuple[list[int], int, CapturedRows]]:
    """(tokens, prompt length, rows) of different lengths; the first is all prompt, the second has none."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        length = int(random.integers(4, 12))
        prompt = {0: length, 1: 0}.get(number, int(random.integers(0, length)))
        tokens = random.integers(0, spec.vocabulary, length).tolist()
        scored = length - max(prompt, 1)
        rows = plain_rows(random_logits(max(scored, 1), spec.vocabulary, number), spec, number)
        made.append((tokens, prompt, next(rows.split([scored]))))
    return made


def fill(directory, items, spec: CaptureSpec = SPEC, part: int = 0, shard_tokens: int = 20) -> None:
    with LogitWriter.open(directory, spec, part, shard_tokens) as writer:
        for tokens, prompt, rows in items:
            writer.add(tokens, prompt, rows)


def contents(directory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}
