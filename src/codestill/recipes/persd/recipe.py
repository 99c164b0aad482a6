"""The rounds of personalised distillation: collect, train, evaluate. See the folder's docstring."""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt, model_validator

from codestill.errors import TaskError
from codestill.evaluation import evaluate
from codestill.examples import subset
from codestill.losses import CrossEntropy, Objective
from codestill.recipes.persd.arms import ARMS, ArmName, Code, arm_examples
from codestill.recipes.persd.collect import CollectConfig, collect
from codestill.recipes.persd.self_repair import SelfRepair, SelfRepairConfig, visible_tasks
from codestill.rounds import Round, RoundsConfig, in_rounds
from codestill.run import Run
from codestill.synthesis import SynthesisConfig, synthesise
from codestill.tasks import require_trainable
from codestill.tasks.decontaminate import without_repeats
from codestill.teaching import Teaching
from codestill.train import fit
from codestill.types import Example
from codestill.warm_up import initial_student

if TYPE_CHECKING:
    from codestill.models.student import Student


class Config(CollectConfig, RoundsConfig):
    """Personalised distillation. The defaults run offline on the bundled pocket tasks and teacher."""

    recipe: Literal["persd"] = "persd"
    """Name of the recipe."""
    arm: ArmName = "persd-combined"
    """Which examples the student is trained on."""
    synthesis: SynthesisConfig | None = None
    """Attempt new tasks that the teacher makes from these, with tests of its own."""
    generation_half: Code | None = None
    """Whose code the examples that teach to generate hold (default: the arm's own)."""
    start: Literal["base", "last"] = "base"
    """What each further round trains: the student as it was before the first round, or the last round's."""
    max_example_tokens: PositiveInt | None = None
    """At most this many tokens in a round's new examples, prompts and completions."""
    objective: Objective = Field(default_factory=CrossEntropy)
    """Cross-entropy, or distillation of a local teacher's logits on the same examples."""
    self_repair: SelfRepairConfig | None = None
    """Also evaluate the student repairing its own answers (multi-step inference)."""

    @model_validator(mode="after")
    def _has_explanations(self) -> "Config":
        if self.arm == "ilf" and not self.refine.explain:
            raise ValueError("arm ilf learns from natural-language feedback: set refine.explain")
        return self


def distill(config: Config, run: Run) -> "Student":
    """Warm up; then, in each round, solve, attempt, repair, train, evaluate."""
    with config.open(run) as teaching:
        logits = teaching.session.logits if config.objective.needs_teacher else None

        def train(this: Round, learner: "Student", _: list[Example], examples: list[Example]) -> "Student":
            return fit(learner, examples, config.objective, config.train, this.keeper, teacher=logits)

        return in_rounds(
            config,
            run,
            partial(initial_student, config, teaching.session, run),
            collect=lambda this: _collect(config, this, teaching.round(this.run)),
            train=train,
            evaluate=lambda student, keeper: _evaluate(config, student, teaching.within(keeper)),
            nothing=TaskError(
                "the first round gave no training example: no attempt failed, or no repair passed its tests.",
                next_step="Give more tasks or a stronger teacher, or use an arm of the teacher's own "
                "solutions.",
            ),
        )


def _collect(config: Config, this: Round, teaching: Teaching) -> list[Example]:
    """The round's new training examples."""
    run = teaching.run
    task_set = config.tasks.fresh(this.number)
    if config.synthesis is not None:
        task_set = synthesise(task_set, teaching, config.synthesis)
        run.funnel({"tasks proposed by the teacher": config.synthesis.proposals})
    task_set = without_repeats(task_set, config.evaluate.tasks, config.decontaminate, run)
    require_trainable(task_set, False)
    arm = ARMS[config.arm]
    if config.generation_half is not None and arm.generate is not None:
        arm = replace(arm, generate=config.generation_half)
    collection = collect(config, arm, task_set, this.student, teaching, seed=this.seed)
    solutions = collection.solutions
    if config.teacher_token_budget is not None:
        paid, spent = collection.paid(config.teacher_token_budget, run.seed), collection.spent()
        run.account(tasks_paid=len(paid), spent_tokens=sum(spent.get(task_id, 0) for task_id in paid))
        solutions = {task_id: solutions[task_id] for task_id in paid if task_id in solutions}
    failed = [(attempt, config.refine.feedback_on(attempt)) for attempt in collection.failed]
    examples = arm_examples(arm, this.student, task_set, solutions, failed, collection.kept)
    return subset(this.named(examples), config.max_example_tokens, config.seed, this.tokens)


def _evaluate(config: Config, student: "Student", teaching: Teaching) -> None:
    run, sandbox = teaching.run, teaching.sandbox
    evaluate(student, "student", config.evaluate, sandbox, run)
    if config.self_repair is None:
        return
    repair, samples = config.self_repair, config.self_repair.samples_per_task
    visible = visible_tasks(config.evaluate.tasks.load(), repair)
    own = config.evaluate.model_copy(update={"likelihood": None, "draft_for": None})  # of the student alone
    settings = own.model_copy(update={"samples_per_task": samples} if samples else {})
    for kind in dict.fromkeys((repair.feedback, *repair.compare_feedback)):
        repairing = SelfRepair(student, visible, sandbox, repair.model_copy(update={"feedback": kind}))
        name = "student-self-repair" if kind == repair.feedback else f"student-self-repair-{kind}"
        evaluate(repairing, name, settings, sandbox, run)
