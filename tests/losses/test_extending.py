"""The divergence of docs/extending: the page's own code, checked against its formula and trained with."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.losses.cases import batch, gradients, top
from tests.support.tiny import CPU
from tests.support.worlds import examples, metrics, open_run, student

from codestill.errors import LogitsError
from codestill.losses import DIVERGENCES, Distillation
from codestill.losses.divergences import divergence
from codestill.teachers import LocalTeacherConfig
from codestill.train import TrainConfig, fit

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(autouse=True)
def hellinger() -> Iterator[None]:
    """The page's divergence, in the table for the time of a test."""
    pages = [page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("extending*.md"))]
    blocks = [block for page in pages for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL)]
    (block,) = [block for block in blocks if "DIVERGENCES[" in block]
    exec(block, {})
    yield
    del DIVERGENCES["hellinger"]


def test_equals_its_formula_and_finite_differences():
    random = torch.Generator().manual_seed(0)
    own, teacher = (torch.randn(6, 17, generator=random, dtype=torch.float64) for _ in range(2))
    own.requires_grad_()
    p, q = (teacher / 2).softmax(-1), (own / 2).softmax(-1)
    found = divergence("hellinger", own, teacher, 2.0)
    torch.testing.assert_close(found, 1 - (p * q).sqrt().sum(-1))
    assert ((found > 0) & (found < 1)).all()
    assert torch.autograd.gradcheck(lambda x: divergence("hellinger", x, teacher, 2.0), (own,))
    far = [torch.tensor(x) for x in ([[0.0, -torch.inf]], [[-torch.inf, 0.0]])]
    assert divergence("hellinger", far[0], far[1]).item() == 1


def test_every_form_of_the_loss_takes_it():
    objective, data = Distillation(divergence="hellinger", alpha=1.0), batch(dtype=torch.float64)
    whole = gradients(objective, data, data.teacher)
    every_token = gradients(objective, data, top(data, 23, 2.0))
    for dense, sparse in zip(whole, every_token, strict=True):  # each third row puts one token in the bucket
        torch.testing.assert_close(dense, sparse, rtol=1e-6, atol=1e-9)
    for rule in ("bucket", "renormalise", "drop"):
        assert gradients(objective, data, top(data, 4, 2.0, rule))[1].isfinite().all()
    with pytest.raises(LogitsError, match="hellinger cannot be taken with the tail rule sampled"):
        gradients(objective, data, top(data, 4, 2.0, "sampled"))


def test_a_student_trains_with_it(tmp_path: Path):
    teacher = LocalTeacherConfig(model="pocket", dtype="float32").build(CPU)
    objective = Distillation.model_validate({"divergence": "hellinger", "alpha": 1.0, "temperature": 1.0})
    steps = TrainConfig(
        max_steps=4, batch_tokens=400, accumulation=1, precision="float32", learning_rate=1e-3
    )
    with open_run(tmp_path) as run:
        fit(student(), examples(4), objective, steps, run, teacher=teacher)
    values = [float(event.metrics["divergence"] or 0) for event in metrics(tmp_path)]
    assert 0 < values[-1] < values[0] < 1
