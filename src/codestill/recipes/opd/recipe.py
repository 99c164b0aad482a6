"""The rounds of on-policy distillation: collect, measure, train, evaluate. See the folder's docstring."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import NonNegativeInt, PositiveInt, model_validator

from codestill.attempt import Workbench
from codestill.errors import TaskError, VocabularyError
from codestill.evaluation import evaluate
from codestill.examples import subset
from codestill.files.serialize import is_object
from codestill.losses import Distillation
from codestill.prompts import fitting, prompts_for
from codestill.recipes.opd.collect import CollectConfig, collect
from codestill.recipes.opd.gap import measure_gap
from codestill.recipes.opd.rows import ROWS
from codestill.run import Run
from codestill.tasks import TasksConfig, require_trainable
from codestill.tasks.decontaminate import DecontaminateConfig, without_repeats
from codestill.teachers import require_same_vocabulary
from codestill.teachers.session import open_session
from codestill.teaching import TaughtConfig, Teaching
from codestill.train import fit
from codestill.types import Example
from codestill.warm_up import WarmUpConfig, initial_student

if TYPE_CHECKING:
    from codestill.models.student import Student
    from codestill.teachers.frozen import LocalTeacher


class Config(CollectConfig, TaughtConfig):
    """On-policy distillation. The defaults run offline on the bundled pocket tasks and teacher."""

    recipe: Literal["opd"] = "opd"
    """Name of the recipe."""
    warm_up: WarmUpConfig | None = WarmUpConfig()
    """Fine-tuning before the first round; none for a student that can write code already."""
    tasks: TasksConfig = TasksConfig(source="pocket", split="train", count=500, skip=1000)
    """What is attempted; pocket tasks are fresh in every round."""
    decontaminate: DecontaminateConfig | None = None
    """Leave out tasks that repeat evaluation tasks; pocket tasks are split by composition instead."""
    rounds: PositiveInt = 1
    """Collections, each followed by training."""
    evaluated: Literal["all", "last"] = "all"
    """Which rounds' students are evaluated."""
    start: Literal["base", "last"] = "last"
    """What each further round trains: the student as it was before the first round, or the last round's."""
    replay_examples: NonNegativeInt = 0
    """Examples of earlier rounds, sampled at random, that each round trains on again."""
    max_examples: PositiveInt | None = None
    """At most this many new examples per round, sampled at random: for comparisons at equal data."""
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

        Raises what cannot be evaluated or loaded first, before anything is paid for.
        """
        self.evaluate.require()
        teacher = fitting(self.teacher, self.prompts)
        usage, placement = self.teacher_usage, self.execution
        session = open_session(teacher, usage, placement, run) if self.needs_teacher else None
        with self.execution.sandbox(self.sandbox) as sandbox:
            teaching = None
            if session is not None:
                teaching = Teaching(session, prompts_for(session, self.prompts), sandbox, run)
            yield Workbench(sandbox, run), teaching


def distill(config: Config, run: Run) -> "Student":
    """Warm up; then, in each round, attempt, let the teacher read, train, evaluate."""
    with config.bench(run) as (bench, teaching):
        external = None
        if teaching and config.table_row.teacher == "external":
            external = cast("LocalTeacher", teaching.session.logits)  # as the config's teacher is local
        require = partial(_require_one_language, external, run) if external else None
        session = teaching and teaching.session
        base = partial(initial_student, config, config.warm_up, session, run, require)
        student = base()
        earlier: list[Example] = []
        for number, part in enumerate(run.rounds(config.rounds)):
            new = _collect(config, number, student, bench, teaching, part)
            new = subset(new, config.max_examples, config.seed)
            examples = new + subset(earlier, config.replay_examples, config.seed + number)
            earlier += new
            part.account(examples=len(examples))
            teacher = external or _itself(student)  # before the student is trained
            learner = base() if config.start == "base" and number else student
            last = run if number == config.rounds - 1 else part  # the last student is the run's
            if examples:
                measure_gap(learner, teacher, new, config.objective, config.train.max_length, part)
                student = fit(learner, examples, config.objective, config.train, last, teacher=teacher)
            else:
                student = _keep(student, number, last)
            if config.evaluated == "all" or last is run:
                evaluate(student, "student", config.evaluate, bench.sandbox, last)
    return student


def _collect(
    config: Config, number: int, student: "Student", bench: Workbench, teaching: Teaching | None, part: Run
) -> list[Example]:
    """The round's new training examples."""
    task_set = without_repeats(config.tasks.fresh(number), config.evaluate.tasks, config.decontaminate, part)
    require_trainable(task_set, False)
    examples = collect(config, task_set, student, bench, teaching, part, part.seed + number)
    # A task may come again in a later round.
    return [example.model_copy(update={"example_id": part.named(example.example_id)}) for example in examples]


def _itself(student: "Student") -> "LocalTeacher":
    """The student as it is now, frozen."""
    from copy import deepcopy

    from codestill.teachers.frozen import LocalTeacher

    model = deepcopy(student.model)
    return LocalTeacher(
        model, student.tokenizer, student.name, placement=student.placement, chat=student.chat
    )


def _require_one_language(teacher: "LocalTeacher", run: Run, student: "Student") -> None:
    """Raise VocabularyError where ids mean different tokens to the two, or their sequences end differently;
    say so where one is used to another chat template."""
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


def _keep(student: "Student", number: int, last: Run) -> "Student":
    """After a round without examples the student stays as it was. Raises TaskError in the first round."""
    if number == 0:
        raise TaskError(
            "the first round gave no training example: no text was there to be scored.",
            next_step="Give more tasks; for rows with feedback or repairs, tasks that the student fails.",
        )
    last.message("train", "this round gave no training example: the student stays as it was")
    student.save(last.student_directory)
    return student
