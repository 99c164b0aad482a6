"""Training objectives: cross-entropy, divergences from a teacher's logits, contrast with faulty programs.

The configs and the table of divergences are importable without torch. Modules that compute:

    compute      a batch's loss from whole logits
    linear       the same from hidden states and a head
    divergences  a divergence by itself
    contrast     correct programs against faulty ones

and what they take: ``targets`` (of a teacher) and ``batch`` (options, and the loss with its parts).
"""

from codestill.losses.objective import Contrastive, CrossEntropy, Distillation, DivergenceName, Objective
from codestill.losses.table import DIVERGENCES, Divergence

__all__ = [
    "DIVERGENCES",
    "Contrastive",
    "CrossEntropy",
    "Distillation",
    "Divergence",
    "DivergenceName",
    "Objective",
]
