"""Personalised distillation: the teacher repairs what this student wrote (arXiv:2310.18628)."""

from codestill.recipes.persd.recipe import Config, distill

__all__ = ["Config", "distill"]
