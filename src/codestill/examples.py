"""Training examples: tasks with their reference solutions, or with a teacher's verified answers."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import Field, PositiveInt, model_validator

from codestill.attempt import Workbench, solutions
from codestill.errors import ConfigError, TaskError
from codestill.files.serialize import seed_for
from codestill.models import Asked, Completer, SamplingConfig
from codestill.prompts import Prompts, PromptsSetting, prompts_for
from codestill.run import Keyed, Run
from codestill.sandbox import Sandbox
from codestill.tasks import TasksConfig, TaskSet, require_trainable
from codestill.tasks.decontaminate import DecontaminateConfig, without_repeats
from codestill.train import TrainConfig, require_ready
from codestill.types import Example, Settings, Task

if TYPE_CHECKING:
    from codestill.models.student import Student

K = TypeVar("K", bound=Keyed)
_SHORTEST = 2
"""Tokens that a completion has at least: one, and the end."""


class ExamplesConfig(Settings):
    """Which tasks a student is trained on, and with whose solutions."""

    tasks: TasksConfig = Field(default_factory=lambda: TasksConfig.model_validate("mbpp:train"))
    """Training tasks."""
    validation: TasksConfig | None = Field(
        default_factory=lambda: TasksConfig.model_validate("mbpp:validation")
    )
    """Tasks whose reference solutions give the validation loss; none to do without. The default is for MBPP's
    training tasks; with others it is none."""
    answers: Literal["reference", "teacher"] = "reference"
    """Whose completions: the tasks' own solutions, or the teacher's that pass the tests."""
    samples: PositiveInt = 1
    """Teacher answers sampled per task; the first that passes is kept."""
    temperature: float = Field(default=0.0, ge=0)
    """Temperature of the teacher's answers; 0 is greedy, and takes one sample."""
    max_new_tokens: PositiveInt = 1024
    """Longest teacher answer, in tokens; one that reaches it is not trained on."""
    prompts: PromptsSetting = "auto"
    """How the teacher is prompted: `continued`, `instruct`, or ``auto``, which suits it."""
    unsolved: Literal["drop", "reference"] = "drop"
    """What becomes of a task that the teacher does not solve."""
    decontaminate: DecontaminateConfig | None = None
    """Leave out tasks that repeat evaluation tasks; pocket tasks are split by composition instead."""
    allow_test_split: bool = False
    """Train on test tasks all the same. Scores on them then mean nothing."""

    @model_validator(mode="after")
    def _is_validated_on_its_own_tasks(self) -> "ExamplesConfig":
        if self.tasks.source != "mbpp" and "validation" not in self.model_fields_set:
            object.__setattr__(self, "validation", None)
        return self

    @property
    def needs_teacher(self) -> bool:
        return self.answers == "teacher"


