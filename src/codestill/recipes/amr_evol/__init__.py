"""AMR-Evol: modular decomposition, then response evolution over verified functions (arXiv:2410.00558)."""

from codestill.recipes.amr_evol.recipe import Config, distill

__all__ = ["Config", "distill"]
