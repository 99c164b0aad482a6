"""Products of hidden states with a head: the same numbers by every kernel."""

import pytest
import torch

from codestill.losses import CrossEntropy, Distillation, products
from codestill.losses.linear import linear_loss
from codestill.losses.targets import LinearTeacher

ONEDNN = torch.backends.mkldnn.is_available()


@pytest.fixture(params=[True, False] if ONEDNN else [False])
def onednn(request, monkeypatch):
    """Both kernels, whatever this machine would take."""
    monkeypatch.setattr(products, "has_faster_kernels", lambda: request.param)
    return request.param


@pytest.mark.parametrize("rows", [1, 7, 64])
@pytest.mark.parametrize("transposed", [True, False])
def test_a_product_is_what_float64_says(onednn, rows, transposed):
    torch.manual_seed(rows)
    a, b = torch.randn(rows, 48), torch.randn(300, 48).T if transposed else torch.randn(48, 300)
    with torch.no_grad():
        found = products.product(a, b)
    assert found.dtype == torch.float32 and found.shape == (rows, 300)
    torch.testing.assert_close(found, (a.double() @ b.double()).float(), atol=1e-5, rtol=1e-5)


def test_no_rows_give_no_rows(onednn):
    with torch.no_grad():
        assert products.product(torch.empty(0, 4), torch.ones(4, 5)).shape == (0, 5)


def test_half_is_rounded_to_half_and_given_as_float32(onednn):
    a, b = torch.randn(5, 16).bfloat16(), torch.randn(16, 9).bfloat16()
    found = products.product(a, b)
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
            monkeypatch.setattr(products, "has_faster_kernels", lambda faster=faster: faster)
            given = hidden.clone().requires_grad_(), head.clone().requires_grad_()
            loss = linear_loss(objective, *given, labels, teacher, chunk_tokens=4)
            loss.total.backward()
            found.append((loss.total.detach(), *(one.grad for one in given)))
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_which_kernel_is_a_matter_of_the_machine(monkeypatch):
    products.has_faster_kernels.cache_clear()
    monkeypatch.setattr(products, "_vendor", lambda: "GenuineIntel")
    assert not products.has_faster_kernels()
    products.has_faster_kernels.cache_clear()
    monkeypatch.setattr(products, "_vendor", lambda: "AuthenticAMD")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert not products.has_faster_kernels()
    products.has_faster_kernels.cache_clear()


def test_float32_chunks_stay_below_what_is_fetched_anew():
    rows = products.rows_at_once(torch.empty(0), 49_152)
    assert rows > 100 and rows * 49_152 * 4 < 2**25
    assert products.rows_at_once(torch.empty(0), 10**9) == 1
