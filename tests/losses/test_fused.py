"""The compiled loss is the loss: same total, same gradients, whatever is compiled."""

import shutil

import pytest
import torch
from tests.losses.cases import RULES, AnyObjective, allowed, batch, every_objective, gradients, top
from torch._dynamo.exc import TorchDynamoException

from codestill.errors import ConfigError
from codestill.losses import CrossEntropy, Distillation, chunks
from codestill.types import TailRule

compiler = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler here"
)


@pytest.fixture(autouse=True)
def nothing_compiled_before():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def assert_same(objective: AnyObjective, V: int = 41) -> None:
    """For every kind of teacher that the objective takes."""
    data = batch(V=V)
    teachers = [data.teacher]
    if isinstance(objective, Distillation) and objective.alpha:
        rules: list[TailRule] = [rule for rule in RULES if allowed(objective, rule)]
        teachers += [top(data, 4, objective.temperature, rule) for rule in rules]
    for teacher in teachers:
        for mine, theirs in zip(
            gradients(objective, data, teacher, chunk_tokens=4, fused=True),
            gradients(objective, data, teacher, chunk_tokens=4),
            strict=True,
        ):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@every_objective
def test_every_objective_is_one_graph_and_gives_the_same(objective: AnyObjective, monkeypatch):
    """The graph that a compiler gets, run as it stands; ``fullgraph`` refuses to leave it."""
    traced = torch.compile(chunks._add_block, dynamic=True, fullgraph=True, backend="aot_eager")
    monkeypatch.setattr(chunks, "_compiled", lambda: traced)
    assert_same(objective)


@compiler
@pytest.mark.parametrize(
    "objective", [CrossEntropy(), Distillation(divergence="generalized_jsd", alpha=0.7)], ids=lambda o: o.type
)
def test_compiled_for_this_machine_it_gives_the_same(objective: AnyObjective):
    assert_same(objective)


def test_what_cannot_be_compiled_says_so(monkeypatch):
    def broken(*_):
        raise TorchDynamoException("no compiler is installed\nand more")

    monkeypatch.setattr(chunks, "_compiled", lambda: broken)
    with pytest.raises(ConfigError, match="could not be compiled: no compiler is installed") as caught:
        assert_same(CrossEntropy())
    assert "fused_loss" in caught.value.next_step
