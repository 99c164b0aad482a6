"""How far training from a cache is from training on the whole vocabulary.

Measured with the loss that trains (:class:`codestill.losses.chunks.Accumulator`), in float64: once on the
teacher's logits, once on what a reader of the cache gets.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from codestill.logits import CapturedRows, CaptureSpec, MeasuredError, SparseRows
from codestill.logits.shard import roundtrip
from codestill.losses import Distillation
from codestill.losses.chunks import Accumulator
from codestill.losses.targets import SparseTargets
from codestill.teachers.cached import sparse_targets
from codestill.types import TailRule

UNIGRAM = "unigram"
"""Name of the reference student that :func:`unigram_logits` gives."""

ELEMENTS_AT_ONCE = 2**20
"""Logits converted to float64 at once."""


def measure_error(
    teacher_logits_NV: Float[Tensor, "N V_teacher"],
    rows: CapturedRows,
    student_logits_NV: Float[Tensor, "N V_student"],
    spec: CaptureSpec,
    student: str,
) -> tuple[MeasuredError, ...]:
    """The error at every temperature under every tail rule that the cache can serve.

    ``rows`` are of the same N positions, and pass through the bytes of the format first. ``student`` names
    the reference whose logits are given; without one give :func:`unigram_logits` and ``UNIGRAM``.
    """
    teacher_NV, student_NV = (x[:, : spec.vocabulary] for x in (teacher_logits_NV, student_logits_NV))
    measured = []
    for temperature in spec.temperatures:
        decoded = roundtrip(rows, spec, temperature)
        for rule in spec.tail_rules:
            kl, kl_error, gradient_error = loss_errors(teacher_NV, decoded, student_NV, rule)
            measured.append(
                MeasuredError(
                    temperature=temperature,
                    rule=rule,
                    student=student,
                    positions=len(rows),
                    kl=kl,
                    kl_error=kl_error,
                    gradient_error=gradient_error,
                )
            )
    return tuple(measured)


def loss_errors(
    teacher_logits_NV: Float[Tensor, "N V"],
    rows: SparseRows,
    student_logits_NV: Float[Tensor, "N V"],
    rule: TailRule,
) -> tuple[float, float, float]:
    """(mean forward KL over the whole vocabulary, absolute error of the mean, relative gradient error).

    KL in nats at the rows' temperature; gradients with respect to the student's logits, Frobenius norms over
    all positions.
    """
    targets = sparse_targets(rows, rule, teacher_logits_NV.device)
    objective = Distillation(divergence="forward_kl", temperature=rows.temperature, alpha=1.0)
    step = max(1, ELEMENTS_AT_ONCE // teacher_logits_NV.shape[1])
    kl = kl_cached = squared = squared_error = 0.0
    for start in range(0, len(rows), step):
        end = min(start + step, len(rows))
        student_NV = student_logits_NV[start:end].double()
        value, gradient_NV = _divergence(objective, student_NV, teacher_logits_NV[start:end].double())
        cached_value, cached_gradient_NV = _divergence(objective, student_NV, targets.rows(start, end))
        kl, kl_cached = kl + value, kl_cached + cached_value
        squared += float(gradient_NV.square().sum())
        squared_error += float((gradient_NV - cached_gradient_NV).square().sum())
    kl, kl_cached = kl / len(rows), kl_cached / len(rows)
    relative = (squared_error / max(squared, torch.finfo(torch.float64).tiny)) ** 0.5
    return kl, abs(kl - kl_cached), relative


def _divergence(
    objective: Distillation, student_NV: Tensor, teacher: Tensor | SparseTargets
) -> tuple[float, Tensor]:
    """The divergence summed over the positions, and the gradient of the objective [N, V]."""
    gradient_NV = student_NV.clone()
    sums = torch.zeros(3, dtype=torch.float64, device=student_NV.device)
    # The labels are of no weight at alpha 1.
    labels_N = torch.zeros(len(student_NV), dtype=torch.long, device=student_NV.device)
    Accumulator(objective, sums, differentiate=True).add(gradient_NV, labels_N, teacher)
    return float(sums[2]), gradient_NV


def unigram_logits(tokens: Sequence[int], vocabulary: int, positions: int) -> Float[Tensor, "N V"]:
    """A reference where no student is at hand: add-one smoothed frequencies of ``tokens``; a view."""
    counts_V = torch.bincount(torch.tensor(tokens, dtype=torch.long), minlength=vocabulary)[:vocabulary] + 1
    return (counts_V.double() / counts_V.sum()).log().expand(positions, vocabulary)
