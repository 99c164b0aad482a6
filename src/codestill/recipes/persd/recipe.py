"""Personalised distillation: the teacher repairs what this student wrote (arXiv:2310.18628).

Each round: the teacher solves the tasks; the student attempts them; what fails is executed, and the teacher,
told what happened, repairs that attempt; repairs that pass become training rows as the arm says
(``arms``); the student is trained on them and evaluated. With many small rounds that go on from the last
student and read earlier rows again, this is the online form that the paper leaves open.

Stages, each below its round: solutions, attempts, refinements, student, evaluation.
Our deviations: tasks come with tests, or bring solutions whose tests were made before; a repair prompt holds
the function's header; the teacher does not see its own solution unless ``refine.show_solution`` is set; a
round's optimiser starts anew. For multi-step inference only the visible tests are run.
"""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from codestill.config import RunConfig
from codestill.errors import TaskError
from codestill.evaluation import EvaluateConfig, evaluate
from codestill.examples import subset
from codestill.losses import CrossEntropy, Objective
from codestill.models import StudentConfig
from codestill.prompts import Prompts, PromptSetName, prompt_set
from codestill.recipes.persd.arms import ARMS, ArmName, Code, rows
from codestill.recipes.persd.collect import CollectConfig, collect
from codestill.recipes.persd.self_repair import MultiStep, MultiStepConfig, visible_tasks
from codestill.run import Run
from codestill.sandbox import Sandbox
from codestill.synthesis import SynthesisConfig, synthesise
from codestill.tasks import TasksConfig, require_trainable
from codestill.tasks.decontaminate import DecontaminateConfig, without_repeats
from codestill.teachers import LocalTeacherConfig
from codestill.teachers.desk import AnyTeacherConfig, Desk, TeachingConfig, open_desk
from codestill.train import TrainConfig, fit
from codestill.types import Example
from codestill.warm_up import WarmUpConfig, start

if TYPE_CHECKING:
    from codestill.models.student import Student


class Config(CollectConfig, RunConfig):
    """Personalised distillation. As it stands it is at home in the bundled pocket world."""

    recipe: Literal["persd"] = "persd"
    """Name of the recipe."""
    arm: ArmName = "persd-combined"
    """Which rows the student is trained on."""
    student: StudentConfig = StudentConfig(model="pocket-base")
    """The model that attempts, and learns."""
    warm_up: WarmUpConfig | None = WarmUpConfig()
    """What it learns first; none for a student that writes code already."""
    teacher: AnyTeacherConfig = LocalTeacherConfig(model="pocket")
    """Who solves and repairs."""
    teaching: TeachingConfig = TeachingConfig()
    """What is kept of its answers, and their budget."""
    prompts: PromptSetName | Prompts = "continued"
    """How the teacher is asked; `instruct` for one that follows instructions."""
    tasks: TasksConfig = TasksConfig(source="pocket", split="train", count=500, skip=1000)
    """What is attempted; the pocket world gives each round fresh ones."""
    synthesis: SynthesisConfig | None = None
    """Attempt new tasks that the teacher makes from these, with tests of its own."""
    decontaminate: DecontaminateConfig | None = None
    """Leave out tasks that the evaluation repeats; for tasks in words, the pocket world is split by
    composition."""
    generation_half: Code | None = None
    """The code of the rows that teach to generate (default: the arm's own)."""
    rounds: PositiveInt = 1
    """Collections, each followed by training."""
    evaluated: Literal["all", "last"] = "all"
    """Which rounds' students are evaluated."""
    start: Literal["base", "last"] = "base"
    """What each further round trains: the student as it was before the first, or the last round's."""
    replay: NonNegativeInt = 0
    """Rows of earlier rounds, drawn at random, that each round reads again."""
    rows: PositiveInt | None = None
    """At most so many new rows a round, drawn at random: for comparisons at equal data."""
    row_tokens: PositiveInt | None = None
    """At most so many tokens in a round's new rows, prompts and completions."""
    objective: Objective = Field(default_factory=CrossEntropy)
    """Cross-entropy, or distillation of a local teacher's logits on the same rows."""
    train: TrainConfig = TrainConfig(
        max_steps=120, batch_tokens=1536, accumulation=1, learning_rate=1e-3, precision="float32"
    )
    """How each round trains."""
    evaluate: EvaluateConfig = EvaluateConfig.model_validate(
        {
            "tasks": {"source": "pocket", "split": "test", "count": 300},
            "samples_per_task": 5,
            "profile": False,
        }
    )
    """How the student is evaluated after each round."""
    multistep: MultiStepConfig | None = None
    """Also evaluate the student repairing its own answers."""

    @model_validator(mode="after")
    def _can_be_done(self) -> "Config":
        if self.objective.needs_teacher and self.teacher.type != "local":
            raise ValueError("objective: an endpoint that answers in words has no logits to distil")
        if self.arm == "ilf" and not self.refine.explain:
            raise ValueError("arm ilf learns from feedback in words: set refine.explain")
        return self


