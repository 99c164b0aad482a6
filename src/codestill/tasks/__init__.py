"""Programming tasks with unit tests: HumanEval, MBPP, their EvalPlus versions, JSONL, pocket.

``decontaminate`` finds training tasks that evaluation tasks repeat.
"""

from codestill.tasks.check import (
    ProgressCallback,
    TasksReport,
    WrongVerdict,
    check_tasks,
    pass_body,
    require_trainable,
)
from codestill.tasks.config import TasksConfig, TaskSet, load_tasks
from codestill.tasks.extract import extract_code
from codestill.tasks.schema import read_samples, read_tasks, write_tasks
from codestill.tasks.stops import STOP_RULES, StopName, StopRule, cut, stopped

__all__ = [
    "STOP_RULES",
    "ProgressCallback",
    "StopName",
    "StopRule",
    "TaskSet",
    "TasksConfig",
    "TasksReport",
    "WrongVerdict",
    "check_tasks",
    "cut",
    "extract_code",
    "load_tasks",
    "pass_body",
    "read_samples",
    "read_tasks",
    "require_trainable",
    "stopped",
    "write_tasks",
]
