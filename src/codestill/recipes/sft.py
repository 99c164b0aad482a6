"""Supervised fine-tuning: cross-entropy on completions, the baseline of every other recipe.

With ``examples.answers=reference`` the student reads the tasks' own solutions; with ``teacher`` it reads the
teacher's answers that pass the tests: sequence-level distillation (Kim and Rush, 2016) with a filter by
execution, which is standard distillation (StanD) in personalised distillation's terms.

Stages: answers (with a teacher), student, evaluation.
"""

from typing import TYPE_CHECKING, Literal

from codestill.config import RunConfig
from codestill.evaluation import EvaluateConfig, evaluate
from codestill.examples import ExamplesConfig, require_room, training_examples, validation_examples
from codestill.losses import CrossEntropy
from codestill.models import StudentConfig
from codestill.prompts import fitting
from codestill.run import Run
from codestill.teachers import LocalTeacherConfig
from codestill.teachers.session import AnyTeacherConfig, TeacherUsage, open_session
from codestill.train import TrainConfig, fit

if TYPE_CHECKING:
    from codestill.models.student import Student


class Config(RunConfig):
    """Supervised fine-tuning."""

    recipe: Literal["sft"] = "sft"
    """Name of the recipe."""
    student: StudentConfig = StudentConfig(preset="gpt2-44m")
    """The model to train."""
    teacher: AnyTeacherConfig = LocalTeacherConfig()
    """Who answers, with ``examples.answers=teacher``: local weights, whose tokenizer a preset takes, or an
    OpenAI-compatible endpoint. It is not opened for reference solutions."""
    teacher_usage: TeacherUsage = TeacherUsage()
    """What is kept of its answers, and their budget."""
    examples: ExamplesConfig = ExamplesConfig()
    """What the student reads."""
    train: TrainConfig = TrainConfig()
    """How it is optimised."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """How it is evaluated."""

    @property
    def needs_teacher(self) -> bool:
        return self.examples.needs_teacher


def distill(config: Config, run: Run) -> "Student":
    """Gather examples, train by cross-entropy, evaluate."""
    config.preflight(run)
    with config.execution.sandbox(config.sandbox) as sandbox:
        session = None
        if config.needs_teacher:
            settings = fitting(config.teacher, config.examples.prompts)
            session = open_session(settings, config.teacher_usage, config.execution, run)
        tokenizer = session.tokenizer if session else None
        student = config.student.build(tokenizer, config.execution, seed=config.seed)
        require_room(student, config.examples.tasks.load(), config.train, run)
        teacher = session.stage("answers") if session else None
        examples = training_examples(config.examples, student, teacher, sandbox, run, config.evaluate.tasks)
        del session, teacher  # the student trains without it
        validation = validation_examples(config.examples, student)
        student = fit(student, examples, CrossEntropy(), config.train, run, validation=validation)
        evaluate(student, "student", config.evaluate, sandbox, run)
    return student
