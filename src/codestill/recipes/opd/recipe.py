"""The rounds of on-policy distillation: collect, measure, train, evaluate. See the folder's docstring."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import model_validator

from codestill.attempt import Workbench
from codestill.capture import TeacherLogitsConfig, capture, read_cache
from codestill.errors import TaskError, VocabularyError
from codestill.evaluation import evaluate
from codestill.files.serialize import is_object
from codestill.losses import Distillation
from codestill.recipes.opd.collect import CollectConfig, collect
from codestill.recipes.opd.gap import measure_gap
from codestill.recipes.opd.rows import ROWS
from codestill.recipes.opd.times import Times
from codestill.rounds import Round, RoundsConfig, in_rounds
from codestill.run import Run
from codestill.tasks import require_trainable
from codestill.tasks.decontaminate import without_repeats
from codestill.teachers import require_same_vocabulary
from codestill.teachers.cached import CachedLogits
from codestill.teaching import Teaching
from codestill.train import fit
from codestill.types import Example
from codestill.warm_up import initial_student

if TYPE_CHECKING:
    from codestill.models.student import Student
    from codestill.teachers.frozen import LocalTeacher


class Config(CollectConfig, RoundsConfig, TeacherLogitsConfig):
    """On-policy distillation. The defaults run offline on the bundled pocket tasks and teacher."""

    recipe: Literal["opd"] = "opd"
    """Name of the recipe."""
    objective: Distillation = Distillation(temperature=1.0, alpha=1.0)
    """Divergence (default: the row's), temperature and weight."""

    @model_validator(mode="before")
    @classmethod
    def _divergence_of_the_row(cls, values: Any) -> Any:
        if not is_object(values) or values.get("row", "gkd") not in ROWS:
            return values  # the field itself refuses an unknown name
        given = values.get("objective", {})
        own = {"divergence": ROWS[values.get("row", "gkd")].divergence}
        return values | {"objective": own | given} if is_object(given) else values

    @model_validator(mode="after")
    def _gives_what_is_learnt(self) -> "Config":
        if self.table_row.teacher == "external" and self.teacher.type != "local":
            raise ValueError(
                f"teacher: row {self.row} reads its logits, and a text-only endpoint has none: give a local "
                "one, or choose a row in which the student teaches itself"
            )
        return self

    @model_validator(mode="after")
    def _aligned_teacher_reads_what_the_student_reads(self) -> "Config":
        row = self.table_row
        if self.cache.vocabularies == "aligned" and (row.shown != "nothing" or row.teacher == "itself"):
            raise ValueError(
                f"cache.vocabularies is aligned, and the teacher of row {self.row} "
                + ("is the student itself" if row.teacher == "itself" else "reads a prompt of its own")
                + ": a teacher with another tokenizer teaches in the rows gkd and refined"
            )
        return self

    @model_validator(mode="after")
    def _learns_from_the_teacher(self) -> "Config":
        if self.objective.alpha == 0:
            raise ValueError("objective.alpha is 0, which is cross-entropy alone: use sft or persd for that")
        if self.objective.alpha < 1 and self.on_policy > 0 and self.table_row.text == "attempt":
            raise ValueError(
                "objective.alpha below 1 would teach the student its own attempts, right or wrong: leave it "
                "at 1, or choose the row `refined`, or on_policy=0"
            )
        return self

    @contextmanager
    def bench(self, run: Run) -> Iterator[tuple[Workbench, Teaching | None]]:
        """A sandbox, and a teacher if the row needs another than the student itself.

        Raises what is wrong with tasks and teacher first, before anything is paid for.
        """
        if self.needs_teacher:
            with self.open(run) as teaching:
                yield teaching.students, teaching
        else:
            self.preflight(run)
            with self.execution.sandbox(self.sandbox) as sandbox:
                yield Workbench(sandbox, run), None


def distill(config: Config, run: Run) -> "Student":
    """Warm up; then, in each round, attempt, let the teacher read, train, evaluate."""
    with config.bench(run) as (bench, teaching):
        external, times = None, dict[int, Times]()
        if teaching and config.table_row.teacher == "external":
            external = cast("LocalTeacher", teaching.session.logits)  # as the config's teacher is local
        require = partial(_require_one_language, config, external, run) if external else None

        def collected(this: Round) -> list[Example]:
            times[this.number] = Times()
            return _collect(config, this, bench, teaching, times[this.number])

        def train(this: Round, learner: "Student", new: list[Example], examples: list[Example]) -> "Student":
            teacher = external or _itself(this.student)  # before the student is trained
            spent = times[this.number]
            with spent.of("teacher"):
                logits = _logits(config, this, learner, teacher, examples)
            with spent.of("gap"):
                measure_gap(learner, logits, new, config.objective, config.train.max_length, this.run)
            if not isinstance(logits, CachedLogits):
                logits = spent.timed(logits)
            with spent.of("student"):
                student = fit(learner, examples, config.objective, config.train, this.keeper, teacher=logits)
            spent.tell(this.run)
            return student

        return in_rounds(
            config,
            run,
            partial(initial_student, config, teaching and teaching.session, run, require),
            collect=collected,
            train=train,
            evaluate=lambda student, keeper: evaluate(
                student, "student", config.evaluate, bench.sandbox, keeper
            ),
            nothing=TaskError(
                "the first round gave no training example: no text was there to be scored.",
                next_step="Give more tasks; for rows with feedback or repairs, tasks that the student fails.",
            ),
        )


def _collect(
    config: Config, this: Round, bench: Workbench, teaching: Teaching | None, times: Times
) -> list[Example]:
    """The round's new training examples."""
    task_set = config.tasks.fresh(this.number)
    task_set = without_repeats(task_set, config.evaluate.tasks, config.decontaminate, this.run)
    require_trainable(task_set, False)
    return this.named(collect(config, task_set, this.student, bench, teaching, this.run, this.seed, times))


def _logits(
    config: Config, this: Round, student: "Student", teacher: "LocalTeacher", examples: list[Example]
) -> "LocalTeacher | CachedLogits":
    """The teacher, or a cache of what it says to the round's examples."""
    if config.teacher_logits == "live":
        return teacher
    from codestill.teachers.aligned import TokenizerPair

    aligned = config.cache.vocabularies == "aligned"
    pair = TokenizerPair(student.codec, teacher.codec) if aligned else None
    codec = student.codec if pair is None else pair.reader
    own = config.cache.directory
    directory = this.run.logits_directory if own is None else own / this.run.prefix
    temperature = config.objective.temperature
    cache = capture(examples, teacher, (temperature,), config.cache, directory, this.run, codec)
    return read_cache(cache, temperature, pair, examples, config.cache, this.run)


def _itself(student: "Student") -> "LocalTeacher":
    """The student as it is now, frozen."""
    from copy import deepcopy

    from codestill.teachers.frozen import LocalTeacher

    model = deepcopy(student.model)
    return LocalTeacher(
        model, student.tokenizer, student.name, placement=student.placement, chat=student.chat
    )


def _require_one_language(config: Config, teacher: "LocalTeacher", run: Run, student: "Student") -> None:
    """Raise VocabularyError where ids mean different tokens to the two, or their sequences end differently;
    say so where one is used to another chat template. With aligned vocabularies raise it where the two
    cannot be aligned, and say so where the end is not taught."""
    if config.cache.vocabularies == "aligned":
        from codestill.teachers.aligned import TokenizerPair

        if not TokenizerPair(student.codec, teacher.codec).ends_alike:
            run.message(
                "train",
                "student and teacher end their answers differently, so that the teacher says nothing of the "
                "end: a student that does not end yet will not learn it here.",
            )
        return
    require_same_vocabulary(
        student.tokenizer, teacher.tokenizer, student.vocabulary_size, teacher.vocabulary_size
    )
    if student.codec.end != teacher.codec.end:
        ends = [str(model.tokenizer.convert_ids_to_tokens(model.codec.end)) for model in (student, teacher)]
        raise VocabularyError(
            f"the student ends its text with {ends[0]}, the teacher with {ends[1]}: the student would learn "
            "to end with a token that does not end it.",
            next_step="Ask both in one form: set student.chat and teacher.chat alike, or choose a teacher of "
            "the student's kind.",
        )
    if student.form != teacher.form:
        run.message(
            "train",
            "student and teacher are asked in different forms, and the teacher reads the student's: set "
            "student.chat and teacher.chat alike if it is at a loss there.",
        )
