"""The loss of a batch: equal to the plain form, however it is padded, split or chunked."""

import inspect
import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.losses.cases import AnyObjective, every_objective
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from codestill.errors import LogitsError, VocabularyError
from codestill.losses import CrossEntropy, Distillation
from codestill.losses import compute as module
from codestill.losses.batch import LossOptions, count_tokens
from codestill.losses.divergences import divergence


class Batch(NamedTuple):
    student: Tensor
    labels: Tensor
    teacher: Tensor


def batch(seed: int = 0, B: int = 3, T: int = 11, V: int = 23, dtype: torch.dtype = torch.float32) -> Batch:
    """Logits, and labels with a prompt of 2 to 4 tokens and up to 3 pads."""
    random = torch.Generator().manual_seed(seed)
    student, teacher = (3 * torch.randn(B, T, V, generator=random, dtype=dtype) for _ in range(2))
    labels = torch.randint(V, (B, T), generator=random)
    for row in range(B):
        labels[row, : 2 + row % 3] = -100
        labels[row, T - row % 4 :] = -100
    return Batch(student, labels, teacher)


def plain_loss(
    objective: AnyObjective, student_BTV: Tensor, labels_BT: Tensor, teacher_BTV: Tensor
) -> Tensor:
    """The mean over valid tokens with dense tensors and autograd alone."""
    V = student_BTV.shape[-1]
    valid = (labels_BT[:, 1:] != -100).flatten()
    student, teacher = (x[:, :-1].reshape(-1, V) for x in (student_BTV, teacher_BTV))
    target = labels_BT[:, 1:].flatten()
    loss = functional.cross_entropy(student, target, ignore_index=-100, reduction="none")
    if isinstance(objective, Distillation):
        settings = objective.temperature, objective.parameters
        distance = divergence(objective.divergence, student, teacher, settings[0], **settings[1])
        loss = objective.alpha * objective.temperature**2 * distance + (1 - objective.alpha) * loss
    return loss[valid].sum() / valid.sum()


def value_and_gradient(objective: AnyObjective, data: Batch, **options) -> tuple[Tensor, Tensor]:
    student = data.student.clone().requires_grad_()
    loss = module.compute(objective, student, data.labels, data.teacher, LossOptions(**options))
    loss.total.backward()
    assert student.grad is not None
    return loss.total.detach(), student.grad


@every_objective
@pytest.mark.parametrize("chunk_tokens", [1, 4, 1000, None])
def test_equals_the_plain_form(objective: AnyObjective, chunk_tokens: int | None):
    data = batch()
    total, gradient = value_and_gradient(objective, data, chunk_tokens=chunk_tokens)
    student = data.student.clone().requires_grad_()
    plain = plain_loss(objective, student, data.labels, data.teacher)
    plain.backward()
    torch.testing.assert_close(total, plain.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, student.grad, rtol=1e-5, atol=1e-7)


@every_objective
def test_gradient_equals_finite_differences(objective: AnyObjective):
    student, labels, teacher = batch(B=2, T=5, V=4, dtype=torch.float64)
    labels[:, 2:4] = 1
    student.requires_grad_()

    def scaled(x: Tensor) -> Tensor:  # as a loss scaler or gradient accumulation would
        return 0.25 * module.compute(objective, x, labels, teacher, LossOptions(chunk_tokens=2)).total

    assert torch.autograd.gradcheck(scaled, (student,))


def test_equals_torch_by_hand():
    """One sequence, its last three tokens the completion: HF's shift, Hinton's loss."""
    student, _, teacher = batch(B=1, T=6, V=23)
    ids = torch.tensor([[3, 1, 4, 1, 5, 9]])
    labels = ids.masked_fill(torch.arange(6) < 3, -100)
    loss = module.compute(Distillation(temperature=2.0, alpha=0.3), student, labels, teacher)
    scored = student[0, 2:5]
    cross_entropy = functional.cross_entropy(scored, ids[0, 3:], reduction="sum")
    distance = functional.kl_div(
        (scored / 2).log_softmax(-1), (teacher[0, 2:5] / 2).softmax(-1), reduction="sum"
    )
    torch.testing.assert_close(loss.parts["cross_entropy"], cross_entropy)
    torch.testing.assert_close(loss.parts["divergence"], distance)
    assert loss.parts["tokens"].item() == count_tokens(labels).item() == 3
    torch.testing.assert_close(loss.total, (0.3 * 4 * distance + 0.7 * cross_entropy) / 3)


