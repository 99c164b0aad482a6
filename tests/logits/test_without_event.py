"""Rows without an event: nothing was listed there, so they cost and teach nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from codestill.errors import LogitsError
from codestill.logits import CaptureSpec, FixedK, LogitCache, LogitWriter, Threshold, Truncation, finish
from codestill.logits.packing import NO_EVENT, decode_tails, encode_tails
from codestill.logits.rows import rows_from_top, rows_where
from codestill.losses import Distillation
from codestill.losses.chunks import Accumulator
from codestill.teachers.cached import sparse_targets

SPEC = CaptureSpec(
    teacher="t", weights="w", tokenizer="k", vocabulary=50, temperatures=(1.0,), source="answers", support=3
)
IDS = np.array([[4, 9, 0], [7, 7, 7], [1, 0, 0]])
LOG_P = np.log(np.array([[0.5, 0.25, 0.125], [0.3, 0.3, 0.3], [0.75, 0.2, 0.01]]))
PRESENT = np.array([True, False, True])
TOKENS = [3, 5, 6, 0]


@pytest.fixture(params=[Threshold(), FixedK(k=2)])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> LogitCache:
    truncation: Truncation = request.param
    with LogitWriter.open(tmp_path, SPEC.model_copy(update={"truncation": truncation})) as writer:
        name = writer.add(TOKENS, 1, rows_where(PRESENT, IDS, LOG_P, truncation))
    finish(tmp_path)
    opened = LogitCache.open(tmp_path)
    assert list(opened) == [name]
    return opened


def test_they_list_nothing_and_the_others_are_as_before(cache: LogitCache) -> None:
    (name,) = cache
    assert cache.has_event(name).tolist() == PRESENT.tolist()
    rows = cache.targets([name], 1.0)
    assert rows.log_tail_N[1] == 0 and np.isneginf(rows.log_probabilities_NK[1]).all()
    whole = rows_from_top(IDS[PRESENT], LOG_P[PRESENT], cache.manifest.truncation)
    kept = np.isfinite(rows.log_probabilities_NK)
    assert rows.ids_NK[kept].tolist() == whole.ids_E.tolist()
    assert rows.log_probabilities_NK[kept] == pytest.approx(whole.log_probabilities_E, abs=0.02)


def test_they_cost_nothing_and_have_no_gradient(cache: LogitCache) -> None:
    targets = sparse_targets(cache.targets(list(cache), 1.0), "bucket", torch.device("cpu"))
    logits_NV = torch.linspace(-3, 3, 150, dtype=torch.float64).view(3, 50)
    for row, present in enumerate(PRESENT):
        gradient_NV = logits_NV[row : row + 1].clone()
        sums = torch.zeros(3, dtype=torch.float64)
        objective = Distillation(temperature=1.0, alpha=1.0)
        labels = torch.zeros(1, dtype=torch.long)
        Accumulator(objective, sums, differentiate=True).add(gradient_NV, labels, targets.rows(row, row + 1))
        assert (float(sums[2]) > 0.01) == bool(present) == bool(gradient_NV.abs().max() > 1e-3)
        if not present:
            assert float(sums[2]) == 0 and not gradient_NV.any()


def test_no_other_row_has_their_code() -> None:
    log_tails = np.array([0.0, -1e-12, -1e-7, np.log1p(-(2.0**-24)), -1.0, -np.inf])
    codes = encode_tails(log_tails)
    assert codes[0] == NO_EVENT and (codes[1:] < NO_EVENT).all() and codes[-1] == 0
    tails, kept = decode_tails(codes)
    assert tails[0] == 0 and np.isneginf(kept[0]) and np.isfinite(kept[1:]).all()


@pytest.mark.parametrize("rule", ["renormalise", "drop", "sampled"])
def test_other_tail_rules_are_refused(rule: str, cache: LogitCache) -> None:
    with pytest.raises(LogitsError, match="positions that were not listed need a tail"):
        cache.require(1.0, rule)  # type: ignore[arg-type]


def test_other_temperatures_are_refused(cache: LogitCache) -> None:
    with pytest.raises(LogitsError, match="only at 1"):
        cache.require(2.0)
    with pytest.raises(ValidationError, match="came with answers are at temperature 1"):
        CaptureSpec.model_validate(SPEC.model_dump() | {"temperatures": (1.0, 2.0), "support": 50})
