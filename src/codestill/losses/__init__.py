"""What a student is trained on: cross-entropy, and divergences from a teacher's logits.

The configs are importable without torch; the computation is ``codestill.losses.compute.compute`` and the
divergences by themselves are in ``codestill.losses.divergences``.
"""

from codestill.losses.objective import CrossEntropy, Distillation, Divergence, Objective

__all__ = ["CrossEntropy", "Distillation", "Divergence", "Objective"]
