"""The loss from hidden states and a head, and from sparse targets: equal to plain dense formulas."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.losses.cases import (
    RULES,
    AnyObjective,
    Batch,
    allowed,
    batch,
    every_objective,
    formula,
    gradients,
    top,
)
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from codestill.errors import LogitsError, VocabularyError
from codestill.losses import CrossEntropy, Distillation
from codestill.losses.batch import LossOptions
from codestill.losses.compute import compute
from codestill.losses.linear import linear_loss
from codestill.losses.targets import LinearTeacher, SparseTargets
from codestill.types import TailRule


def dense_gradients(objective: AnyObjective, data: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """With whole logits and autograd alone."""
    hidden, head = (x.clone().requires_grad_() for x in (data.hidden, data.head))
    valid = (data.labels[:, 1:] != -100).flatten()
    student = (hidden @ head.T)[:, :-1].flatten(0, 1)[valid]
    teacher = (data.teacher.hidden_BTD @ data.teacher.head_VD.T)[:, :-1].flatten(0, 1)[valid]
    loss = functional.cross_entropy(student, data.labels[:, 1:].flatten()[valid])
    if isinstance(objective, Distillation):
        distance = plain(objective, teacher, student).mean()
        loss = objective.alpha * objective.temperature**2 * distance + (1 - objective.alpha) * loss
    loss.backward()
    assert hidden.grad is not None and head.grad is not None
    return loss.detach(), hidden.grad, head.grad


def plain(objective: Distillation, teacher: Tensor, student: Tensor) -> Tensor:
    p, q = ((x / objective.temperature).softmax(-1) for x in (teacher, student))
    return formula(objective.divergence, objective.parameters, p, q)


@every_objective
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    B=st.integers(1, 4),
    T=st.integers(2, 12),
    V=st.integers(2, 60),
    D=st.integers(1, 20),
    chunk_tokens=st.one_of(st.none(), st.integers(1, 40)),
)
def test_equals_whole_logits_element_by_element(
    objective: AnyObjective, seed: int, B: int, T: int, V: int, D: int, chunk_tokens: int | None
):
    data = batch(seed, B, T, V, D)
    data.labels[0, -1] = 0  # at least one is scored
    for mine, theirs in zip(
        gradients(objective, data, data.teacher, chunk_tokens=chunk_tokens),
        dense_gradients(objective, data),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


@every_objective
def test_in_float64_to_twelve_digits(objective: AnyObjective):
    data = batch(dtype=torch.float64)
    for mine, theirs in zip(
        gradients(objective, data, data.teacher, chunk_tokens=4),
        dense_gradients(objective, data),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-13)


def sparse_reference(objective: Distillation, data: Batch, targets: SparseTargets) -> tuple[Tensor, ...]:
    """Row by row over named outcomes, with autograd."""
    hidden, head = (x.clone().requires_grad_() for x in (data.hidden, data.head))
    valid = (data.labels[:, 1:] != -100).flatten()
    student = (hidden @ head.T)[:, :-1].flatten(0, 1)[valid]
    cross_entropy = functional.cross_entropy(student, data.labels[:, 1:].flatten()[valid])
    distances = []
    for row, logits in enumerate(student):
        q = (logits / targets.temperature).softmax(-1)
        listed = {
            int(i): float(v.exp())
            for i, v in zip(targets.ids_NK[row], targets.log_probabilities_NK[row], strict=True)
            if v > -math.inf
        }
        tail = float(targets.log_tail_N[row].exp())
        ps, qs = list(listed.values()), [q[i] for i in listed]
        rest = sum((q[i] for i in range(len(q)) if i not in listed), torch.zeros(()))
        if targets.rule == "renormalise":
            ps = [p / sum(ps) for p in ps] + [0.0]
            qs.append(rest)
        elif targets.rule == "bucket":
            ps.append(tail)
            qs.append(rest)
        elif targets.rule == "sampled":
            assert targets.samples_NM is not None
            ids = targets.samples_NM[row].tolist()
            ps += [tail / len(ids)] * len(ids)
            qs += [q[i] for i in ids]
        p_, q_ = torch.tensor(ps, dtype=q.dtype), torch.stack(qs)
        distances.append(formula(objective.divergence, objective.parameters, p_, q_))
    distance = torch.stack(distances).mean()
    loss = objective.alpha * objective.temperature**2 * distance + (1 - objective.alpha) * cross_entropy
    loss.backward()
    assert hidden.grad is not None and head.grad is not None
    return loss.detach(), hidden.grad, head.grad


@pytest.mark.parametrize("rule", RULES)
@every_objective
def test_sparse_targets_equal_their_outcomes(objective: AnyObjective, rule: TailRule):
    if not isinstance(objective, Distillation) or objective.alpha == 0 or not allowed(objective, rule):
        return
    data = batch(dtype=torch.float64)
    targets = top(data, 4, objective.temperature, rule)
    for mine, theirs in zip(
        gradients(objective, data, targets, chunk_tokens=5),
        sparse_reference(objective, data, targets),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-11)


@every_objective
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), V=st.integers(3, 40))
def test_targets_that_list_everything_are_the_teacher(objective: AnyObjective, seed: int, V: int):
    """Whatever the rule says about a rest that is not there."""
    data = batch(seed, V=V)
    data.labels[0, -1] = 0
    temperature = objective.temperature if isinstance(objective, Distillation) else 1.0
    valid = (data.labels[:, 1:] != -100).flatten()
    logits = (data.teacher.hidden_BTD @ data.teacher.head_VD.T)[:, :-1].flatten(0, 1)[valid]
    log_p, ids = (logits / temperature).log_softmax(-1).sort(descending=True)
    nothing = torch.full((len(ids),), -math.inf)
    wanted = gradients(objective, data, data.teacher)
    for rule in ("bucket", "drop"):
        targets = SparseTargets(ids, log_p, nothing, temperature, rule)
        for mine, theirs in zip(gradients(objective, data, targets), wanted, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_samples_of_the_tail_are_without_bias():
    """The mean over many draws is the dense gradient; the bucket's is another."""
    objective, data = Distillation(alpha=1.0, temperature=2.0), batch(dtype=torch.float64)
    wanted = gradients(objective, data, data.teacher)[1]
    drawn = [gradients(objective, data, top(data, 2, 2.0, "sampled", seed))[1] for seed in range(600)]
    mean, spread = torch.stack(drawn).mean(0), torch.stack(drawn).std(0) / math.sqrt(len(drawn))
    assert ((mean - wanted).abs() <= 5 * spread + 1e-9).all()
    bucket = gradients(objective, data, top(data, 2, 2.0, "bucket"))[1]
    assert (bucket - wanted).abs().max() > 10 * spread.max()


