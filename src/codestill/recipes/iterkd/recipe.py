"""The rounds of IterKD: solve, attempt, rate, train on correct and faulty programs, make new tasks. See the
folder's docstring."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from codestill.attempt import solved
from codestill.errors import ConfigError, TaskError
from codestill.evaluation import evaluate
from codestill.examples import subset
from codestill.losses import Contrastive, Objective
from codestill.models import SamplingConfig
from codestill.prompts import Prompts, fitting, prompt_set, prompts_for
from codestill.prompts.template import require_python
from codestill.recipes.iterkd.bins import BINS, Bin
from codestill.recipes.iterkd.faults import (
    FaultsConfig,
    contrastive_examples,
    fault_statistics,
    generated_by_teacher,
    mutated,
)
from codestill.recipes.iterkd.records import RoundRecord
from codestill.recipes.iterkd.update import UpdateConfig, next_tasks
from codestill.recipes.iterkd.validation import RoundValidation, StopConfig, write_round
from codestill.recipes.iterkd.views import FeedbackConfig, RoundFeedback, bins, judge_attempts
from codestill.records import GROWS
from codestill.run import Run
from codestill.synthesis import MADE
from codestill.tasks import TasksConfig, TaskSet, require_trainable
from codestill.tasks.decontaminate import DecontaminateConfig, without_repeats
from codestill.teaching import Teaching
from codestill.train import TrainConfig, fit
from codestill.types import Attempt, Example, FaultSource, Task
from codestill.warm_up import WarmedUpConfig, initial_student

if TYPE_CHECKING:
    from codestill.models.student import Student


class Config(WarmedUpConfig):
    """Iterative distillation. The defaults run offline on the bundled pocket tasks and teacher."""

    recipe: Literal["iterkd"] = "iterkd"
    """Name of the recipe."""
    tasks: TasksConfig = TasksConfig(source="pocket", split="train", count=300, skip=1000)
    """The first round's tasks."""
    decontaminate: DecontaminateConfig | None = None
    """Leave out tasks, new ones too, that repeat evaluation tasks. Held-out compositions of the pocket world
    are always left out."""
    rounds: PositiveInt = 3
    """Most rounds."""
    solution: SamplingConfig = SamplingConfig()
    """How the teacher's solutions are sampled."""
    attempts: SamplingConfig = SamplingConfig(temperature=0.3, top_p=0.95)
    """How the student's attempts are sampled."""
    attempts_per_task: PositiveInt = 2
    """Attempts at each task: the views rate them, and faults are taken from them."""
    faults: FaultsConfig = FaultsConfig()
    """Which faulty programs stand beside correct ones."""
    objective: Objective = Field(default_factory=Contrastive)
    """Cross-entropy with a contrastive term; or cross-entropy alone, which ignores faults."""
    feedback: FeedbackConfig = FeedbackConfig()
    """The two views, and what makes a task easy or hard."""
    update: UpdateConfig = UpdateConfig()
    """The next round's tasks."""
    replay_examples: Annotated[NonNegativeInt, GROWS] = 0
    """Examples of earlier rounds, sampled at random, that each round trains on again."""
    train: TrainConfig = TrainConfig(
        max_steps=60, batch_tokens=1536, accumulation=1, learning_rate=1e-3, precision="float32"
    )
    """How each round trains: it continues from the last round's student, with a new optimiser."""
    validation: TasksConfig = TasksConfig(source="pocket", split="validation", count=100)
    """Tasks on which each round is measured."""
    stop: StopConfig = StopConfig()
    """How it is measured, and when to stop before the last round."""
    retention_tasks: Annotated[PositiveInt, GROWS] = 100
    """Tasks of the first round that are attempted again after each: what is forgotten?"""

    @model_validator(mode="after")
    def _is_validated_on_its_own_tasks(self) -> "Config":
        if self.tasks.source != "pocket" and "validation" not in self.model_fields_set:
            raise ValueError(
                f"validation: the tasks are of {self.tasks.source}, and the default of the pocket world says "
                "nothing about them: give some of yours, e.g. mine.jsonl:validation"
            )
        return self

    @model_validator(mode="after")
    def _has_question(self) -> "Config":
        if self.prompts != "auto" and (lack := _lack(self.feedback, prompt_set(self.prompts))):
            raise ValueError(lack)
        return self


def _lack(feedback: FeedbackConfig, prompts: Prompts) -> str | None:
    """What the judge's prompts lack."""
    if feedback.views != "tool" and feedback.judge.form == "yes-no" and prompts.verdict is None:
        return f"feedback.judge.form: {prompts.version} has no question to answer yes or no"
    return None


def _judging(config: Config, teaching: Teaching) -> Teaching:
    """The judge at work: the teacher, or another model. Raises what is wrong with it before anything is
    paid."""
    judge, views = config.feedback.judge, config.feedback.views
    if judge.by == "model" and views != "tool":
        model = fitting(judge.model, config.prompts).build(config.execution)
        session = replace(teaching.session, teacher=model)
        teaching = replace(teaching, session=session, prompts=prompts_for(model, config.prompts))
    if lack := _lack(config.feedback, teaching.prompts):
        raise ConfigError(f"{lack}.", next_step="Use points, or a judge that follows instructions.")
    return teaching


