"""What one round of a text teacher and a student gives: solutions, attempts, refinements of what failed.

Stages, each kept record by record: solutions (the teacher's, executed), attempts (the student's, at what was
solved), refinements (the teacher's, of attempts that failed).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from pydantic import BaseModel, PositiveInt

from codestill.attempt import Completer, attempt, requests
from codestill.embeddings import Embedder, OptionalEmbedderConfig, cosines
from codestill.examples import first_passing
from codestill.models import SamplingConfig
from codestill.prompts import Prompts
from codestill.recipes.persd.arms import Arm
from codestill.recipes.persd.nearness import nearness, summarise
from codestill.recipes.persd.refine import RefineConfig, counts, refine
from codestill.run import Run
from codestill.sandbox import Sandbox
from codestill.serialize import seed_for, to_json, write_atomic
from codestill.tasks import TaskSet
from codestill.teachers.desk import Desk
from codestill.types import Attempt, Refinement


class CollectConfig(BaseModel):
    """Settings of a recipe that collects."""

    solutions: Literal["teacher", "reference"] = "teacher"
    """Whose code the rows without personalisation hold."""
    attempts: SamplingConfig = SamplingConfig(temperature=0.3, top_p=0.95)
    """How the student attempts."""
    attempts_per_task: PositiveInt = 1
    """Attempts at each task."""
    refine: RefineConfig = RefineConfig()
    """How the teacher is asked to repair."""
    embedder: OptionalEmbedderConfig = None
    """Measures by embeddings, too, how near refinements lie to attempts and solutions."""
    spend: PositiveInt | None = None
    """Rows of so many tasks a round, drawn at random, as so many tokens written by the teacher pay for."""


@dataclass(frozen=True)
class Collection:
    """A round's records."""

    task_set: TaskSet
    solutions: dict[str, str]
    """Proved code by task id."""
    answers: Sequence[Attempt]
    """The teacher's, right or wrong; none where solutions are the tasks' own."""
    attempts: Sequence[Attempt]
    refinements: Sequence[Refinement]
    kept: Sequence[Refinement]
    """Those that count."""

    @property
    def failed(self) -> list[Attempt]:
        return [one for one in self.attempts if not one.result.passed]

    @property
    def repaired(self) -> list[Refinement]:
        """Refinements that pass their tests."""
        return [one for one in self.refinements if one.result.passed]

    def spent(self) -> dict[str, int]:
        """Tokens that the teacher wrote for each task, in whatever run that was."""
        found: dict[str, int] = {}
        for one in (*self.answers, *self.refinements):
            found[one.task_id] = found.get(one.task_id, 0) + one.completion.tokens
        return found

    def paid(self, limit: int, seed: int) -> list[str]:
        """Ids of tasks drawn at random until the teacher has written ``limit`` tokens for them: those that
        gave nothing cost, too."""
        spent, drawn = self.spent(), list[str]()
        for task in sorted(self.task_set.tasks, key=lambda task: seed_for(seed, task.task_id)):
            limit -= spent.get(task.task_id, 0)
            if limit < 0:
                break
            drawn.append(task.task_id)
        return drawn


def collect(
    config: CollectConfig,
    arm: Arm,
    task_set: TaskSet,
    student: Completer,
    desk: Desk,
    prompts: Prompts,
    sandbox: Sandbox,
    part: Run,
    seed: int,
) -> Collection:
    """Go through the stages that the arm needs. ``seed`` is the attempts': another one every round."""
    # First, so that one that cannot be loaded is said before the work.
    embedder = config.embedder.build() if config.embedder and arm.needs_refinements else None
    solutions, answers = _solve(config, task_set, desk, prompts, sandbox, part)
    attempts: list[Attempt] = []
    if arm.needs_attempts:
        make = partial(attempt, student, task_set, sandbox, config.attempts, seed)
        asked = [one for one in requests(task_set, config.attempts_per_task) if one.task_id in solutions]
        attempts = part.stage("attempts", Attempt, asked, make)
    refinements: list[Refinement] = []
    if arm.needs_refinements:
        teacher = desk.at(f"{part.prefix}refinements")
        repair = partial(refine, teacher, task_set, sandbox, prompts, config.refine, solutions, part.seed)
        failed = [one for one in attempts if not one.result.passed]
        refinements = part.stage("refinements", Refinement, failed, repair)
    kept = [one for one in refinements if counts(one, solutions[one.task_id], config.refine.keep)]
    made = Collection(task_set, solutions, answers, attempts, refinements, kept)
    _account(made, part)
    _measure(made, embedder, part)
    return made


def _solve(
    config: CollectConfig, task_set: TaskSet, desk: Desk, prompts: Prompts, sandbox: Sandbox, part: Run
) -> tuple[dict[str, str], list[Attempt]]:
    """Proved solutions by task id, and the answers that they were found among."""
    if config.solutions == "reference":
        return {task.task_id: task.reference for task in task_set.tasks}, []
    teacher = desk.at(f"{part.prefix}solutions")
    asked = requests(task_set, prompts=prompts)
    make = partial(attempt, teacher, task_set, sandbox, config.refine.sampling, part.seed, prompts=prompts)
    answers = part.stage("solutions", Attempt, asked, make)
    return first_passing(answers), answers


def _account(made: Collection, part: Run) -> None:
    """Answers count here whether this run asked for them or found them kept: so much the arm needs."""
    part.account(
        tasks=len(made.task_set),
        solved=len(made.solutions),
        solution_calls=len(made.answers),
        solution_tokens=sum(one.completion.tokens for one in made.answers),
        attempts=len(made.attempts),
        attempts_passed=sum(one.result.passed for one in made.attempts),
        refinement_calls=len(made.refinements),
        refinement_tokens=sum(one.completion.tokens for one in made.refinements),
        refined=len(made.repaired),
        refinements_kept=len(made.kept),
    )


def _measure(made: Collection, embedder: Embedder | None, part: Run) -> None:
    """Say how personal the refinements are that passed."""
    triples = [
        (one.attempt.completion.text, one.completion.text, made.solutions[one.task_id])
        for one in made.repaired
    ]
    of = [nearness(*triple) for triple in triples]
    if all(one.empty for one in of):
        return
    if embedder is not None:
        names = ("attempt_refinement", "refinement_solution", "attempt_solution")
        pairs = cosines(embedder, *zip(*triples, strict=True))
        of = [
            one.model_copy(update={f"{name}_embedding": n for name, n in zip(names, found, strict=True)})
            for one, *found in zip(of, *pairs, strict=True)
        ]
    write_atomic(part.directory / part.prefix / "nearness.json", to_json(summarise(of)) + "\n")
