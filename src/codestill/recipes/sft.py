"""Supervised fine-tuning: cross-entropy on completions, the baseline of every other recipe.

With ``examples.answers=reference`` the student reads the tasks' own solutions; with ``teacher`` it reads the
teacher's answers that pass the tests: sequence-level distillation (Kim and Rush, 2016) with a filter by
execution, which is standard distillation (StanD) in personalised distillation's terms.

Stages: answers (with a teacher), student, evaluation.
"""

from typing import TYPE_CHECKING, Literal

from codestill.config import RunConfig
from codestill.evaluation import EvaluateConfig, evaluate
from codestill.examples import ExamplesConfig, training_examples, validation_examples
from codestill.losses import CrossEntropy
from codestill.models import StudentConfig
from codestill.prompts import fitting
from codestill.run import Run
from codestill.teachers import LocalTeacherConfig
from codestill.train import TrainConfig, fit

if TYPE_CHECKING:
    from codestill.models.student import Student


class Config(RunConfig):
    """Supervised fine-tuning."""

    recipe: Literal["sft"] = "sft"
    """Name of the recipe."""
    student: StudentConfig = StudentConfig(preset="gpt2-44m")
    """The model to train."""
    teacher: LocalTeacherConfig = LocalTeacherConfig()
    """Who answers, with ``examples.answers=teacher``; else only its tokenizer would serve a preset."""
    examples: ExamplesConfig = ExamplesConfig()
    """What the student reads."""
    train: TrainConfig = TrainConfig()
    """How it is optimised."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """How it is evaluated."""


def distill(config: Config, run: Run) -> "Student":
    """Gather examples, train by cross-entropy, evaluate."""
    config.evaluate.tasks.load()  # what cannot be evaluated must fail before anything is paid for
    with config.execution.sandbox(config.sandbox) as sandbox:
        settings = fitting(config.teacher, config.examples.prompts)
        teacher = settings.build(config.execution) if config.examples.needs_teacher else None
        tokenizer = teacher.tokenizer if teacher else None
        student = config.student.build(tokenizer, config.execution, seed=config.seed)
        examples = training_examples(config.examples, student, teacher, sandbox, run, config.evaluate.tasks)
        validation = validation_examples(config.examples, student)
        student = fit(student, examples, CrossEntropy(), config.train, run, validation=validation)
        evaluate(student, "student", config.evaluate, sandbox, run)
    return student