@every_objective
def test_logits_and_linear_agree_on_sparse_targets(objective: AnyObjective):
    data = batch()
    temperature = objective.temperature if isinstance(objective, Distillation) else 1.0
    targets = top(data, 3, temperature)
    logits = (data.hidden @ data.head.T).requires_grad_()
    whole = compute(objective, logits, data.labels, targets)
    whole.total.backward()
    total, of_hidden, _ = gradients(objective, data, targets)
    assert logits.grad is not None
    torch.testing.assert_close(total, whole.total.detach())
    torch.testing.assert_close(of_hidden, logits.grad @ data.head, rtol=1e-5, atol=1e-6)


@every_objective
def test_widths_that_differ_only_by_padding(objective: AnyObjective):
    data = batch(V=23)
    wanted = gradients(objective, data, data.teacher)
    padded = Batch(
        data.hidden,
        functional.pad(data.head, (0, 0, 0, 3), value=9.0),
        data.labels,
        LinearTeacher(data.teacher.hidden_BTD, functional.pad(data.teacher.head_VD, (0, 0, 0, 5), value=9.0)),
    )
    total, hidden, head = gradients(objective, padded, padded.teacher, vocabulary=23)
    for mine, theirs in zip((total, hidden, head[:23]), wanted, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert (head[23:] == 0).all()


@every_objective
def test_bfloat16_products_with_float32_between(objective: AnyObjective):
    data = batch(V=40, D=32)
    half = Batch(
        data.hidden.bfloat16(),
        data.head.bfloat16(),
        data.labels,
        LinearTeacher(data.teacher.hidden_BTD.bfloat16(), data.teacher.head_VD.bfloat16()),
    )
    wide = Batch(
        half.hidden.float(),
        half.head.float(),
        half.labels,
        LinearTeacher(half.teacher.hidden_BTD.float(), half.teacher.head_VD.float()),
    )
    found = gradients(objective, half, half.teacher)
    assert found[0].dtype == torch.float32 and found[1].dtype == found[2].dtype == torch.bfloat16
    for mine, theirs in zip(found, gradients(objective, wide, wide.teacher), strict=True):
        assert (mine.float() - theirs).norm() <= 2e-2 * theirs.norm()


def test_under_autocast_the_head_keeps_its_precision():
    data = batch()
    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(
            Distillation(), Batch(data.hidden.bfloat16(), data.head, data.labels, data.teacher), data.teacher
        )
    assert found[1].dtype == torch.bfloat16 and found[2].dtype == torch.float32


def test_a_tied_head_under_checkpointing_and_compile_gets_the_gradient_of_both_uses():
    """Embedding and head are one matrix; the body runs again in the backward pass."""
    data = batch(V=23, D=7)
    ids = data.labels.clamp(min=0)

    def gradient(recompute: bool, compiled: bool) -> Tensor:
        matrix = data.head.clone().requires_grad_()

        def body(x: Tensor) -> Tensor:
            return torch.tanh(x.cumsum(dim=1))

        def whole() -> Tensor:
            embedded = matrix[ids]
            hidden = checkpoint(body, embedded, use_reentrant=False) if recompute else body(embedded)
            return linear_loss(Distillation(), hidden, matrix, data.labels, data.teacher).total  # type: ignore[arg-type]

        (torch.compile(whole, backend="aot_eager") if compiled else whole)().backward()
        assert matrix.grad is not None
        return matrix.grad

    matrix = data.head.clone().requires_grad_()
    logits = torch.tanh(matrix[ids].cumsum(dim=1)) @ matrix.T
    dense = data.teacher.hidden_BTD @ data.teacher.head_VD.T
    compute(Distillation(), logits, data.labels, dense).total.backward()
    assert matrix.grad is not None
    for recompute, compiled in ((False, False), (True, False), (False, True)):
        torch.testing.assert_close(gradient(recompute, compiled), matrix.grad, rtol=1e-5, atol=1e-6)


def test_a_second_backward_is_refused():
    data = batch()
    total = linear_loss(CrossEntropy(), data.hidden.requires_grad_(), data.head, data.labels).total
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


@every_objective
def test_no_tensor_of_positions_by_vocabulary_is_made(objective: AnyObjective):
    data = batch(B=2, T=60, V=97, D=5)
    data.hidden.requires_grad_()
    data.head.requires_grad_()
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, tuple | list) else [result]:
                if isinstance(tensor, Tensor):
                    largest = max(largest, tensor.untyped_storage().nbytes())
            return result

    with Watch():
        linear_loss(
            objective, data.hidden, data.head, data.labels, data.teacher, LossOptions(chunk_tokens=4)
        ).total.backward()
    # a chunk, hidden states, or a head; whole logits would be 2 * 60 * 97 * 4 bytes
    assert largest <= max(4 * 97, 2 * 60 * 7, 97 * 7) * 4


