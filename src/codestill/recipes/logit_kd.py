"""Logit distillation: the teacher's probabilities for every token of the completion are the target.

loss = alpha * T^2 * KL(teacher || student) + (1 - alpha) * cross-entropy (Hinton et al., 2015), or another
divergence by name; on completion and end-of-sequence tokens only, over the whole accumulated batch.
A teacher with another tokenizer teaches where both cut the text alike (docs/other-tokenizers.md).

Stages: answers (with ``examples.answers=teacher``), logits (with ``cache``), student, evaluation.
Our deviations from the common notebook form: prompt and pads are masked in both terms, logits and targets are
shifted together, and the divergence is averaged over tokens, not over sequences.
"""

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import model_validator

from codestill.capture import TeacherLogitsConfig, capture, is_finished, open_cache, read_cache
from codestill.capture.config import at_one, require_answers_teach
from codestill.config import RunConfig
from codestill.evaluation import EvaluateConfig, evaluate
from codestill.examples import ExamplesConfig, require_room, training_examples, validation_examples
from codestill.models import StudentConfig
from codestill.prompts import fitting
from codestill.run import Run
from codestill.teachers import ApiTeacherConfig, LocalTeacherConfig, require_same_vocabulary
from codestill.teachers.aligned import TokenizerPair
from codestill.teachers.session import AnyTeacherConfig, TeacherUsage, session_of
from codestill.train import fit

if TYPE_CHECKING:
    from codestill.models.student import Student


class Config(TeacherLogitsConfig, RunConfig):
    """Logit distillation."""

    recipe: Literal["logit_kd"] = "logit_kd"
    """Name of the recipe."""
    student: StudentConfig = StudentConfig(preset="gpt2-44m")
    """The model to train; a preset takes the teacher's tokenizer."""
    teacher: AnyTeacherConfig = LocalTeacherConfig()
    """Local weights, or an endpoint that lists the tokens of its answers (`teacher.logprobs`)."""
    teacher_usage: TeacherUsage = TeacherUsage()
    """What is kept of its answers, with ``examples.answers=teacher``, and their budget."""
    examples: ExamplesConfig = ExamplesConfig()
    """What teacher and student read."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """How it is evaluated."""

    @model_validator(mode="before")
    @classmethod
    def _answers_are_at_one(cls, values: Any) -> Any:
        return at_one(values, "objective", {"temperature": 1.0})

    @model_validator(mode="after")
    def _answers_teach(self) -> Self:
        if not isinstance(self.teacher, ApiTeacherConfig):
            return self
        require_answers_teach(self.teacher, self.examples)
        if self.teacher_logits != "cached":
            raise ValueError(
                "teacher_logits is live: what comes with an endpoint's answers is kept in a cache; set it to "
                "cached"
            )
        if self.objective.temperature != 1:
            raise ValueError(
                f"objective.temperature is {self.objective.temperature:g}: of what the endpoint did not list "
                "only the total at temperature 1 is known; set it to 1"
            )
        if self.cache.tail != "bucket" or self.cache.tail_samples:
            raise ValueError(
                "cache.tail: positions that the endpoint did not list need the tail rule bucket, without "
                "tail_samples"
            )
        self.require_bucket("a teacher that lists the likeliest tokens")
        return self


def distill(config: Config, run: Run) -> "Student":
    """Gather examples, train against the teacher's logits, evaluate."""
    from codestill.capture.answered import capture_answers
    from codestill.teachers.forms import codec_for, tokenizer_of
    from codestill.teachers.frozen import LocalTeacher
    from codestill.train.gaps import with_gaps

    config.preflight(run)
    temperature = config.objective.temperature
    directory = config.cache.directory or run.logits_directory
    # A finished cache makes do without the teacher, which this machine may not even hold.
    absent = (
        config.teacher_logits == "cached" and is_finished(directory) and not config.examples.needs_teacher
    )
    with config.execution.sandbox(config.sandbox) as sandbox:
        settings = fitting(config.teacher, config.examples.prompts)
        teacher = None if absent else settings.build(config.execution)
        weights = teacher if isinstance(teacher, LocalTeacher) else None
        tokenizer = weights.tokenizer if weights else tokenizer_of(settings)
        student = config.student.build(tokenizer, config.execution, seed=config.seed)
        require_room(student, config.examples.tasks.load(), config.train, run)
        codec, pair = student.codec, None
        if config.cache.vocabularies == "aligned":
            asked_as = weights.codec if weights else codec_for(settings, tokenizer)
            pair = TokenizerPair(student.codec, asked_as)
            codec = pair.reader
        else:
            require_same_vocabulary(
                student.tokenizer,
                tokenizer,
                student.vocabulary_size,
                weights.vocabulary_size if weights else student.vocabulary_size,
            )
        session = None if teacher is None else session_of(teacher, config.teacher_usage, run)
        asked = session.stage("answers") if session else None
        examples = training_examples(config.examples, student, asked, sandbox, run, config.evaluate.tasks)
        validation = validation_examples(config.examples, student)
        logits = weights
        if config.teacher_logits == "cached":
            kept = (temperature,), config.cache
            gaps = with_gaps(examples, config.train.fim, run.seed, student.form is not None)
            every = [*gaps, *validation]
            if weights:
                cache = capture(every, weights, *kept, directory, run, codec)
            elif session:
                assert isinstance(settings, ApiTeacherConfig), "weights, or else an endpoint"
                cache = capture_answers(every, settings, session.answers, config.cache, directory, run, codec)
            else:
                cache = open_cache(directory, every, codec, *kept, run)
            logits = read_cache(cache, temperature, pair, every, config.cache, run)
        del session, asked, teacher, weights  # a cache of its logits takes the teacher's place
        student = fit(
            student, examples, config.objective, config.train, run, teacher=logits, validation=validation
        )
        evaluate(student, "student", config.evaluate, sandbox, run)
    return student
