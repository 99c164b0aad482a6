"""A teacher whose logits are on disk: read in every epoch, computed once."""

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
    """What a cache says at one temperature, with a rule for what it does not list."""

    cache: LogitCache
    temperature: float
    rule: TailRule = "bucket"

    def __post_init__(self) -> None:
        self.cache.require(self.temperature, self.rule)

    def shared_vocabulary(self, tokenizer: "PreTrainedTokenizerBase", width: int) -> int:
        """How many leading logits take part. Raises VocabularyError where the student's ids mean something
        else than the cache's, or it has too few logits."""
        from codestill.models.fingerprints import tokenizer_fingerprint

        manifest, found = self.cache.manifest, tokenizer_fingerprint(tokenizer)
        if found != manifest.tokenizer:
            raise VocabularyError(
                f"{self.cache.directory} was captured with the tokenizer {manifest.tokenizer}, and the "
                f"student's is {found}.",
                next_step="Give the student the teacher's tokenizer, or capture with the student's.",
            )
        if width < manifest.vocabulary:
            raise VocabularyError(
                f"the cache is over {manifest.vocabulary:,} tokens, the student has logits for {width:,}.",
                next_step="Choose a student whose vocabulary covers the teacher's.",
            )
        return manifest.vocabulary

    def targets(self, tokens_BT: "Tensor", mask_BT: "Tensor", labels_BT: "Tensor") -> "SparseTargets":
        """For the scored positions of a right-padded batch, in order, on the tokens' device.

        Raises LogitsError for a sequence that the cache does not hold.
        """
        from codestill.losses.batch import IGNORED

        names = []
        for tokens, mask, labels in zip(tokens_BT.cpu(), mask_BT.cpu(), labels_BT.cpu(), strict=True):
            scored = (labels != IGNORED).nonzero()
            if len(scored):
                names.append(digest(tokens[: int(mask.sum())].tolist(), int(scored[0])))
        return sparse_targets(self.cache.targets(names, self.temperature), self.rule, tokens_BT.device)


def sparse_targets(rows: SparseRows, rule: TailRule, device: "torch.device") -> "SparseTargets":
    """What a reader got of a cache, as the loss takes it. Raises LogitsError for ``sampled`` where the cache
    holds no samples of the tail."""
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
