"""Matrix products: the same numbers by every kernel."""

from dataclasses import replace

import pytest
import torch
from tests.support.tiny import tiny_config
from torch import nn
from transformers import AutoModelForCausalLM

from codestill import matmul
from codestill.losses import CrossEntropy, Distillation
from codestill.losses.batch import LossOptions
from codestill.losses.chunks import rows_at_once
from codestill.losses.linear import linear_loss
from codestill.losses.targets import LinearTeacher
from codestill.teachers.frozen import LocalTeacher

ONEDNN = torch.backends.mkldnn.is_available()


@pytest.fixture(params=[True, False] if ONEDNN else [False])
def onednn(request, monkeypatch):
    """Both kernels, whatever this machine would take."""
    monkeypatch.setattr(matmul, "has_faster_kernels", lambda: request.param)
    return request.param


@pytest.mark.parametrize("rows", [1, 7, 64])
@pytest.mark.parametrize("transposed", [True, False])
def test_a_product_is_what_float64_says(onednn, rows, transposed):
    torch.manual_seed(rows)
    a, b = torch.randn(rows, 48), torch.randn(300, 48).T if transposed else torch.randn(48, 300)
    with torch.no_grad():
        found = matmul.matmul(a, b)
    assert found.dtype == torch.float32 and found.shape == (rows, 300)
    torch.testing.assert_close(found, (a.double() @ b.double()).float(), atol=1e-5, rtol=1e-5)


def test_no_rows_give_no_rows(onednn):
    with torch.no_grad():
        assert matmul.matmul(torch.empty(0, 4), torch.ones(4, 5)).shape == (0, 5)


def test_half_is_rounded_to_half_and_given_as_float32(onednn):
    a, b = torch.randn(5, 16).bfloat16(), torch.randn(16, 9).bfloat16()
    found = matmul.matmul(a, b)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, a.float() @ b.float(), atol=0.05, rtol=0.02)


def test_a_loss_does_not_depend_on_the_kernel(monkeypatch):
    torch.manual_seed(0)
    hidden, head = torch.randn(2, 9, 16), torch.randn(50, 16)
    teacher = LinearTeacher(torch.randn(2, 9, 24), torch.randn(50, 24))
    labels = torch.randint(50, (2, 9))
    for objective in (CrossEntropy(), Distillation(temperature=2.0, alpha=0.5)):
        found = []
        for faster in (ONEDNN, False):
            monkeypatch.setattr(matmul, "has_faster_kernels", lambda faster=faster: faster)
            given = hidden.clone().requires_grad_(), head.clone().requires_grad_()
            loss = linear_loss(objective, *given, labels, teacher, LossOptions(chunk_tokens=4))
            loss.total.backward()
            found.append((loss.total.detach(), *(one.grad for one in given)))
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_which_kernel_is_a_matter_of_the_machine(monkeypatch):
    matmul.has_faster_kernels.cache_clear()
    monkeypatch.setattr(matmul, "_vendor", lambda: "GenuineIntel")
    assert not matmul.has_faster_kernels()
    matmul.has_faster_kernels.cache_clear()
    monkeypatch.setattr(matmul, "_vendor", lambda: "AuthenticAMD")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert not matmul.has_faster_kernels()
    matmul.has_faster_kernels.cache_clear()


def test_float32_chunks_stay_below_what_is_fetched_anew():
    rows = rows_at_once(torch.empty(0), 49_152)
    assert rows > 100 and rows * 49_152 * 4 < 2**25
    assert rows_at_once(torch.empty(0), 10**9) == 1


@pytest.mark.parametrize("kind", ["llama", "gpt2", "starcoder2"])
def test_a_model_gives_the_same_logits(onednn, kind):
    model = AutoModelForCausalLM.from_config(tiny_config(kind)).eval()
    tokens = torch.tensor([[1, 5, 9, 3, 2], [7, 7, 0, 4, 8]])
    with torch.inference_mode():
        plain = model(tokens).logits
        with matmul.inference(model):
            assert any("forward" in vars(one) for one in model.modules()) == onednn
            found = model(tokens).logits
    torch.testing.assert_close(found, plain, atol=1e-5, rtol=1e-5)
    assert not any("forward" in vars(one) for one in model.modules())


def test_gradients_flow_where_they_are_wanted(onednn):
    model = AutoModelForCausalLM.from_config(tiny_config("gpt2")).eval()
    with matmul.inference(model):
        model(torch.tensor([[1, 5, 9]])).logits.sum().backward()
    assert all(one.grad is not None for one in model.parameters())


def test_half_precision_keeps_its_kernels(onednn):
    model = nn.Linear(4, 3).bfloat16()
    with matmul.inference(model), torch.inference_mode():
        assert model(torch.ones(2, 4).bfloat16()).dtype == torch.bfloat16
        assert "forward" not in vars(model)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_frozen_output_layer_reads_slices_at_once(rows, monkeypatch):
    head = nn.Linear(4, 3).requires_grad_(False)
    matmul.take_slices(head)
    matmul.take_slices(head)  # once is enough
    assert len(head._forward_pre_hooks) == 1
    read = []
    linear = torch.nn.functional.linear
    monkeypatch.setattr(
        torch.nn.functional, "linear", lambda x, *more: read.append(x.stride()) or linear(x, *more)
    )
    hidden = torch.randn(rows, 5, 4)
    for x in (hidden, hidden[:, -1:], hidden[:, -2:], hidden[:, -1]):
        torch.testing.assert_close(head(x), x @ head.weight.T + head.bias)
    # The strides of a matrix: PyTorch then makes a single product.
    assert read == [(20, 4, 1), (4, 4, 1), (8, 4, 1), (20, 1)]


def test_a_teacher_reads_slices_at_once():
    teacher = LocalTeacher.load("pocket")
    for built in (teacher, replace(teacher, name="another")):
        head = built.model.get_output_embeddings()
        assert head is not None and len(head._forward_pre_hooks) == 1


@pytest.mark.parametrize(
    ("amx", "avx512", "vendor", "fast"),
    [
        (True, True, "GenuineIntel", True),
        (False, True, "GenuineIntel", False),
        (False, True, "AuthenticAMD", True),
        (False, False, "AuthenticAMD", False),
        (False, True, "", False),
    ],
)
def test_who_multiplies_bfloat16_fast(amx, avx512, vendor, fast, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(matmul, "_vendor", lambda: vendor)
    assert matmul.has_bfloat16_kernels.__wrapped__() is fast
