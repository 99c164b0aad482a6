"""Evaluation: gates first, then one pool of samples, its pass@k, and what the model costs to run.

``gates`` are known answers that must score as known; ``evaluate`` samples, executes and scores a model;
``metrics`` are the statistics; ``runs`` are evaluations as runs of their own.
"""

from codestill.evaluation.evaluate import EvaluateConfig, evaluate, read_evaluation
from codestill.evaluation.gates import check_gates, known_answers
from codestill.evaluation.runs import EvaluateModel, ScoreSamples, evaluate_model, score_samples

__all__ = [
    "EvaluateConfig",
    "EvaluateModel",
    "ScoreSamples",
    "check_gates",
    "evaluate",
    "evaluate_model",
    "known_answers",
    "read_evaluation",
    "score_samples",
]