def training_examples(
    config: ExamplesConfig,
    student: Asked,
    teacher: Completer | None,
    sandbox: Sandbox,
    run: Run,
    evaluated: TasksConfig | None = None,
) -> list[Example]:
    """One example per training task, in the form in which the student is asked; with a teacher, of answers
    that passed the tests. With ``config.decontaminate``, none of a task that ``evaluated`` repeats.

    Raises TaskError when the tasks are a test split or the teacher solves none of them, ConfigError when a
    teacher is needed and missing.
    """
    task_set = config.tasks.load()
    require_trainable(task_set, config.allow_test_split)
    if evaluated is not None:
        task_set = without_repeats(task_set, evaluated, config.decontaminate, run)
    if not config.needs_teacher:
        examples = references(task_set, student)
        run.account(tasks=len(task_set), references=len(examples), teacher_answers=0, teacher_calls=0)
        run.funnel({"tasks": len(task_set), "rows": len(examples)})
        return examples
    if teacher is None:
        raise ConfigError(
            "examples.answers is teacher, and there is no teacher.",
            next_step="Set teacher.model, or examples.answers=reference.",
        )
    sampling = SamplingConfig(temperature=config.temperature, max_new_tokens=config.max_new_tokens)
    samples = config.samples if config.temperature else 1
    bench = Workbench(sandbox, run, prompts_for(teacher, config.prompts))
    answers = bench.attempt("answers", teacher, task_set, sampling, samples=samples)
    completions = solutions(answers)
    examples = []
    for task in task_set.tasks:
        if task.task_id in completions:
            answer = completions[task.task_id]
            example = row(student, task, answer.text, "teacher")
            examples.append(example.model_copy(update={"kept": answer.kept}) if answer.kept else example)
        elif config.unsolved == "reference":
            examples.append(row(student, task, task.reference, "reference"))
    if not examples:
        raise TaskError(
            f"the teacher solved none of the {len(task_set)} training tasks, so nothing is left to learn.",
            next_step=f"See its answers: codestill show {run.directory} --stage answers. Or train on the "
            "tasks' own solutions as well: --examples.unsolved reference.",
        )
    run.account(
        tasks=len(task_set),
        references=sum(example.source == "reference" for example in examples),
        teacher_answers=len(completions),
        teacher_calls=len(answers),
    )
    run.funnel(
        {
            "tasks": len(task_set),
            "solved by the teacher": len(completions),
            "rows": len(examples),
        }
    )
    return examples


def validation_examples(config: ExamplesConfig, student: Asked) -> list[Example]:
    """Reference solutions of the validation tasks, as the student would write them; none when there are
    none."""
    return references(config.validation.load(), student) if config.validation else []


def references(task_set: TaskSet, student: Asked) -> list[Example]:
    """Every task with its reference solution, in the form in which the student is asked."""
    return [row(student, task, task.reference, "reference") for task in task_set.tasks]


def require_room(student: "Student", task_set: TaskSet, config: TrainConfig, run: Run) -> None:
    """Raises ConfigError, before a teacher is asked, where no task's prompt leaves room for a completion, or
    the disk has none for a checkpoint."""
    require_ready(student, config, run)
    limit = min(config.max_length, student.positions or config.max_length)
    prompts = prompts_for(student)
    shortest = min((len(student.codec.prompt(prompts.to_solve(task))) for task in task_set), default=0)
    if shortest + _SHORTEST > limit:
        what = "train.max_length" if limit == config.max_length else "the student's positions"
        raise ConfigError(
            f"no task leaves room for a completion: of {len(task_set)} prompts the shortest has "
            f"{shortest:,} tokens, and {what} allows {limit:,} with the completion.",
            next_step="Raise train.max_length, or choose tasks with shorter prompts or a student with more "
            "positions.",
        )


def row(
    student: Asked,
    task: Task,
    completion: str,
    source: str,
    example_id: str | None = None,
    *,
    attempt: str = "",
    prompts: Prompts | None = None,
) -> Example:
    """A completion of the task's prompt as the student would give it when it is asked to solve the task.

    ``attempt`` is the failed one that the completion repairs, if it repairs one; ``prompts`` are those that
    suit the student, unless others are given.
    """
    prompts = prompts or prompts_for(student)
    return Example(
        example_id=task.task_id if example_id is None else example_id,
        prompt=prompts.to_solve(task),
        completion=prompts.to_train(task, completion),
        suffix=task.suffix,
        source=source,
        attempt=prompts.to_train(task, attempt) if attempt else "",
    )


def subset(
    items: Sequence[K],
    limit: int | None,
    seed: int,
    size: Callable[[K], int] = lambda item: 1,
) -> list[K]:
    """Items sampled without replacement, in their order, whose sizes sum to ``limit`` at most.

    Subsets are nested: one of the same items and seed with a smaller limit is part of one with a larger.
    """
    if limit is None:
        return list(items)
    kept: set[str] = set()
    for item in sorted(items, key=lambda item: seed_for(seed, item.key)):
        limit -= size(item)
        if limit < 0:
            break
        kept.add(item.key)
    return [item for item in items if item.key in kept]
