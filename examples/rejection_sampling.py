"""Rejection sampling: fine-tune on the first of several sampled teacher answers that passes the tests.

codestill run examples/rejection_sampling.py --run-dir runs/mine
"""

from typing import Literal

from codestill.config import RunConfig
from codestill.evaluation import EvaluateConfig, evaluate
from codestill.examples import ExamplesConfig, training_examples
from codestill.losses import CrossEntropy
from codestill.models import StudentConfig
from codestill.tasks import TasksConfig
from codestill.teachers import LocalTeacherConfig
from codestill.train import TrainConfig, fit


class Config(RunConfig):
    """Rejection sampling."""

    recipe: Literal["rejection_sampling"] = "rejection_sampling"
    student: StudentConfig = StudentConfig(model="pocket-base")
    teacher: LocalTeacherConfig = LocalTeacherConfig(model="pocket")
    examples: ExamplesConfig = ExamplesConfig(
        tasks=TasksConfig(source="pocket", split="train", count=500),
        validation=None,
        answers="teacher",
        samples=4,
        temperature=0.8,
        max_new_tokens=128,
    )
    train: TrainConfig = TrainConfig(max_steps=100, batch_tokens=1536, accumulation=1, learning_rate=1e-3)
    evaluate: EvaluateConfig = EvaluateConfig(
        tasks=TasksConfig(source="pocket", split="test", count=100), samples_per_task=2, max_new_tokens=128
    )


def distill(config, run):
    with config.execution.sandbox(config.sandbox) as sandbox:
        teacher = config.teacher.build()
        student = config.student.build(teacher.tokenizer, seed=config.seed)
        examples = training_examples(config.examples, student, teacher, sandbox, run)
        student = fit(student, examples, CrossEntropy(), config.train, run)
        evaluate(student, "student", config.evaluate, sandbox, run)
    return student
