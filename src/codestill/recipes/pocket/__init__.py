"""The bundled pocket models, trained from scratch: the teacher, the base students, and the teacher's exam."""

from codestill.evaluation import EvaluateConfig

VALIDATION_EXAMPLES = 600
"""Held-out examples whose loss is logged during training."""
EVALUATION = EvaluateConfig.model_validate(
    {
        "tasks": {"source": "pocket", "split": "validation", "count": 200},
        "samples_per_task": 1,
        "profile": False,
    }
)
"""How both are evaluated after training. Choices are made on this split, never on test."""
