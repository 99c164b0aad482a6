"""What a base student reads before it attempts anything: reference solutions of other tasks."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from codestill.config import ExecutionConfig, RunConfig
from codestill.examples import references
from codestill.losses import CrossEntropy
from codestill.models import StudentConfig
from codestill.run import Run
from codestill.serialize import fingerprint
from codestill.tasks import TasksConfig, require_trainable
from codestill.teachers import Teacher
from codestill.train import TrainConfig, fit
from codestill.types import Settings

if TYPE_CHECKING:
    from codestill.models.student import Student


class WarmUpConfig(Settings):
    """Reference solutions that the student reads before it attempts anything."""

    tasks: TasksConfig = TasksConfig(source="pocket", split="train", count=1000)
    """Whose references; other tasks than those to be attempted, else there is little left to repair."""
    train: TrainConfig = TrainConfig(
        max_steps=200, batch_tokens=1536, accumulation=1, learning_rate=1.5e-3, precision="float32"
    )
    """How it reads them."""
    shared: Path | None = None
    """Directory in which runs share what came of it: the same student, settings and seed are warmed up once.
    Without it each run does it anew."""


class SharedWarmUp(RunConfig):
    """A warm-up that several runs start from, as a run of its own."""

    recipe: Literal["warm_up"] = "warm_up"
    """What kind of run this is."""
    student: StudentConfig
    """The model before it."""
    warm_up: WarmUpConfig
    """What it reads."""


def start(
    student: StudentConfig,
    warm_up: WarmUpConfig | None,
    teacher: Teacher,
    execution: ExecutionConfig,
    run: Run,
) -> "Student":
    """The student before the first round; trained once, and then loaded. A preset takes the teacher's
    tokenizer, where it has one."""
    built = student.build(getattr(teacher, "tokenizer", None), execution.device, seed=run.seed)
    if warm_up is None:
        return built
    task_set = warm_up.tasks.load()
    require_trainable(task_set, False)

    def read(where: Run) -> "Student":
        return fit(built, references(task_set), CrossEntropy(), warm_up.train, where)

    if warm_up.shared is None:
        return read(run.part("warm-up"))
    alone: dict[str, Any] = {"student": student, "warm_up": warm_up.model_copy(update={"shared": None})}
    config = SharedWarmUp(seed=run.seed, **alone)
    name = fingerprint(config.model_dump(mode="json", exclude={"execution", "sandbox"}))
    with Run.open(warm_up.shared / name, config) as own:
        return read(own)
