"""Warm-up: fine-tune the base student on reference solutions before the first round."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from codestill.config import RunConfig
from codestill.examples import references, require_room
from codestill.files.serialize import fingerprint
from codestill.losses import CrossEntropy
from codestill.models import StudentConfig
from codestill.run import Run
from codestill.tasks import TasksConfig, require_trainable
from codestill.teachers.session import TeacherSession
from codestill.teaching import TaughtConfig
from codestill.train import TrainConfig, fit
from codestill.types import Settings

if TYPE_CHECKING:
    from codestill.models.student import Student


class WarmUpConfig(Settings):
    """Fine-tuning on reference solutions before the first round."""

    tasks: TasksConfig = TasksConfig(source="pocket", split="train", count=1000)
    """Tasks whose references are trained on: other tasks than those of the rounds, or few attempts would
    fail."""
    train: TrainConfig = TrainConfig(
        max_steps=200, batch_tokens=1536, accumulation=1, learning_rate=1.5e-3, precision="float32"
    )
    """How the student is trained."""
    shared: Path | None = None
    """Directory in which runs share warmed-up students: each combination of student, settings and seed is
    trained once. Without it each run trains its own."""


class WarmedUpConfig(TaughtConfig):
    """Base of the recipes whose student is fine-tuned before the first round."""

    tasks: TasksConfig
    """Tasks of the rounds."""
    warm_up: WarmUpConfig | None = WarmUpConfig()
    """Fine-tuning before the first round; none for a student that can write code already."""


class SharedWarmUp(RunConfig):
    """A warm-up shared by several runs, as a run of its own."""

    recipe: Literal["warm_up"] = "warm_up"
    """Kind of the run."""
    student: StudentConfig
    """The student before warm-up."""
    warm_up: WarmUpConfig
    """How the student is warmed up."""


def initial_student(
    config: WarmedUpConfig,
    session: TeacherSession | None,
    run: Run,
    require: Callable[["Student"], None] | None = None,
) -> "Student":
    """The student before the first round: warmed up once, loaded on resume. A preset takes the tokenizer of a
    local teacher, if there is one. ``require`` is called before any work, and raises what speaks against it.
    """
    warm_up = config.warm_up
    tokenizer = session.tokenizer if session else None
    student = config.student.build(tokenizer, config.execution, seed=run.seed)
    require_room(student, config.tasks.load(), config.train, run)
    if require is not None:
        require(student)
    if warm_up is None:
        return student
    task_set = warm_up.tasks.load()
    require_trainable(task_set, False)

    def train(target: Run) -> "Student":
        return fit(student, references(task_set, student), CrossEntropy(), warm_up.train, target)

    if warm_up.shared is None:
        return train(run.part("warm-up"))
    settings: dict[str, Any] = {
        "student": config.student,
        "warm_up": warm_up.model_copy(update={"shared": None}),
    }
    own_config = SharedWarmUp(seed=run.seed, **settings)
    name = fingerprint(own_config.model_dump(mode="json", exclude={"execution", "sandbox"}))
    with Run.open(warm_up.shared / name, own_config) as own_run:
        return train(own_run)
