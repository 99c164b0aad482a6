"""codestill: distil code-generation language models, and prove the student by running tests.

    import codestill

    task_set = codestill.load_tasks("pocket:test")
    student = codestill.load_student("pocket-base")
    run = codestill.distill("sft", "runs/mine", student="pocket-base", teacher="pocket")
    codestill.read_run("runs/mine")

Importing this is cheap: each name is loaded when it is first used, and torch with the first that needs it.
"""

import importlib
from typing import TYPE_CHECKING, Any

from codestill.version import __version__

if TYPE_CHECKING:
    from codestill.browse import RunFiles, list_runs, read_comparison, read_run
    from codestill.errors import (
        BudgetError,
        CodestillError,
        ConfigError,
        ConfigMismatch,
        ExportError,
        Failure,
        GateError,
        LogitsError,
        ModelError,
        PublishError,
        RunError,
        SandboxError,
        SandboxUnavailable,
        ServerBusy,
        StageMismatch,
        TaskError,
        TeacherError,
        TrainingError,
        UserError,
        VocabularyError,
    )
    from codestill.evaluation import EvaluateConfig, evaluate
    from codestill.launch import distill, score_model
    from codestill.losses import Contrastive, CrossEntropy, Distillation
    from codestill.models import SamplingConfig, StudentConfig, load_student
    from codestill.models.student import Student
    from codestill.recipes import RECIPES, load_recipe
    from codestill.run import Run
    from codestill.sandbox import Program, Sandbox, SandboxConfig
    from codestill.tables.scores import side_by_side
    from codestill.tasks import TasksConfig, TaskSet, load_tasks
    from codestill.train import TrainConfig, fit
    from codestill.types import Comparison, Evaluation, Example, Task

_PLACES = {
    "browse": ("RunFiles", "list_runs", "read_comparison", "read_run"),
    "errors": (
        "BudgetError",
        "CodestillError",
        "ConfigError",
        "ConfigMismatch",
        "ExportError",
        "Failure",
        "GateError",
        "LogitsError",
        "ModelError",
        "PublishError",
        "RunError",
        "SandboxError",
        "SandboxUnavailable",
        "ServerBusy",
        "StageMismatch",
        "TaskError",
        "TeacherError",
        "TrainingError",
        "UserError",
        "VocabularyError",
    ),
    "evaluation": ("EvaluateConfig", "evaluate"),
    "launch": ("distill", "score_model"),
    "losses": ("Contrastive", "CrossEntropy", "Distillation"),
    "models": ("SamplingConfig", "StudentConfig", "load_student"),
    "models.student": ("Student",),
    "recipes": ("RECIPES", "load_recipe"),
    "run": ("Run",),
    "sandbox": ("Program", "Sandbox", "SandboxConfig"),
    "tasks": ("TaskSet", "TasksConfig", "load_tasks"),
    "tables.scores": ("side_by_side",),
    "train": ("TrainConfig", "fit"),
    "types": ("Comparison", "Evaluation", "Example", "Task"),
}
_MODULE_OF = {name: f"codestill.{module}" for module, names in _PLACES.items() for name in names}

__all__ = [
    "RECIPES",
    "BudgetError",
    "CodestillError",
    "Comparison",
    "ConfigError",
    "ConfigMismatch",
    "Contrastive",
    "CrossEntropy",
    "Distillation",
    "EvaluateConfig",
    "Evaluation",
    "Example",
    "ExportError",
    "Failure",
    "GateError",
    "LogitsError",
    "ModelError",
    "Program",
    "PublishError",
    "Run",
    "RunError",
    "RunFiles",
    "SamplingConfig",
    "Sandbox",
    "SandboxConfig",
    "SandboxError",
    "SandboxUnavailable",
    "ServerBusy",
    "StageMismatch",
    "Student",
    "StudentConfig",
    "Task",
    "TaskError",
    "TaskSet",
    "TasksConfig",
    "TeacherError",
    "TrainConfig",
    "TrainingError",
    "UserError",
    "VocabularyError",
    "__version__",
    "distill",
    "evaluate",
    "fit",
    "list_runs",
    "load_recipe",
    "load_student",
    "load_tasks",
    "read_comparison",
    "read_run",
    "score_model",
    "side_by_side",
]


def __getattr__(name: str) -> Any:
    """Load a public name from where it is defined (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'codestill' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