def distill(config: Config, run: Run) -> "Student":
    """Warm up; then, in each round, solve, attempt, rate, train on correct and faulty programs, update."""
    with config.open(run) as teaching:
        judging = _judging(config, teaching)
        task_set = without_repeats(config.tasks.load(), config.evaluate.tasks, config.decontaminate, run)
        require_trainable(task_set, False)
        if config.rounds > 1 and config.update.questions != "static":
            require_python(task_set.tasks, "new tasks are made")
        student = initial_student(config, teaching.session, run)
        logits = teaching.session.logits if config.objective.needs_teacher else None
        retained = task_set.with_tasks(task_set.tasks[: config.retention_tasks])
        tokens = config.attempts.max_new_tokens
        validation = RoundValidation(config.validation.load(), retained, config.stop, tokens)
        validation.start(student, teaching.within(run.part("round-0")).students)
        known = Known()
        for number, part in enumerate(run.rounds(config.rounds)):
            here = teaching.round(part)
            known.tasks |= task_set.by_id
            correct = _solve(config, task_set, here)
            attempts = here.students.attempt(
                "attempts",
                student,
                task_set,
                config.attempts,
                samples=config.attempts_per_task,
                seed=run.seed + number,
            )
            judge = replace(here, session=judging.session, prompts=judging.prompts)
            feedback = _rate(config, task_set, attempts, judge, validation)
            binned = bins(config.feedback, feedback.feedback)
            known.bins |= binned
            new = _deliver(config, task_set, correct, attempts, student, here)
            examples = new + subset(known.examples, config.replay_examples, run.seed + number)
            known.examples += new
            if not examples:
                raise TaskError(
                    f"round {number + 1} has no training example: the teacher solved none of its tasks.",
                    next_step="Give more tasks, or a stronger teacher.",
                )
            last = run if number == config.rounds - 1 else part  # the last student is the run's
            here.run.funnel(
                {
                    "tasks": len(task_set),
                    "solved by the teacher": len(correct),
                    "attempts of the student": len(attempts),
                    "attempts that failed": sum(not attempt.result.passed for attempt in attempts),
                    "rows with a faulty program": sum(bool(example.faults) for example in examples),
                    "rows": len(examples),
                }
            )
            student = fit(student, examples, config.objective, config.train, last, teacher=logits)
            measured = validation.round(student, here.students)
            continues = last is part and not validation.stalled
            following = _next(config, task_set, known, here) if continues else task_set.with_tasks(())
            record = RoundRecord.model_validate(
                {
                    "round": number + 1,
                    "tasks": len(task_set),
                    "solved": len(correct),
                    "attempts": len(attempts),
                    "passed": sum(attempt.result.passed for attempt in attempts),
                    "bins": {name: Counter(binned.values())[name] for name in BINS},
                    "calibrations": feedback.calibrations,
                    "teacher_tokens": here.tokens,
                    **fault_statistics(new),
                    **measured,
                }
            )
            write_round(record, part)
            if last is part and not following.tasks:
                why = "validation stalls" if validation.stalled else "the teacher made no new task"
                run.message("stop", f"after round {number + 1} of {config.rounds}: {why}")
                student.save(run.student_directory)
                break
            task_set = following
        evaluate(student, "student", config.evaluate, teaching.sandbox, run)
    return student


@dataclass
class Known:
    """What the rounds so far have seen."""

    tasks: dict[str, Task] = field(default_factory=dict)
    bins: dict[str, Bin] = field(default_factory=dict)
    """How hard each task was when it was attempted last."""
    examples: list[Example] = field(default_factory=list)


def _solve(config: Config, task_set: TaskSet, teaching: Teaching) -> dict[str, str]:
    """Correct programs by task id. A task that the teacher made brings its own."""
    own = {task.task_id: task.reference for task in task_set.tasks if task.source == MADE}
    others = task_set.with_tasks(task for task in task_set.tasks if task.task_id not in own)
    if not others.tasks:
        return own
    return own | solved(teaching.attempt("solutions", others, config.solution))


def _rate(
    config: Config,
    task_set: TaskSet,
    attempts: Sequence[Attempt],
    judge: Teaching,
    validation: RoundValidation,
) -> RoundFeedback:
    """The views' feedback."""
    first = dict(validation.calibrations)
    feedback = judge_attempts(config.feedback, task_set, attempts, judge, first)
    for calibration in feedback.calibrations:
        validation.calibrations.setdefault(calibration.view, calibration)
    return feedback


def _deliver(
    config: Config,
    task_set: TaskSet,
    correct: Mapping[str, str],
    attempts: Sequence[Attempt],
    student: "Student",
    teaching: Teaching,
) -> list[Example]:
    """The round's training examples: correct programs, each with faulty ones."""
    settings = config.faults
    candidates: dict[FaultSource, Sequence[Attempt]] = {"student": attempts}
    if "teacher" in settings.sources:
        candidates["teacher"] = generated_by_teacher(settings, task_set, correct, teaching)
    if "mutation" in settings.sources:
        candidates["mutation"] = mutated(settings, task_set, correct, teaching.students)
    return contrastive_examples(settings, task_set, correct, candidates, student, teaching.run)


def _next(config: Config, task_set: TaskSet, known: Known, teaching: Teaching) -> TaskSet:
    """The next round's tasks, made from all so far."""
    seeds = task_set.with_tasks(known.tasks.values())
    sets = config.tasks, config.evaluate.tasks

    def trainable(prompt: str) -> bool:
        return all(tasks.trainable(prompt) for tasks in sets)

    made = next_tasks(config.update, seeds, known.bins, teaching, trainable)
    if config.update.questions == "static":
        return made
    return without_repeats(made, config.evaluate.tasks, config.decontaminate, teaching.run)