def distill(config: Config, run: Run) -> "Student":
    """Warm up; then round by round solve, attempt, repair, train, evaluate."""
    config.evaluate.tasks.load()  # what cannot be evaluated must fail before anything is paid for
    desk = open_desk(config.teacher, config.teaching, config.execution.device, run)
    begin = partial(start, config.student, config.warm_up, desk.teacher, config.execution, run)
    student = begin()
    collected: list[Example] = []
    with config.execution.sandbox(config.sandbox) as sandbox:
        for number, part in enumerate(run.rounds(config.rounds)):
            size = partial(_tokens, student)
            new = subset(_collect(config, number, student, desk, sandbox, part), config.rows, config.seed)
            new = subset(new, config.row_tokens, config.seed, size)
            examples = new + subset(collected, config.replay, config.seed + number)
            collected += new
            part.account(rows=len(examples), row_tokens=sum(map(size, examples)))
            learner = begin() if config.start == "base" and number else student
            logits = desk.teacher if config.objective.needs_teacher else None
            last = run if number == config.rounds - 1 else part  # the last student is the run's
            if examples:
                student = fit(learner, examples, config.objective, config.train, last, teacher=logits)
            else:
                student = _keep(student, number, last)
            if config.evaluated == "all" or last is run:
                _evaluate(config, student, sandbox, last)
    return student


def _keep(student: "Student", number: int, last: Run) -> "Student":
    """After a round without rows the student stays as it was. Raises TaskError where no round had any."""
    if number == 0:
        raise TaskError(
            "the first round gave no row to train on: no attempt failed, or no repair passed its tests.",
            next_step="Give more tasks or a stronger teacher, or take an arm of the teacher's own solutions.",
        )
    last.message("train", "this round gave no rows: the student stays as it was")
    student.save(last.student_directory)
    return student


def _collect(
    config: Config, number: int, student: "Student", desk: Desk, sandbox: Sandbox, part: Run
) -> list[Example]:
    """The round's new rows."""
    task_set = config.tasks.fresh(number)
    prompts = prompt_set(config.prompts)
    if config.synthesis is not None:
        maker = desk.at(f"{part.prefix}synthesis")
        task_set = synthesise(task_set, maker, prompts, config.synthesis, sandbox, part)
    task_set = without_repeats(task_set, config.evaluate.tasks, config.decontaminate, part)
    require_trainable(task_set, False)
    arm = ARMS[config.arm]
    if config.generation_half is not None and arm.generate is not None:
        arm = replace(arm, generate=config.generation_half)
    found = collect(config, arm, task_set, student, desk, prompts, sandbox, part, seed=part.seed + number)
    solutions = found.solutions
    if config.spend is not None:
        paid, spent = found.paid(config.spend, part.seed), found.spent()
        part.account(tasks_paid=len(paid), spent_tokens=sum(spent.get(task_id, 0) for task_id in paid))
        solutions = {task_id: solutions[task_id] for task_id in paid if task_id in solutions}
    made = rows(arm, task_set, solutions, [(one, config.refine.say(one)) for one in found.failed], found.kept)
    # A task may come again in a later round.
    return [one.model_copy(update={"example_id": f"{part.prefix}{one.example_id}"}) for one in made]


def _tokens(student: "Student", one: Example) -> int:
    """Of a row, prompt and completion."""
    return len(student.tokenizer.encode(one.prompt + one.completion))


def _evaluate(config: Config, student: "Student", sandbox: Sandbox, run: Run) -> None:
    evaluate(student, "student", config.evaluate, sandbox, run)
    if config.multistep is not None:
        how, samples = config.multistep, config.multistep.samples_per_task
        visible = visible_tasks(config.evaluate.tasks.load(), how)
        asked = config.evaluate.model_copy(update={"samples_per_task": samples} if samples else {})
        for told in dict.fromkeys((how.feedback, *how.also)):
            again = MultiStep(student, visible, sandbox, how.model_copy(update={"feedback": told}))
            name = "student-multistep" if told == how.feedback else f"student-multistep-{told}"
            evaluate(again, name, asked, sandbox, run)