def test_what_needs_no_gradient_gets_none():
    data = batch()
    loss = linear_loss(Distillation(), data.hidden, data.head.requires_grad_(), data.labels, data.teacher)
    loss.total.backward()
    assert data.hidden.grad is None and data.head.grad is not None
    data.teacher.head_VD.requires_grad_()
    with torch.no_grad():
        assert not linear_loss(
            Distillation(), data.hidden, data.head, data.labels, data.teacher
        ).total.requires_grad
    empty = torch.full_like(data.labels, -100)
    total = linear_loss(Distillation(), data.hidden, data.head, empty, data.teacher).total
    total.backward()
    assert total.item() == 0 and data.teacher.head_VD.grad is None


def test_refuses_what_cannot_be_computed():
    data = batch(V=23)
    arguments = (data.hidden, data.head, data.labels)
    with pytest.raises(LogitsError, match="no teacher logits"):
        linear_loss(Distillation(), *arguments)
    with pytest.raises(VocabularyError, match=r"student has 23 .* teacher 20"):
        linear_loss(
            Distillation(), *arguments, LinearTeacher(data.teacher.hidden_BTD, data.teacher.head_VD[:20])
        )
    with pytest.raises(LogitsError, match=r"at temperature 1, the objective's is 2"):
        linear_loss(Distillation(), *arguments, top(data, 3, 1.0))
    targets = top(data, 3, 2.0)
    with pytest.raises(LogitsError, match="for 4 positions, and the labels score"):
        linear_loss(Distillation(), *arguments, targets.rows(0, 4))
    with pytest.raises(LogitsError, match="unbiased only where"):
        linear_loss(Distillation(divergence="skew_kl"), *arguments, top(data, 3, 2.0, "sampled"))
    with pytest.raises(LogitsError, match="infinite where the teacher"):
        linear_loss(Distillation(divergence="reverse_kl"), *arguments, top(data, 3, 2.0, "renormalise"))
    with pytest.raises(LogitsError, match="hold no samples"):
        SparseTargets(targets.ids_NK, targets.log_probabilities_NK, targets.log_tail_N, 2.0, "sampled")
    targets.ids_NK[0, 0] = 22
    data.labels[data.labels > 19] = 3
    with pytest.raises(VocabularyError, match="sparse target is token 22"):
        linear_loss(Distillation(), *arguments, targets, LossOptions(vocabulary=20))
