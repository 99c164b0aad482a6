"""One round of a text teacher and a student: solutions, attempts, refinements of what failed.

Stages, each kept record by record: solutions (the teacher's, executed), attempts (the student's, at what was
solved), refinements (the teacher's, of attempts that failed).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from pydantic import PositiveInt

from codestill.attempt import solved
from codestill.embeddings import Embedder, OptionalEmbedderConfig, cosines
from codestill.files.serialize import seed_for
from codestill.models import Completer, SamplingConfig
from codestill.recipes.persd.arms import DataArm
from codestill.recipes.persd.keep import KeepConfig, is_kept
from codestill.recipes.persd.similarity import similarity, summarise
from codestill.records import GROWS, Settings
from codestill.refine import Refinement, refine
from codestill.run import Run
from codestill.tasks import TaskSet
from codestill.teaching import Teaching
from codestill.types import Attempt


class CollectConfig(Settings):
    """Settings of one collection."""

    solutions: Literal["teacher", "reference"] = "teacher"
    """Whose code the examples without personalisation hold."""
    attempts: SamplingConfig = SamplingConfig(temperature=0.3, top_p=0.95)
    """How the student's attempts are sampled."""
    attempts_per_task: PositiveInt = 1
    """Attempts at each task."""
    refine: KeepConfig = KeepConfig()
    """How the teacher is prompted to repair."""
    embedder: OptionalEmbedderConfig = None
    """Also measures by embeddings how close refinements are to attempts and solutions."""
    teacher_token_budget: Annotated[PositiveInt | None, GROWS] = None
    """Teacher-token budget per round: sample tasks until it is spent, and train only on theirs."""


@dataclass(frozen=True)
class Collection:
    """A round's records."""

    task_set: TaskSet
    solutions: dict[str, str]
    """Verified code by task id."""
    answers: Sequence[Attempt]
    """The teacher's, correct or not; none where solutions are the tasks' own."""
    attempts: Sequence[Attempt]
    refinements: Sequence[Refinement]
    kept: Sequence[Refinement]
    """Those that are trained on."""

    @property
    def failed(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if not attempt.result.passed]

    @property
    def repaired(self) -> list[Refinement]:
        """Refinements that pass their tests."""
        return [refinement for refinement in self.refinements if refinement.result.passed]

    def spent(self) -> dict[str, int]:
        """Tokens that the teacher generated for each task, in whatever run that was."""
        tokens: dict[str, int] = {}
        for answer in (*self.answers, *self.refinements):
            tokens[answer.task_id] = tokens.get(answer.task_id, 0) + answer.completion.tokens
        return tokens

    def paid(self, limit: int, seed: int) -> list[str]:
        """Ids of tasks sampled until the teacher has generated ``limit`` tokens for them: those that gave
        nothing cost, too."""
        spent, sampled = self.spent(), list[str]()
        for task in sorted(self.task_set.tasks, key=lambda task: seed_for(seed, task.task_id)):
            limit -= spent.get(task.task_id, 0)
            if limit < 0:
                break
            sampled.append(task.task_id)
        return sampled


def collect(
    config: CollectConfig, arm: DataArm, task_set: TaskSet, student: Completer, teaching: Teaching, seed: int
) -> Collection:
    """Go through the stages that the arm needs. ``seed`` is that of the attempts: a new one every round."""
    # First, so that one that cannot be loaded is reported before the work.
    embedder = config.embedder.build() if config.embedder and arm.needs_refinements else None
    run, samples = teaching.run, config.attempts_per_task
    answers: list[Attempt] = []
    if config.solutions == "reference":
        solutions = {task.task_id: task.reference for task in task_set.tasks}
    else:
        answers = teaching.attempt("solutions", task_set, config.refine.sampling)
        solutions = solved(answers)
    attempts: list[Attempt] = []
    if arm.needs_attempts:
        solvable = task_set.with_tasks(task for task in task_set.tasks if task.task_id in solutions)
        attempts = teaching.students.attempt(
            "attempts", student, solvable, config.attempts, samples=samples, seed=seed
        )
    refinements: list[Refinement] = []
    if arm.needs_refinements:
        repair = partial(refine, teaching, task_set, config.refine, solutions)
        failed = [attempt for attempt in attempts if not attempt.result.passed]
        refinements = run.stage("refinements", Refinement, failed, repair)
    keep = config.refine.keep
    kept = [repaired for repaired in refinements if is_kept(repaired, solutions[repaired.task_id], keep)]
    collection = Collection(task_set, solutions, answers, attempts, refinements, kept)
    _account(collection, run)
    run.funnel(_funnel(collection, arm))
    _measure(collection, embedder, run)
    return collection


def _account(collection: Collection, run: Run) -> None:
    """Answers count whether this run asked for them or found them kept: the arm needs them either way."""
    run.account(
        tasks=len(collection.task_set),
        solved=len(collection.solutions),
        solution_calls=len(collection.answers),
        solution_tokens=sum(answer.completion.tokens for answer in collection.answers),
        attempts=len(collection.attempts),
        attempts_passed=sum(attempt.result.passed for attempt in collection.attempts),
        refinement_calls=len(collection.refinements),
        refinement_tokens=sum(answer.completion.tokens for answer in collection.refinements),
        refined=len(collection.repaired),
        refinements_kept=len(collection.kept),
    )


def _funnel(collection: Collection, arm: DataArm) -> dict[str, int]:
    """What became of the tasks, as far as the arm goes."""
    steps = {"tasks": len(collection.task_set)}
    if collection.answers:
        steps["solved by the teacher"] = len(collection.solutions)
    if arm.needs_attempts:
        steps |= {"attempts of the student": len(collection.attempts)}
        steps |= {"attempts that failed": len(collection.failed)}
    if arm.needs_refinements:
        steps |= {"refined: repairs that pass": len(collection.repaired)}
        steps |= {"repairs kept": len(collection.kept)}
    return steps


def _measure(collection: Collection, embedder: Embedder | None, run: Run) -> None:
    """Write ``similarity.json``: how personal the refinements are that passed."""
    triples = [
        (
            refinement.attempt.completion.text,
            refinement.completion.text,
            collection.solutions[refinement.task_id],
        )
        for refinement in collection.repaired
    ]
    similarities = [similarity(*triple) for triple in triples]
    if all(measured.empty for measured in similarities):
        return
    if embedder is not None:
        names = ("attempt_refinement", "refinement_solution", "attempt_solution")
        pairs = cosines(embedder, *zip(*triples, strict=True))
        similarities = [
            measured.model_copy(
                update={f"{name}_embedding": cosine for name, cosine in zip(names, of_pair, strict=True)}
            )
            for measured, *of_pair in zip(similarities, *pairs, strict=True)
        ]
    run.write("similarity.json", summarise(similarities))
