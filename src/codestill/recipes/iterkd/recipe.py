"""Iterative distillation from right and wrong programs, with feedback from two views.

IterKD (arXiv:2408.03680), later called SODA.

Each round: the teacher solves the tasks; the student attempts them; attempts that fail stand beside the right
programs, and the student is trained on both (correct-and-fault knowledge delivery); a judge and a set of
tools look at the attempts (multi-view feedback); by what they say tasks are easy, medium or hard, and the
teacher asks new questions of each kind for the next round (feedback-based knowledge update).

Stages, each below its round: solutions, attempts, judgements, tools, teacher-faults and mutants where they
are sources, student, validation, first-tasks, and those of the new questions.
Our deviations: no implementation is public, so the contrastive formula, the bins' thresholds, the ratios and
the rule to stop are ours. Feedback is on attempts *before* a round's training, at questions that the student
has not read the answers of; they serve as faults, too. Seven languages there, tests and faults in one here.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from codestill.attempt import attempt, requests
from codestill.config import RunConfig
from codestill.errors import TaskError
from codestill.evaluation import EvaluateConfig, evaluate
from codestill.examples import first_passing, subset
from codestill.losses import Contrastive, Objective
from codestill.models import SamplingConfig, StudentConfig
from codestill.prompts import Prompts, PromptSetName, prompt_set
from codestill.recipes.iterkd.faults import FaultsConfig, described, mutated, rows, written_by_teacher
from codestill.recipes.iterkd.records import Cycle
from codestill.recipes.iterkd.update import UpdateConfig, ask
from codestill.recipes.iterkd.validation import Measured, StopConfig, keep
from codestill.recipes.iterkd.views import FeedbackConfig, Viewed, bins, look
from codestill.run import Run
from codestill.sandbox import Sandbox
from codestill.tasks import TasksConfig, TaskSet, require_trainable
from codestill.tasks.decontaminate import DecontaminateConfig, without_repeats
from codestill.teachers import LocalTeacherConfig, Teacher
from codestill.teachers.desk import AnyTeacherConfig, Desk, TeachingConfig, open_desk
from codestill.train import TrainConfig, fit
from codestill.types import BINS, Attempt, Bin, Example, FaultSource, Task
from codestill.warm_up import WarmUpConfig, start

if TYPE_CHECKING:
    from codestill.models.student import Student


class Config(RunConfig):
    """Iterative distillation. As it stands it is at home in the bundled pocket world."""

    recipe: Literal["iterkd"] = "iterkd"
    """Name of the recipe."""
    student: StudentConfig = StudentConfig(model="pocket-base")
    """The model that attempts, and learns."""
    warm_up: WarmUpConfig | None = WarmUpConfig()
    """What it learns first; none for a student that writes code already."""
    teacher: AnyTeacherConfig = LocalTeacherConfig(model="pocket")
    """Who solves, judges where no other judge is named, and asks."""
    teaching: TeachingConfig = TeachingConfig()
    """What is kept of its answers, and their budget."""
    prompts: PromptSetName | Prompts = "continued"
    """How the teacher and the judge are asked; `instruct` for those that follow instructions."""
    tasks: TasksConfig = TasksConfig(source="pocket", split="train", count=300, skip=1000)
    """The first round's questions."""
    decontaminate: DecontaminateConfig | None = None
    """Leave out questions, new ones too, that the evaluation repeats. Of the pocket world's, held-out
    compositions are always left out."""
    rounds: PositiveInt = 3
    """Most rounds."""
    solution: SamplingConfig = SamplingConfig()
    """How the teacher's right programs are drawn."""
    attempts: SamplingConfig = SamplingConfig(temperature=0.3, top_p=0.95)
    """How the student attempts."""
    attempts_per_task: PositiveInt = 2
    """Attempts at each task: what the views look at, and what faults are taken from."""
    faults: FaultsConfig = FaultsConfig()
    """Which faulty programs stand beside right ones."""
    objective: Objective = Field(default_factory=Contrastive)
    """Cross-entropy with a contrast; or cross-entropy alone, which reads no faults."""
    feedback: FeedbackConfig = FeedbackConfig()
    """The two views, and what makes a task easy or hard."""
    update: UpdateConfig = UpdateConfig()
    """The next round's questions."""
    replay: NonNegativeInt = 0
    """Rows of earlier rounds, drawn at random, that each round reads again."""
    train: TrainConfig = TrainConfig(
        max_steps=60, batch_tokens=1536, accumulation=1, learning_rate=1e-3, precision="float32"
    )
    """How each round trains; it goes on from the last round's student, with a new optimiser."""
    validation: TasksConfig = TasksConfig(source="pocket", split="validation", count=100)
    """Tasks that each round is measured on."""
    stop: StopConfig = StopConfig()
    """How, and when to stop before the last round."""
    watch: PositiveInt = 100
    """So many of the first round's questions are answered again after each round: what is forgotten?"""
    evaluate: EvaluateConfig = EvaluateConfig.model_validate(
        {
            "tasks": {"source": "pocket", "split": "test", "count": 300},
            "samples_per_task": 5,
            "profile": False,
        }
    )
    """How the last student is evaluated."""

    @model_validator(mode="after")
    def _can_be_done(self) -> "Config":
        if self.objective.needs_teacher and self.teacher.type != "local":
            raise ValueError("objective: an endpoint that answers in words has no logits to distil")
        return self


