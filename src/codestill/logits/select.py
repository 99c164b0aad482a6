"""From a teacher's dense logits to the rows that are stored. The only module here that needs torch."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from codestill.errors import LogitsError, VocabularyError
from codestill.logits.manifest import CaptureSpec
from codestill.logits.rows import CapturedRows, join
from codestill.logits.truncation import Truncation, keep_counts

CHUNK_ELEMENTS = {"cpu": 2**20, "cuda": 2**25}
"""Logits per chunk: memory beyond the logits is a few tensors of this size."""


def select(
    logits_NV: Float[Tensor, "N V"],
    vocabulary: int,
    temperatures: Sequence[float],
    truncation: Truncation,
    tail_samples: int = 0,
    generator: torch.Generator | None = None,
) -> CapturedRows:
    """The entries to keep of each position, the tail's mass at each temperature, and samples of the tail.

    Softmax is over the first ``vocabulary`` logits alone, in float32 whatever their dtype; a chunk of
    positions at a time. Samples come from ``generator``, which is on the logits' device.

    Raises VocabularyError when there are fewer logits than ``vocabulary``, LogitsError for a position whose
    logits are NaN, plus infinity, or all minus infinity.
    """
    if not 0 < vocabulary <= logits_NV.shape[1]:
        raise VocabularyError(
            f"vocabulary is {vocabulary}, and the logits are {logits_NV.shape[1]} wide",
            next_step="Give the number of token ids that teacher and student share.",
        )
    elements = CHUNK_ELEMENTS.get(logits_NV.device.type, CHUNK_ELEMENTS["cuda"])
    # An empty batch is one empty chunk.
    pieces = [
        _chunk(chunk_CV[:, :vocabulary].float(), temperatures, truncation, tail_samples, generator)
        for chunk_CV in logits_NV.split(max(1, elements // vocabulary))
    ]
    return join(pieces)


def select_for(
    spec: CaptureSpec, logits_NV: Float[Tensor, "N V"], generator: torch.Generator | None = None
) -> CapturedRows:
    """:func:`select` with the settings of a capture's spec."""
    return select(
        logits_NV, spec.vocabulary, spec.temperatures, spec.truncation, spec.tail_samples, generator
    )


@torch.no_grad()
def _chunk(
    logits_CV: Tensor,
    temperatures: Sequence[float],
    truncation: Truncation,
    tail_samples: int,
    generator: torch.Generator | None,
) -> CapturedRows:
    width = min(truncation.max_k, logits_CV.shape[1])
    top_CK, ids_CK = logits_CV.topk(width, dim=1)
    log_mass_C1 = logits_CV.logsumexp(dim=1, keepdim=True)
    if not log_mass_C1.isfinite().all():
        raise LogitsError(
            "a position's logits are not finite",
            next_step="Check the teacher's dtype: float16 overflows where bfloat16 and float32 do not.",
        )
    log_p_CK = (top_CK - log_mass_C1).cpu().numpy()
    counts = keep_counts(log_p_CK, truncation)
    kept = np.arange(width) < counts[:, None]
    rest_CV = logits_CV.scatter(
        1, ids_CK, top_CK.masked_fill(torch.from_numpy(kept).to(top_CK.device), -torch.inf)
    )
    tails, samples = [], []
    for temperature in temperatures:
        log_mass_C = (logits_CV / temperature).logsumexp(dim=1)
        log_rest_CV = rest_CV / temperature
        tails.append((log_rest_CV.logsumexp(dim=1) - log_mass_C).clamp(max=0).cpu().numpy())
        samples.append(_sample(log_rest_CV, tail_samples, generator))
    return CapturedRows(
        counts,
        ids_CK.cpu().numpy()[kept],
        log_p_CK[kept],
        np.stack(tails, axis=1),
        np.stack(samples, axis=1),
    )


def _sample(log_rest_CV: Tensor, count: int, generator: torch.Generator | None) -> np.ndarray:
    """Token ids [C, count] in proportion to exp(log_rest_CV); 0 where the tail is empty."""
    if count == 0 or len(log_rest_CV) == 0:
        return np.zeros((len(log_rest_CV), count), dtype=np.int64)
    highest_C1 = log_rest_CV.amax(dim=1, keepdim=True)
    empty_C1 = highest_C1 == -torch.inf
    weights_CV = (log_rest_CV - highest_C1.masked_fill(empty_C1, 0)).exp_()
    weights_CV[:, :1].masked_fill_(empty_C1, 1)
    return torch.multinomial(weights_CV, count, replacement=True, generator=generator).cpu().numpy()
