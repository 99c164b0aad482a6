"""Matrix products by the fastest kernel that keeps full precision.

PyTorch's CPU builds use MKL for float32 products, and MKL has AVX-512 kernels for Intel processors only. On
others oneDNN, which every such build includes, takes half the time, with the same rounding bounds.
"""

import contextlib
from collections.abc import Generator
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D


def matmul(a_NK: Tensor, b_KM: Tensor) -> Tensor:
    """a @ b [N, M] in float32 or better, outside autograd. Of 16-bit factors, CUDA returns the float32 sums;
    elsewhere the sums are rounded to 16 bits first."""
    if a_NK.dtype in (torch.float32, torch.float64):
        if a_NK.dtype == torch.float32 and a_NK.device.type == "cpu" and has_faster_kernels():
            return _onednn(a_NK, b_KM.T)
        return a_NK @ b_KM
    if a_NK.is_cuda:
        return torch.mm(a_NK, b_KM, out_dtype=torch.float32)
    return (a_NK @ b_KM).float()


def add_product(total_NM: Tensor, a_NK: Tensor, b_KM: Tensor) -> None:
    """total += a @ b, in place. With small K the addition dominates, and MKL's ``addmm_`` fuses it."""
    if a_NK.dtype == total_NM.dtype:
        total_NM.addmm_(a_NK, b_KM)
    else:
        total_NM += matmul(a_NK, b_KM)


def take_slices(head: nn.Module | None) -> None:
    """Let a frozen output layer read a slice of hidden states, such as every row's last position, at once.

    Where neither factor needs a gradient, PyTorch multiplies a three-dimensional slice row by row, with the
    weights copied for each: at 151,936 rows in bfloat16, seconds instead of milliseconds.
    """
    if head is not None and _dense not in _hooks(head):
        head.register_forward_pre_hook(_dense)


def _hooks(module: nn.Module) -> list[Any]:
    return [*module._forward_pre_hooks.values()]  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType]


def _dense(head: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    x, *more = inputs
    whole = x.dim() != 3 or x.stride(0) == x.shape[1] * x.stride(1)
    return inputs if whole else (x.clone(memory_format=torch.contiguous_format), *more)


@contextlib.contextmanager
def inference(model: nn.Module) -> Generator[None, None, None]:
    """Run a float32 model's linear layers on the CPU with these kernels, as long as no gradient is needed."""
    changed: list[nn.Module] = []
    if has_faster_kernels():
        for module in model.modules():
            is_linear = type(module) in (nn.Linear, Conv1D) and "forward" not in vars(module)
            if is_linear and module.weight.dtype == torch.float32 and module.weight.device.type == "cpu":
                module.forward = partial(_linear, module, type(module) is Conv1D)
                changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _linear(module: nn.Module, transposed: bool, x: Tensor) -> Tensor:
    weight_OI: Tensor = module.weight.T if transposed else module.weight  # pyright: ignore[reportAssignmentType, reportCallIssue]
    if torch.is_grad_enabled() or x.dtype != torch.float32:
        return type(module).forward(module, x)
    return _onednn(x, weight_OI, module.bias)  # pyright: ignore[reportArgumentType]


def _onednn(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight_OI, bias_O, "none", [], "")


@cache
def has_faster_kernels() -> bool:
    """Whether float32 products use oneDNN. It depends on the machine alone, so that runs on it agree."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    if "AVX512" not in torch.backends.cpu.get_cpu_capability() or _vendor() in ("", "GenuineIntel"):
        return False
    try:  # the operator is not part of PyTorch's documented interface
        a, b = torch.ones(2, 3), torch.ones(3, 2)
        return bool((_onednn(a, b.T) == 3).all())
    except (AttributeError, RuntimeError):
        return False


@cache
def has_bfloat16_kernels() -> bool:
    """Whether the processor multiplies bfloat16 at a higher rate than float32: Intel's with AMX, AMD's with
    AVX-512's bfloat16 (2.4 times as fast a training step on a Zen core). That of Intel's AVX-512 made a step
    1.4 times slower (dev/lab-log.md)."""
    if torch.cpu._is_amx_tile_supported():  # pyright: ignore[reportPrivateUsage]
        return True
    avx512 = torch.cpu._is_avx512_bf16_supported()  # pyright: ignore[reportPrivateUsage]
    return avx512 and _vendor() == "AuthenticAMD"


def _vendor() -> str:
    """The processor's vendor; empty where unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")