def distill(config: Config, run: Run) -> "Student":
    """Warm up; then round by round solve, attempt, look, train on right and wrong, and ask anew."""
    config.evaluate.tasks.load()  # what cannot be evaluated must fail before anything is paid for
    desk = open_desk(config.teacher, config.teaching, config.execution.device, run)
    student = start(config.student, config.warm_up, desk.teacher, config.execution, run)
    logits = desk.teacher if config.objective.needs_teacher else None
    task_set = without_repeats(config.tasks.load(), config.evaluate.tasks, config.decontaminate, run)
    require_trainable(task_set, False)
    watched = replace(task_set, tasks=task_set.tasks[: config.watch])
    read: list[Example] = []  # rows of earlier rounds
    asked: dict[str, Task] = {}  # every question so far
    levels: dict[str, Bin] = {}  # how hard each was when it was asked last
    with config.execution.sandbox(config.sandbox) as sandbox:
        tokens = config.attempts.max_new_tokens
        measured = Measured(config.validation.load(), watched, config.stop, tokens, sandbox)
        measured.start(student, run.part("round-0"))
        for number, part in enumerate(run.rounds(config.rounds)):
            last = run if number == config.rounds - 1 else part  # the last student is the run's
            work = Work(config, task_set, desk, sandbox, part)
            asked |= {task.task_id: task for task in task_set.tasks}
            right, solving = _solve(work)
            make = partial(attempt, student, task_set, sandbox, config.attempts, run.seed + number)
            attempts = part.stage("attempts", Attempt, requests(task_set, config.attempts_per_task), make)
            viewed = _look(work, attempts, measured)
            found = bins(config.feedback, viewed.feedback)
            levels |= found
            new, faulty = _deliver(work, right, attempts)
            examples = new + subset(read, config.replay, run.seed + number)
            read += new
            if not examples:
                raise TaskError(
                    f"round {number + 1} has no row to train on: the teacher solved none of its tasks.",
                    next_step="Give more tasks, or a stronger teacher.",
                )
            student = fit(student, examples, config.objective, config.train, last, teacher=logits)
            after = measured.round(student, part)
            going_on = last is part and not measured.stalled
            known = replace(task_set, tasks=tuple(asked.values()))
            following = _ask(work, known, levels) if going_on else replace(task_set, tasks=())
            spent = solving + faulty + viewed.tokens + _written(part, "question_tokens")
            _record(work, right, attempts, viewed, found, new, spent, after)
            if last is part and not following.tasks:
                why = "validation stalls" if measured.stalled else "the teacher made no new question"
                run.message("stop", f"after round {number + 1} of {config.rounds}: {why}")
                student.save(run.student_directory)
                break
            task_set = following
        evaluate(student, "student", config.evaluate, sandbox, run)
    return student


