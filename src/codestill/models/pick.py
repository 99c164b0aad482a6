"""The next token: the most likely one, or one drawn by a uniform number."""

import torch
from torch import Tensor

from codestill.models.settings import SamplingConfig

LIKELIEST = 1024
"""Most likely tokens, among which a nucleus is looked for before the whole vocabulary is sorted."""


def pick(logits_BV: Tensor, sampling: SamplingConfig, uniform_B: Tensor | None) -> Tensor:
    """Token ids [B]: the most likely one, or the one where a row's uniform number falls in its CDF.

    Nucleus sampling (Holtzman et al. 2020) orders tokens by falling probability and ends the CDF after the
    token that reaches ``top_p``.
    """
    if uniform_B is None:
        return logits_BV.max(dim=-1).indices  # the first of equal ones; argmax takes five times as long
    probabilities_BV = (logits_BV.float() / sampling.temperature).softmax(dim=-1)
    if sampling.top_p < 1:
        return _nucleus(probabilities_BV, sampling.top_p, uniform_B)
    cdf_BV = probabilities_BV.cumsum(dim=-1, dtype=torch.float64)
    cdf_BV = cdf_BV / cdf_BV[:, -1:]  # ends at exactly 1, above every uniform number
    found_B1 = torch.searchsorted(cdf_BV, uniform_B[:, None], right=True)
    return found_B1.clamp(max=cdf_BV.shape[1] - 1).squeeze(1)


def _nucleus(probabilities_BV: Tensor, top_p: float, uniform_B: Tensor) -> Tensor:
    """Token ids [B]. A large vocabulary is sorted only for rows whose nucleus is not among the likeliest
    tokens: which way a row goes depends on that row alone, and both give the same token."""
    total_B1 = probabilities_BV.sum(dim=-1, keepdim=True, dtype=torch.float64)
    if probabilities_BV.shape[1] <= 2 * LIKELIEST:
        return _walk(*probabilities_BV.sort(dim=-1, descending=True, stable=True), total_B1, top_p, uniform_B)
    likeliest_BK, ids_BK = probabilities_BV.topk(LIKELIEST, dim=-1)
    # Equal ones in the order of their ids, as by a stable sort of all.
    ids_BK, by_id = ids_BK.sort(dim=-1)
    likeliest_BK, by_size = likeliest_BK.gather(1, by_id).sort(dim=-1, descending=True, stable=True)
    picked_B = _walk(likeliest_BK, ids_BK.gather(1, by_size), total_B1, top_p, uniform_B)
    # Of tokens equal to the last, some may be missing: the nucleus must end before.
    above_BK = likeliest_BK.masked_fill(likeliest_BK <= likeliest_BK[:, -1:], 0)
    wide = (above_BK.sum(dim=-1, dtype=torch.float64) < top_p * total_B1[:, 0]).nonzero()[:, 0]
    if len(wide):
        ordered = probabilities_BV[wide].sort(dim=-1, descending=True, stable=True)
        picked_B[wide] = _walk(*ordered, total_B1[wide], top_p, uniform_B[wide])
    return picked_B


def _walk(ordered_BV: Tensor, ids_BV: Tensor, total_B1: Tensor, top_p: float, uniform_B: Tensor) -> Tensor:
    """The token where the uniform number falls among the nucleus, the likeliest first."""
    cdf_BV = ordered_BV.cumsum(dim=-1, dtype=torch.float64) / total_B1
    last_B1 = (cdf_BV < top_p).sum(dim=-1, keepdim=True).clamp(max=cdf_BV.shape[1] - 1)
    mass_B1 = cdf_BV.gather(1, last_B1)
    found_B1 = torch.searchsorted(cdf_BV, uniform_B[:, None] * mass_B1, right=True)
    return ids_BV.gather(1, torch.minimum(found_B1, last_B1)).squeeze(1)
