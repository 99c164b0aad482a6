"""Speculative decoding: its text is the target's, and its passes are as many as expected."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from tests.support.tiny import tiny_model
from torch import Tensor

from codestill.evaluation.speculative import (
    ModelReader,
    acceptances,
    distribution,
    draw,
    expected_passes,
    independent_tokens,
    one_pass,
    residual,
    speculate,
)
from codestill.models import Decoding, SamplingConfig, load_student
from codestill.models.rows import Finish, Row
from codestill.types import Request

P = [[0.6, 0.3, 0.1], [0.2, 0.2, 0.6], [1 / 3, 1 / 3, 1 / 3]]
Q = [[0.3, 0.3, 0.4], [0.5, 0.0, 0.5], [0.1, 0.8, 0.1]]
ALPHA = [0.7, 0.7, 0.1 + 1 / 3 + 0.1]
"""sum min(p, q) of each row, by hand."""


class Chain:
    """A model whose next token depends on the last one alone."""

    def __init__(self, rows: Sequence[Sequence[float]]) -> None:
        self.logits_VV = torch.tensor(rows, dtype=torch.float64).log()

    def after(self, ids: Sequence[int], last: int) -> Tensor:
        return self.logits_VV[list(ids[-last:])]


def row(length: int) -> Row:
    decoding = Decoding(SamplingConfig(max_new_tokens=length))
    return Row(Request(task_id="t", prompt=""), prompt=(0,), room=length, decoding=decoding)


def full(row: Row) -> Finish | None:
    return "length" if len(row.tokens) == row.room else None


def stream(seed: int) -> Iterator[float]:
    return iter(np.random.default_rng(seed).random, None)


def test_an_accepted_token_or_a_residual_one_is_the_targets() -> None:
    for p_V, q_V in zip(torch.tensor(P), torch.tensor(Q), strict=True):
        accepted_V = torch.minimum(p_V, q_V)
        left_V = residual(p_V, q_V)
        mixed_V = accepted_V + (1 - accepted_V.sum()) * left_V / left_V.sum()
        assert torch.allclose(mixed_V, p_V, atol=1e-7)
    assert torch.equal(residual(torch.tensor(P[0]), torch.tensor(P[0])), torch.tensor(P[0]))


@pytest.mark.parametrize("length", [0, 1, 3])
def test_texts_are_distributed_as_the_targets(length: int) -> None:
    target, draft, uniforms = Chain(P), Chain(Q), stream(7)
    seen: Counter[tuple[int, ...]] = Counter()
    for _ in range(2500):
        text = row(3)
        speculate(target, draft, text, length, 1.0, uniforms, full)
        seen[tuple(text.tokens)] += 1
    texts = list(itertools.product(range(3), repeat=3))
    expected = [P[0][a] * P[a][b] * P[b][c] for a, b, c in texts]
    found = chisquare([seen[text] for text in texts], [2500 * share for share in expected])
    assert found.pvalue > 0.001


def test_acceptance_is_the_overlap_of_the_distributions() -> None:
    tokens = [1, 2, 1, 0]
    accepted, given = acceptances(Chain(P), Chain(Q), [0], tokens, 1.0)
    assert accepted == pytest.approx([ALPHA[0], ALPHA[1], ALPHA[2], ALPHA[1]])
    pairs = zip([0, *tokens[:-1]], tokens, strict=True)
    assert given == pytest.approx([min(1, Q[before][token] / P[before][token]) for before, token in pairs])
    halved = [row_V.tolist() for row_V in torch.tensor(P).sqrt()]  # temperature 2
    again = acceptances(Chain(halved), Chain([[q**0.5 for q in row_V] for row_V in Q]), [0], tokens, 0.5)[0]
    assert again == pytest.approx(accepted)


def test_greedy_acceptance_is_agreement() -> None:
    accepted, given = acceptances(Chain(P), Chain(Q), [1], [2, 0, 0], 0.0)
    assert (
        accepted == given == [0.0, 0.0, 0.0]
    )  # the first of equal ones: token 0 after 1, 1 after 2, 2 after 0
    assert acceptances(Chain(P), Chain(P), [1], [2, 0, 0], 0.0)[0] == [1.0, 1.0, 1.0]
    assert distribution(torch.tensor([[1.0, 3.0, 3.0]]), 0).tolist() == [[0.0, 1.0, 0.0]]


def test_a_token_without_probability_is_never_drawn() -> None:
    weights_V = torch.tensor([0.0, 0.5, 0.0, 0.5, 0.0])
    drawn = {draw(weights_V, uniform) for uniform in (0.0, 0.25, 0.499999, 0.5, 1 - 2**-53)}
    assert drawn == {1, 3}


def over_all_texts(length: int, room: int) -> float:
    """Expected passes for texts of ``room`` tokens, over every text of the target."""
    passes = 0.0
    for text in itertools.product(range(3), repeat=room):
        pairs = list(zip((0, *text[:-1]), text, strict=True))
        share = float(np.prod([P[a][b] for a, b in pairs]))
        passes += share * expected_passes([min(1, Q[a][b] / P[a][b]) for a, b in pairs], length)
    return passes


@pytest.mark.parametrize("length", [1, 2, 4])
def test_expected_passes_are_those_that_are_run(length: int) -> None:
    room = 7
    target, draft, uniforms = Chain(P), Chain(Q), stream(3)
    counts = [speculate(target, draft, row(room), length, 1.0, uniforms, full).passes for _ in range(1500)]
    error = np.std(counts) / len(counts) ** 0.5
    assert abs(np.mean(counts) - over_all_texts(length, room)) < 3.5 * error


def test_expected_passes_of_known_texts() -> None:
    assert expected_passes([1.0] * 10, 4) == 2
    assert expected_passes([0.0] * 10, 4) == 10
    assert expected_passes([0.5] * 3, 0) == 3
    # Two tokens, one drafted: the pass ends with the second if the first was accepted.
    assert expected_passes([0.3, 0.9], 1) == pytest.approx(1 + 0.7)
    # The hard token costs passes, which a product of mean rates would not see.
    assert expected_passes([1, 1, 1, 0, 1, 1, 1, 0], 3) == 2
    assert expected_passes([0, 1, 1, 1, 0, 1, 1, 1], 3) == 3
    assert expected_passes([0, 1, 1, 0, 0, 1, 1, 0], 3) == 4


def test_independent_tokens() -> None:
    assert independent_tokens(1.0, 5) == 6
    assert independent_tokens(0.0, 5) == 1
    assert independent_tokens(0.8, 3) == pytest.approx(1 + 0.8 + 0.64 + 0.512)
    uniform = [0.8] * 20_000
    assert len(uniform) / expected_passes(uniform, 3) == pytest.approx(independent_tokens(0.8, 3), rel=1e-3)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2", "starcoder2"])
def test_a_reader_keeps_what_texts_share(kind: str, tmp_path: Path) -> None:
    model = load_student(str(tiny_model(tmp_path / kind, kind))).model
    reader = ModelReader(model, 300)
    texts = [[5, 6, 7, 8, 9], [5, 6, 7, 8, 9, 10, 11], [5, 6, 7, 1], [5, 6, 7, 1], [2, 6]]
    for text, last in zip(texts, (1, 3, 1, 4, 2), strict=True):
        with torch.no_grad():
            whole_TV = model(torch.tensor([text])).logits[0, -last:, :300]
        assert torch.allclose(reader.after(text, last), whole_TV, atol=1e-4)
    reader.cuts = False
    assert torch.allclose(reader.after(texts[0], 1), ModelReader(model, 300).after(texts[0], 1), atol=1e-4)


def test_an_identical_draft_is_always_accepted() -> None:
    tokens = one_pass(Chain(P), Chain(P), [0], 6, 1.0, stream(1))
    assert len(tokens) == 7
    text = row(21)
    assert speculate(Chain(P), Chain(P), text, 6, 1.0, stream(1), full).passes == 3