@dataclass(frozen=True)
class Work:
    """What every step of a round needs."""

    config: Config
    task_set: TaskSet
    desk: Desk
    sandbox: Sandbox
    part: Run

    def trainable(self, prompt: str) -> bool:
        """Whether neither the tasks nor the evaluation hold a prompt out."""
        return all(tasks.trainable(prompt) for tasks in (self.config.tasks, self.config.evaluate.tasks))

    @property
    def prompts(self) -> Prompts:
        return prompt_set(self.config.prompts)

    def teacher(self, stage: str) -> Teacher:
        return self.desk.at(f"{self.part.prefix}{stage}")


def _solve(work: Work) -> tuple[dict[str, str], int]:
    """Right programs by task id, and the tokens that they cost. A question that the teacher made brings its
    own, paid for when it was made."""
    made = {task.task_id: task.reference for task in work.task_set.tasks if task.source == "made"}
    others = replace(work.task_set, tasks=tuple(t for t in work.task_set.tasks if t.task_id not in made))
    if not others.tasks:
        return made, 0
    how = partial(attempt, work.teacher("solutions"), others, work.sandbox, work.config.solution)
    make = partial(how, work.part.seed, prompts=work.prompts)
    answers = work.part.stage("solutions", Attempt, requests(others, prompts=work.prompts), make)
    return made | first_passing(answers), sum(one.completion.tokens for one in answers)


def _look(work: Work, attempts: Sequence[Attempt], measured: Measured) -> Viewed:
    """What the views say; the judge is the teacher, or another model."""
    config = work.config.feedback
    desk = work.desk
    if config.judge.by == "model" and config.views != "tool":
        desk = replace(desk, teacher=config.judge.model.build(work.config.execution.device))
    judge = desk.at(f"{work.part.prefix}judgements")
    known = measured.calibrations
    viewed = look(config, work.task_set, attempts, judge, work.prompts, work.sandbox, work.part, dict(known))
    for one in viewed.calibrations:
        known.setdefault(one.view, one)
    return viewed


def _deliver(work: Work, right: Mapping[str, str], attempts: Sequence[Attempt]) -> tuple[list[Example], int]:
    """The round's rows, and what their faults cost."""
    config = work.config.faults
    candidates: dict[FaultSource, Sequence[Attempt]] = {"student": attempts}
    if "teacher" in config.sources:
        teacher = work.teacher("teacher-faults")
        rest = (teacher, work.prompts, work.sandbox, work.part)
        candidates["teacher"] = written_by_teacher(config, work.task_set, right, *rest)
    if "mutation" in config.sources:
        candidates["mutation"] = mutated(config, work.task_set, right, work.sandbox, work.part)
    tokens = sum(one.completion.tokens for one in candidates.get("teacher", ()))
    return rows(config, work.task_set, right, candidates, work.part), tokens


def _ask(work: Work, known: TaskSet, levels: Mapping[str, Bin]) -> TaskSet:
    """The next round's questions, from all that were asked so far."""
    teacher, update = work.teacher("questions"), work.config.update
    made = ask(update, known, levels, teacher, work.prompts, work.sandbox, work.part, work.trainable)
    if update.questions == "static":
        return made
    return without_repeats(made, work.config.evaluate.tasks, work.config.decontaminate, work.part)


def _written(part: Run, name: str) -> int:
    """A count that stages below this round have accounted for."""
    amounts = part.accounting.items()
    return sum(int(n) for key, n in amounts if key.startswith(part.prefix) and key.endswith(f"/{name}"))


def _record(
    work: Work,
    right: Mapping[str, str],
    attempts: Sequence[Attempt],
    viewed: Viewed,
    found: Mapping[str, Bin],
    new: Sequence[Example],
    spent: int,
    after: Mapping[str, Any],
) -> None:
    """The round, for the report."""
    counts = Counter(found.values())
    keep(
        Cycle(
            round=int(work.part.prefix.removeprefix("round-").strip("/")),
            tasks=len(work.task_set),
            solved=len(right),
            attempts=len(attempts),
            passed=sum(one.result.passed for one in attempts),
            bins={name: counts[name] for name in BINS},
            calibrations=viewed.calibrations,
            teacher_tokens=spent,
            **described(new),
            **after,
        ),
        work.part,
    )