def test_alpha_ends_are_the_terms():
    data = batch()
    for chunk_tokens in (1, 1000):
        plain = value_and_gradient(CrossEntropy(), data, chunk_tokens=chunk_tokens)
        none = value_and_gradient(Distillation(alpha=0.0), data, chunk_tokens=chunk_tokens)
        assert torch.equal(plain[0], none[0])
        assert torch.equal(plain[1], none[1])
    only = module.compute(Distillation(alpha=1.0, temperature=3.0), *data)
    assert only.total.item() == pytest.approx(9 * (only.parts["divergence"] / only.parts["tokens"]).item())
    without_teacher = module.compute(Distillation(alpha=0.0), *data[:2])
    assert torch.equal(without_teacher.total, module.compute(CrossEntropy(), *data[:2]).total)
    assert "divergence" not in without_teacher.parts


def test_an_infinite_divergence_of_no_weight_is_only_reported():
    student, labels, teacher = batch()
    student[..., 0] = -math.inf
    labels[labels == 0] = 1
    loss = module.compute(Distillation(alpha=0.0), student, labels, teacher)
    assert loss.parts["divergence"].item() == math.inf
    assert torch.equal(loss.total, module.compute(CrossEntropy(), student, labels).total)


@every_objective
def test_unscored_positions_get_exactly_no_gradient_and_have_no_say(objective: AnyObjective):
    data = batch()
    unscored = functional.pad(data.labels[:, 1:] == -100, (0, 1), value=True)
    total, gradient = value_and_gradient(objective, data)
    assert (gradient[unscored] == 0).all()
    assert (gradient[~unscored] != 0).any(dim=-1).all()
    for junk in (1e4, math.nan):
        student, teacher = data.student.clone(), data.teacher.clone()
        student[unscored], teacher[unscored] = junk, junk
        other_total, other_gradient = value_and_gradient(objective, Batch(student, data.labels, teacher))
        assert torch.equal(other_total, total)
        assert torch.equal(other_gradient, gradient)


@every_objective
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31), left=st.integers(0, 3), right=st.integers(0, 5))
def test_padding_changes_nothing(objective: AnyObjective, seed: int, left: int, right: int):
    data = batch(seed, T=9)
    total, gradient = value_and_gradient(objective, data)
    padded = Batch(
        functional.pad(data.student, (0, 0, left, right), value=7.0),
        functional.pad(data.labels, (left, right), value=-100),
        functional.pad(data.teacher, (0, 0, left, right), value=-7.0),
    )
    padded_total, padded_gradient = value_and_gradient(objective, padded)
    assert torch.equal(padded_total, total)
    assert torch.equal(padded_gradient[:, left : left + 9], gradient)


