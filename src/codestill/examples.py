"""What a student reads: tasks with their reference solutions, or with a teacher's verified answers."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from codestill.attempt import Completer, attempt, requests
from codestill.errors import ConfigError
from codestill.models import SamplingConfig
from codestill.run import Run
from codestill.sandbox import Sandbox
from codestill.serialize import seed_for
from codestill.tasks import TasksConfig, TaskSet, require_trainable
from codestill.types import Attempt, Example, Settings, Task

if TYPE_CHECKING:
    from collections.abc import Iterable


class ExamplesConfig(Settings):
    """Which tasks a student learns from, and whose answers to them."""

    tasks: TasksConfig = Field(default_factory=lambda: TasksConfig.model_validate("mbpp:train"))
    """Training tasks."""
    validation: TasksConfig | None = Field(
        default_factory=lambda: TasksConfig.model_validate("mbpp:validation")
    )
    """Tasks whose reference solutions give the validation loss; none to do without."""
    answers: Literal["reference", "teacher"] = "reference"
    """Whose completions: the tasks' own solutions, or the teacher's that pass the tests."""
    samples: PositiveInt = 1
    """Teacher answers drawn per task; the first that passes is kept."""
    temperature: float = Field(default=0.0, ge=0)
    """Temperature of the teacher's answers; 0 is greedy, and takes one sample."""
    max_new_tokens: PositiveInt = 384
    """Longest teacher answer, in tokens."""
    unsolved: Literal["drop", "reference"] = "drop"
    """What becomes of a task that the teacher does not solve."""
    allow_test_split: bool = False
    """Train on test tasks all the same. Scores on them then mean nothing."""

    @property
    def needs_teacher(self) -> bool:
        return self.answers == "teacher"


def training_examples(
    config: ExamplesConfig, teacher: Completer | None, sandbox: Sandbox, run: Run
) -> list[Example]:
    """One example per training task; with a teacher, of answers that execution proved.

    Raises TaskError when the tasks are a test split, ConfigError when a teacher is needed and missing.
    """
    task_set = config.tasks.load()
    require_trainable(task_set, config.allow_test_split)
    if not config.needs_teacher:
        made = references(task_set)
        run.account(tasks=len(task_set), references=len(made), teacher_answers=0, teacher_calls=0)
        return made
    if teacher is None:
        raise ConfigError(
            "examples.answers is teacher, and there is no teacher.",
            next_step="Set teacher.model, or examples.answers=reference.",
        )
    sampling = SamplingConfig(temperature=config.temperature, max_new_tokens=config.max_new_tokens)
    samples = config.samples if config.temperature else 1
    make = partial(attempt, teacher, task_set, sandbox, sampling, run.seed)
    answers = run.stage("answers", Attempt, requests(task_set, samples), make)
    proved = first_passing(answers)
    made = []
    for task in task_set.tasks:
        if task.task_id in proved:
            made.append(
                Example(
                    example_id=task.task_id,
                    prompt=task.prompt,
                    completion=proved[task.task_id],
                    source="teacher",
                )
            )
        elif config.unsolved == "reference":
            made.append(
                Example(
                    example_id=task.task_id, prompt=task.prompt, completion=task.reference, source="reference"
                )
            )
    run.account(
        tasks=len(task_set),
        references=sum(example.source == "reference" for example in made),
        teacher_answers=len(proved),
        teacher_calls=len(answers),
    )
    return made


def validation_examples(config: ExamplesConfig) -> list[Example]:
    """Reference solutions of the validation tasks; none when there are none."""
    return references(config.validation.load()) if config.validation else []


def references(task_set: TaskSet) -> list[Example]:
    """Every task with its reference solution."""
    return [
        Example(example_id=task.task_id, prompt=task.prompt, completion=task.reference, source="reference")
        for task in task_set.tasks
    ]


def first_passing(attempts: "Iterable[Attempt]") -> dict[str, str]:
    """Task id -> its first completion, by sample number, that passed every test."""
    proved: dict[str, Attempt] = {}
    for one in attempts:
        best = proved.get(one.task_id)
        if one.result.passed and (best is None or one.completion.sample < best.completion.sample):
            proved[one.task_id] = one
    return {task_id: one.completion.text for task_id, one in proved.items()}


def draw(items: Sequence[Task], limit: int | None, seed: int) -> list[Task]:
    """At most so many of the tasks, drawn at random, in their order; smaller draws are part of larger
    ones."""
    if limit is None:
        return list(items)
    kept = {one.key for one in sorted(items, key=lambda one: seed_for(seed, one.key))[:limit]}
    return [one for one in items if one.key in kept]


def subset(
    examples: Sequence[Example],
    limit: int | None,
    seed: int,
    size: Callable[[Example], int] = lambda _: 1,
) -> list[Example]:
    """Examples drawn at random whose sizes sum up to ``limit`` at most, in their order. Subsets are nested:
    one of the same examples and seed with a smaller limit is part of one with a larger."""
    if limit is None:
        return list(examples)
    kept: set[str] = set()
    for one in sorted(examples, key=lambda one: seed_for(seed, one.key)):
        limit -= size(one)
        if limit < 0:
            break
        kept.add(one.key)
    return [one for one in examples if one.key in kept]
