"""A teacher's logits from a cache on disk: computed once, read in every epoch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from codestill.errors import VocabularyError
from codestill.logits import LogitCache, SparseRows, digest
from codestill.types import TailRule

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from codestill.losses.targets import SparseTargets


@dataclass(frozen=True)
class CachedLogits:
    """A cache's distributions at one temperature, with a rule for the tail of tokens that are not stored."""

    cache: LogitCache
    temperature: float
    rule: TailRule = "bucket"

    def __post_init__(self) -> None:
        self.cache.require(self.temperature, self.rule)

    @property
    def positions(self) -> int | None:
        """Longest sequence that the teacher could read: the cache holds no longer one."""
        return self.cache.manifest.positions

    def shared_vocabulary(self, tokenizer: "PreTrainedTokenizerBase", width: int) -> int:
        """Number of leading logits that are compared. Raises VocabularyError if the student's tokenizer is
        not the cache's, or ``width``, the student's number of logits, is too small."""
        from codestill.models.fingerprints import tokenizer_fingerprint

        manifest, fingerprint = self.cache.manifest, tokenizer_fingerprint(tokenizer)
        if fingerprint != manifest.tokenizer:
            raise VocabularyError(
                f"{self.cache.directory} was captured with the tokenizer {manifest.tokenizer}, but the "
                f"student's is {fingerprint}.",
                next_step="Give the student the teacher's tokenizer, or capture with the student's.",
            )
        if width < manifest.vocabulary:
            raise VocabularyError(
                f"the cache covers {manifest.vocabulary:,} tokens, but the student has logits for {width:,}.",
                next_step="Choose a student whose vocabulary covers the teacher's.",
            )
        return manifest.vocabulary

    def targets(self, tokens_BT: "Tensor", mask_BT: "Tensor", labels_BT: "Tensor") -> "SparseTargets":
        """Targets of the scored positions of a right-padded batch [B, T], in order, on the tokens' device.

        Raises LogitsError for a sequence that is not in the cache.
        """
        names = sequence_names(tokens_BT, mask_BT, labels_BT)
        return sparse_targets(self.cache.targets(names, self.temperature), self.rule, tokens_BT.device)


def sequence_names(tokens_BT: "Tensor", mask_BT: "Tensor", labels_BT: "Tensor") -> list[str]:
    """Digests of a right-padded batch's sequences, without those that have no scored position."""
    from codestill.losses.batch import IGNORED

    names = []
    for tokens, mask, labels in zip(tokens_BT.cpu(), mask_BT.cpu(), labels_BT.cpu(), strict=True):
        scored = (labels != IGNORED).nonzero()
        if len(scored):
            names.append(digest(tokens[: int(mask.sum())].tolist(), int(scored[0])))
    return names


def sparse_targets(rows: SparseRows, rule: TailRule, device: "torch.device") -> "SparseTargets":
    """Rows of a cache as the loss takes them. Raises LogitsError for ``sampled`` if the cache has no tail
    samples."""
    import torch

    from codestill.losses.targets import SparseTargets

    return SparseTargets(
        torch.from_numpy(rows.ids_NK).to(device),
        torch.from_numpy(rows.log_probabilities_NK).to(device),
        torch.from_numpy(rows.log_tail_N).to(device),
        rows.temperature,
        rule,
        None if rows.samples_NM is None else torch.from_numpy(rows.samples_NM).to(device),
    )