@every_objective
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31), sizes=st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_split_into_micro_batches_changes_nothing(objective: AnyObjective, seed: int, sizes: list[int]):
    data = batch(seed, B=sum(sizes))
    total, gradient = value_and_gradient(objective, data)
    tokens = count_tokens(data.labels)
    pieces = [Batch(*piece) for piece in zip(*(x.split(sizes) for x in data), strict=True)]
    results = [value_and_gradient(objective, piece, normalizer=tokens) for piece in pieces]
    torch.testing.assert_close(
        torch.stack([value for value, _ in results]).sum(), total, rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(torch.cat([grad for _, grad in results]), gradient, rtol=1e-5, atol=1e-8)


@every_objective
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31), chunk_tokens=st.integers(1, 40))
def test_chunk_size_changes_nothing(objective: AnyObjective, seed: int, chunk_tokens: int):
    data = batch(seed)
    total, gradient = value_and_gradient(objective, data)
    other_total, other_gradient = value_and_gradient(objective, data, chunk_tokens=chunk_tokens)
    torch.testing.assert_close(other_total, total, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(other_gradient, gradient, rtol=1e-5, atol=1e-8)


@every_objective
def test_batch_without_valid_tokens_gives_zero(objective: AnyObjective):
    data = batch()
    empty = Batch(data.student, torch.full_like(data.labels, -100), data.teacher)
    for normalizer in (None, 0, 7, torch.tensor(0)):
        total, gradient = value_and_gradient(objective, empty, normalizer=normalizer)
        assert total.item() == 0
        assert (gradient == 0).all()


@every_objective
def test_widths_that_differ_only_by_padding(objective: AnyObjective):
    """As Qwen's: one tokenizer, matrices of 152,064 and 151,936 rows."""
    data = batch(V=23)
    total, gradient = value_and_gradient(objective, data)
    wider = Batch(
        functional.pad(data.student, (0, 2), value=50.0),
        data.labels,
        functional.pad(data.teacher, (0, 5), value=50.0),
    )
    wider_total, wider_gradient = value_and_gradient(objective, wider, vocabulary=23)
    torch.testing.assert_close(wider_total, total)
    torch.testing.assert_close(wider_gradient[..., :23], gradient)
    assert (wider_gradient[..., 23:] == 0).all()


@every_objective
def test_reusing_the_students_logits(objective: AnyObjective):
    data = batch()
    labels = data.labels.clamp(max=19)
    expected = value_and_gradient(objective, Batch(data.student, labels, data.teacher), vocabulary=20)
    leaf = data.student.clone().requires_grad_()
    logits = leaf * 1.0
    options = LossOptions(vocabulary=20)
    loss = module.compute(objective, logits, labels, data.teacher, options, reuse_student_logits=True)
    loss.total.backward()
    assert leaf.grad is not None
    torch.testing.assert_close(loss.total.detach(), expected[0])
    assert torch.equal(leaf.grad, expected[1])


def test_reused_logits_that_are_needed_are_refused_by_autograd():
    student, labels, teacher = batch()
    logits = student.requires_grad_().exp()  # whose own gradient reads its result
    loss = module.compute(CrossEntropy(), logits, labels, teacher, reuse_student_logits=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.total.backward()


def test_reused_logits_allow_one_backward():
    student, labels, _ = batch()
    total = module.compute(CrossEntropy(), student.requires_grad_(), labels, reuse_student_logits=True).total
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


@every_objective
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(objective: AnyObjective, dtype: torch.dtype):
    """Computed in float32; only the stored gradient is rounded."""
    data = batch()
    half = Batch(data.student.to(dtype), data.labels, data.teacher.to(dtype))
    total, gradient = value_and_gradient(objective, half, normalizer=1)
    wide = Batch(half.student.float(), half.labels, half.teacher.float())
    wide_total, wide_gradient = value_and_gradient(objective, wide, normalizer=1)
    assert gradient.dtype == dtype
    assert torch.equal(total, wide_total)
    torch.testing.assert_close(gradient.float(), wide_gradient, rtol=1e-2, atol=1e-4)


def test_a_small_share_of_a_float16_gradient_survives_until_it_is_scaled():
    data = batch()
    half = data._replace(student=data.student.half(), teacher=data.teacher.half())
    gradients = []
    for piece, scale in ((half, 2.0**26), (data, 1.0)):
        student = piece.student.clone().requires_grad_()
        loss = module.compute(Distillation(), student, data.labels, piece.teacher, LossOptions(2**26))
        (loss.total * scale).backward()
        assert student.grad is not None
        gradients.append(student.grad.float() / scale)
    assert (gradients[1].abs() < 2.9e-8).all()  # float16 would round it to zero
    torch.testing.assert_close(*gradients, rtol=2e-2, atol=1e-10)


def test_teacher_gets_no_gradient_and_evaluation_keeps_none():
    student, labels, teacher = batch()
    teacher.requires_grad_()
    module.compute(Distillation(), student.requires_grad_(), labels, teacher).total.backward()
    assert teacher.grad is None
    before = student.detach().clone()
    with torch.no_grad():
        loss = module.compute(Distillation(), student, labels, teacher, reuse_student_logits=True)
    assert not loss.total.requires_grad
    assert torch.equal(student, before)
    assert not any(part.requires_grad for part in loss.parts.values())


def test_backward_twice_gives_the_same_gradient():
    data = batch()
    student = data.student.clone().requires_grad_()
    total = module.compute(Distillation(), student, data.labels, data.teacher).total
    first, second = (torch.autograd.grad(3 * total, student, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("reuse", [False, True])
@every_objective
def test_no_intermediate_is_larger_than_a_chunk(objective: AnyObjective, reuse: bool):
    student, labels, teacher = batch(B=2, T=40, V=97)
    student.requires_grad_()
    largest: dict[int, int] = {}  # bytes by storage, of every result of every operation

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, tuple | list) else [result]:
                if isinstance(tensor, Tensor):
                    storage = tensor.untyped_storage()
                    largest[storage.data_ptr()] = max(storage.nbytes(), largest.get(storage.data_ptr(), 0))
            return result

    with Watch():
        options = LossOptions(chunk_tokens=4)
        loss = module.compute(objective, student, labels, teacher, options, reuse_student_logits=reuse)
    for known in (student, teacher):
        largest.pop(known.untyped_storage().data_ptr(), None)
    beyond = [size for size in largest.values() if size > 4 * 97 * 4]
    assert beyond == ([] if reuse else [student.nbytes])  # the gradient
    assert loss.total.requires_grad


def test_refuses_what_cannot_be_computed():
    student, labels, teacher = batch(V=23)
    with pytest.raises(LogitsError, match="no teacher logits"):
        module.compute(Distillation(), student, labels)
    with pytest.raises(LogitsError, match=r"teacher logits are \(3, 10, 23\)"):
        inspect.unwrap(module.compute)(Distillation(), student, labels, teacher[:, 1:])
    with pytest.raises(VocabularyError, match=r"student has 23 .* teacher 20"):
        module.compute(Distillation(), student, labels, teacher[..., :20])
    with pytest.raises(VocabularyError, match="vocabulary is 24"):
        module.compute(Distillation(), student, labels, teacher, LossOptions(vocabulary=24))
    labels[0, 5] = 22
    with pytest.raises(VocabularyError, match="token 22, and the vocabulary has 20"):
        module.compute(Distillation(), student, labels, teacher, LossOptions(vocabulary=20))
