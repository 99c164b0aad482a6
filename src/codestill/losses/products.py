"""Products of hidden states with a head, by the fastest kernel that gives them in full precision.

PyTorch's CPU builds hand float32 products to MKL, which has AVX-512 kernels for Intel's processors alone. On
others oneDNN, which every such build brings along, takes half the time, with the same rounding bounds.
"""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor


def rows_at_once(hidden: Tensor, width: int) -> int:
    """How many rows of ``width`` logits a chunk has where nobody says: enough that reading the head, and
    adding to its gradient, count little; in float32 on the CPU below 32 MiB, beyond which glibc asks the
    system for fresh memory every time."""
    of_cpu = 8_000_000 if hidden.dtype == torch.float32 else 2**24
    return max(1, (2**27 if hidden.is_cuda else of_cpu) // width)


def product(a_NK: Tensor, b_KM: Tensor) -> Tensor:
    """a @ b, [N, M], in float32 or better, without a graph. CUDA keeps the sums' precision; elsewhere half is
    rounded to half first."""
    if a_NK.dtype in (torch.float32, torch.float64):
        if a_NK.dtype == torch.float32 and a_NK.device.type == "cpu" and has_faster_kernels():
            return torch.ops.mkldnn._linear_pointwise(a_NK, b_KM.T, None, "none", [], "")
        return a_NK @ b_KM
    if a_NK.is_cuda:
        return torch.mm(a_NK, b_KM, out_dtype=torch.float32)
    return (a_NK @ b_KM).float()


def add_product(total_NM: Tensor, a_NK: Tensor, b_KM: Tensor) -> None:
    """total += a @ b, in place. With few K the sum itself is what costs, and MKL's goes along."""
    if a_NK.dtype == total_NM.dtype:
        total_NM.addmm_(a_NK, b_KM)
    else:
        total_NM += product(a_NK, b_KM)


@cache
def has_faster_kernels() -> bool:
    """Whether float32 products are oneDNN's: a matter of the machine alone, so that results are one run's as
    another's."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    if "AVX512" not in torch.backends.cpu.get_cpu_capability() or _vendor() in ("", "GenuineIntel"):
        return False
    try:  # not part of PyTorch's documented functions
        a, b = torch.ones(2, 3), torch.ones(3, 2)
        return bool((torch.ops.mkldnn._linear_pointwise(a, b.T, None, "none", [], "") == 3).all())
    except (AttributeError, RuntimeError):
        return False


def _vendor() -> str:
    """Of the processor; empty where it is not known."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")
