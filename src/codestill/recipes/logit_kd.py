"""Logit distillation: the teacher's probabilities for every token of the completion are the target.

loss = alpha * T^2 * KL(teacher || student) + (1 - alpha) * cross-entropy (Hinton et al., 2015), or another
divergence by name; on completion and end-of-sequence tokens only, over the whole accumulated batch.
A teacher with another tokenizer teaches where both cut the text alike (docs/other-tokenizers.md).

Stages: answers (with ``examples.answers=teacher``), logits (with ``cache``), student, evaluation.
Our deviations from the common notebook form: prompt and pads are masked in both terms, logits and targets are
shifted together, and the divergence is averaged over tokens, not over sequences.
"""

from typing import TYPE_CHECKING, Literal

from codestill.capture import TeacherLogitsConfig, capture, is_finished, open_cache, read_cache
from codestill.config import RunConfig
from codestill.evaluation import EvaluateConfig, evaluate
from codestill.examples import ExamplesConfig, training_examples, validation_examples
from codestill.models import StudentConfig
from codestill.prompts import fitting
from codestill.run import Run
from codestill.tasks.preflight import preflight
from codestill.teachers import LocalTeacherConfig, require_same_vocabulary
from codestill.teachers.aligned import TokenizerPair
from codestill.teachers.session import TeacherUsage, session_of
from codestill.train import fit

if TYPE_CHECKING:
    from codestill.models.student import Student


class Config(TeacherLogitsConfig, RunConfig):
    """Logit distillation."""

    recipe: Literal["logit_kd"] = "logit_kd"
    """Name of the recipe."""
    student: StudentConfig = StudentConfig(preset="gpt2-44m")
    """The model to train; a preset takes the teacher's tokenizer."""
    teacher: LocalTeacherConfig = LocalTeacherConfig()
    """Local weights: a text-only endpoint gives no logits."""
    teacher_usage: TeacherUsage = TeacherUsage()
    """What is kept of its answers, with ``examples.answers=teacher``, and their budget."""
    examples: ExamplesConfig = ExamplesConfig()
    """What teacher and student read."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """How it is evaluated."""


def distill(config: Config, run: Run) -> "Student":
    """Gather examples, train against the teacher's logits, evaluate."""
    from codestill.models.chat import codec_for

    preflight(config)  # what is wrong with tasks must be told before anything is paid for
    temperature = config.objective.temperature
    directory = config.cache.directory or run.logits_directory
    # A finished cache makes do without the teacher, which this machine may not even hold.
    absent = (
        config.teacher_logits == "cached" and is_finished(directory) and not config.examples.needs_teacher
    )
    with config.execution.sandbox(config.sandbox) as sandbox:
        settings = fitting(config.teacher, config.examples.prompts)
        teacher = None if absent else settings.build(config.execution)
        tokenizer = config.teacher.tokenizer() if teacher is None else teacher.tokenizer
        student = config.student.build(tokenizer, config.execution, seed=config.seed)
        codec, pair = student.codec, None
        if config.cache.vocabularies == "aligned":
            asked_as = codec_for(settings, tokenizer, settings.model) if teacher is None else teacher.codec
            pair = TokenizerPair(student.codec, asked_as)
            codec = pair.reader
        else:
            require_same_vocabulary(
                student.tokenizer,
                tokenizer,
                student.vocabulary_size,
                student.vocabulary_size if teacher is None else teacher.vocabulary_size,
            )
        session = None if teacher is None else session_of(teacher, config.teacher_usage, run)
        asked = session.stage("answers") if session else None
        examples = training_examples(config.examples, student, asked, sandbox, run, config.evaluate.tasks)
        del session, asked  # a cache of its logits takes the teacher's place
        validation = validation_examples(config.examples, student)
        logits = teacher
        if config.teacher_logits == "cached":
            kept = (temperature,), config.cache
            every = [*examples, *validation]
            if teacher is None:
                cache = open_cache(directory, every, codec, *kept, run)
            else:
                cache = capture(every, teacher, *kept, directory, run, codec)
            logits = read_cache(cache, temperature, pair, every, config.cache, run)
            teacher = None
        student = fit(
            student, examples, config.objective, config.train, run, teacher=logits, validation=validation
        )
        evaluate(student, "student", config.evaluate, sandbox, run)
    return student
