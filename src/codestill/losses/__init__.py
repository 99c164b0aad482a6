"""What a student is trained on: cross-entropy, divergences from a teacher's logits, contrast with faults.

The configs are importable without torch; the computation is ``codestill.losses.compute.compute`` and the
divergences by themselves are in ``codestill.losses.divergences``, contrasts in ``codestill.losses.contrast``.
"""

from codestill.losses.objective import Contrastive, CrossEntropy, Distillation, Divergence, Objective

__all__ = ["Contrastive", "CrossEntropy", "Distillation", "Divergence", "Objective"]
