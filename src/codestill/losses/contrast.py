"""Correct programs against faulty ones: log-probabilities of whole completions, and the contrastive loss.

A row of a batch is a prompt with one completion; ``group_B`` gives each row the row of its correct program,
which for a correct program is its own. Scores are mean log-probabilities per scored token, so that a program
is not preferred for its length (in the released pairs of IterKD the better side is twice as long). No tensor
[B, T, V] exists: logits are computed for a chunk of positions, and again for its gradient.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus
from torch.utils.checkpoint import checkpoint

from codestill.losses.batch import IGNORED, Loss, Positions, require_labels, shared_width
from codestill.losses.chunks import rows_at_once
from codestill.losses.objective import Contrastive

PER_GROUP = ("contrast", "gap", "ranked")
"""Parts of a loss that are sums over correct programs that have faulty ones, not over tokens."""


def linear_log_probabilities(
    hidden_BTD: Float[Tensor, "B T D"],
    head_VD: Float[Tensor, "V D"],
    labels_BT: Int[Tensor, "B T"],
    *,
    chunk_tokens: int | None = None,
) -> Float[Tensor, " N"]:
    """Log-probability of every scored token, row by row, in nats, from hidden states and the head.

    ``labels_BT`` are as in :func:`codestill.losses.compute.compute`. Products are in the hidden states' dtype
    (autocast's, where it is on), the rest in float32 or better. Raises LogitsError and
    VocabularyError as there.
    """
    require_labels(labels_BT, {"hidden states": hidden_BTD})
    device = hidden_BTD.device.type
    if torch.is_autocast_enabled(device):
        hidden_BTD = hidden_BTD.to(torch.get_autocast_dtype(device))
    positions = Positions.of(labels_BT, shared_width(head_VD.shape[0], None, None))
    hidden_ND = hidden_BTD[positions.rows, positions.columns]

    def of(start: int, end: int) -> Tensor:
        with torch.autocast(device, enabled=False):
            logits_NV = hidden_ND[start:end] @ head_VD.to(hidden_ND.dtype).T
            return _of_targets(logits_NV, positions.targets[start:end])

    return _in_chunks(of, positions, chunk_tokens or rows_at_once(hidden_BTD, head_VD.shape[0]))


def log_probabilities(
    logits_BTV: Float[Tensor, "B T V"], labels_BT: Int[Tensor, "B T"], *, chunk_tokens: int | None = None
) -> Float[Tensor, " N"]:
    """The same from whole logits."""
    require_labels(labels_BT, {"logits": logits_BTV})
    positions = Positions.of(labels_BT, logits_BTV.shape[-1])

    def of(start: int, end: int) -> Tensor:
        rows, columns = positions.rows[start:end], positions.columns[start:end]
        return _of_targets(logits_BTV[rows, columns], positions.targets[start:end])

    return _in_chunks(of, positions, chunk_tokens or rows_at_once(logits_BTV, logits_BTV.shape[-1]))


def _of_targets(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    precise = torch.float64 if logits_NV.dtype == torch.float64 else torch.float32
    return -cross_entropy(logits_NV.to(precise), targets_N, reduction="none")


def _in_chunks(of: Callable[[int, int], Tensor], positions: Positions, size: int) -> Tensor:
    """Chunk after chunk; a chunk's logits are not kept but recomputed for its gradient."""
    chunks = list(positions.chunks(size)) or [(0, 0)]
    return torch.cat(
        [checkpoint(of, *chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks]  # type: ignore[misc]
    )


def scores(log_p_N: Float[Tensor, " N"], labels_BT: Int[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """Mean log-probability of each row's scored tokens; 0 for a row without any."""
    rows_N = torch.nonzero(labels_BT[:, 1:] != IGNORED, as_tuple=True)[0]
    zeros_B = log_p_N.new_zeros(len(labels_BT))
    counts_B = zeros_B.index_add(0, rows_N, torch.ones_like(log_p_N))
    return zeros_B.index_add(0, rows_N, log_p_N) / counts_B.clamp(min=1)


@dataclass(frozen=True)
class StepCounts:
    """What the sums over the whole batch of an optimiser step, all ranks together, are divided by.

    None stands for the batch's own number."""

    tokens: Tensor | int | float | None = None
    """Scored tokens of correct programs."""
    groups: Tensor | int | float | None = None
    """Correct programs that have faulty ones."""


OWN_COUNTS = StepCounts()


def contrastive_loss(
    objective: Contrastive,
    log_p_N: Float[Tensor, " N"],
    labels_BT: Int[Tensor, "B T"],
    group_B: Int[Tensor, " B"],
    reference_B: Float[Tensor, " B"] | None = None,
    counts: StepCounts = OWN_COUNTS,
) -> Loss:
    """Cross-entropy of correct programs per token, plus weight * contrast per group, over the ``counts``.

    ``reference_B``: scores of the same rows before training, which dpo needs. Raises ValueError without them.

    The parts are sums: ``cross_entropy`` and ``tokens`` over correct programs; over the ``groups``, their
    ``contrast``, the ``gap`` in score to the mean faulty one, and the number ``ranked`` above all of them.
    """
    own_B = group_B == torch.arange(len(group_B), device=group_B.device)
    rows_N = torch.nonzero(labels_BT[:, 1:] != IGNORED, as_tuple=True)[0]
    correct_N = own_B[rows_N]
    entropy = -(log_p_N * correct_N).sum()
    tokens = correct_N.sum()
    scores_B = scores(log_p_N, labels_BT)
    faulty = torch.nonzero(~own_B)[:, 0]
    delta_GK, listed_GK = _by_group(scores_B[faulty] - scores_B[group_B[faulty]], group_B[faulty])
    counts_G = listed_GK.sum(dim=1).clamp(min=1)
    if objective.contrast == "hinge":
        each_G = (objective.parameter + delta_GK).clamp(min=0).sum(dim=1) / counts_G
    elif objective.contrast == "infonce":
        zero_G1 = delta_GK.new_zeros(len(delta_GK), 1)
        each_G = torch.cat([zero_G1, delta_GK / objective.parameter], dim=1).logsumexp(dim=1)
    else:
        if reference_B is None:
            raise ValueError("dpo needs the scores before training: reference_B")
        before_B = reference_B.to(scores_B.dtype)
        before_GK, _ = _by_group(before_B[faulty] - before_B[group_B[faulty]], group_B[faulty])
        gain_GK = torch.where(listed_GK, delta_GK - before_GK, -torch.inf)
        each_G = softplus(objective.parameter * gain_GK).sum(dim=1) / counts_G
    contrast = each_G.sum()
    weighted = objective.weight * contrast / _count(counts.groups, len(each_G), entropy)
    total = entropy / _count(counts.tokens, tokens, entropy) + weighted
    with torch.no_grad():
        gap = -delta_GK.masked_fill(~listed_GK, 0).sum(dim=1) / counts_G
        parts = {
            "cross_entropy": entropy.detach(),
            "tokens": tokens,
            "contrast": contrast.detach(),
            "gap": gap.sum(),
            "ranked": (delta_GK < 0).all(dim=1).sum(),
            "groups": torch.tensor(len(each_G), device=group_B.device),
        }
    return Loss(total, parts)


def _count(count: Tensor | int | float | None, own: Tensor | int, like: Tensor) -> Tensor:
    return torch.as_tensor(own if count is None else count, device=like.device).clamp(min=1)


def _by_group(values_F: Tensor, group_F: Tensor) -> tuple[Tensor, Tensor]:
    """Values as [G, K], a row for each group that occurs, padded with minus infinity; and a mask of the
    values."""
    _, row_F, counts_G = torch.unique(group_F, return_inverse=True, return_counts=True)
    order_F = torch.argsort(row_F, stable=True)
    first_G = counts_G.cumsum(0) - counts_G
    place_F = torch.arange(len(values_F), device=values_F.device) - first_G[row_F[order_F]]
    shape = len(counts_G), int(counts_G.max()) if len(counts_G) else 0
    listed_GK = torch.zeros(shape, dtype=torch.bool, device=values_F.device)
    listed_GK[row_F[order_F], place_F] = True
    empty_GK = values_F.new_full(shape, -torch.inf)
    return empty_GK.index_put((row_F[order_F], place_F), values_F[order_F]), listed_GK
