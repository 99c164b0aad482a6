"""IterKD: right and wrong programs, two views of feedback, new questions by difficulty (arXiv:2408.03680)."""

from codestill.recipes.iterkd.recipe import Config, distill

__all__ = ["Config", "distill"]
