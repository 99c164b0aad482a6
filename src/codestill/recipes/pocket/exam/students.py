"""The student whose attempts are repaired and judged: a base student trained on reference solutions."""

from codestill.examples import references
from codestill.losses import CrossEntropy
from codestill.models import Placement, StudentConfig
from codestill.models.student import Student
from codestill.run import Run
from codestill.tasks import TasksConfig
from codestill.train import TrainConfig, fit
from codestill.types import Settings


class RawStudentConfig(Settings):
    """A model trained on reference solutions; the default is the quickstart's raw arm."""

    model: str = "pocket-base"
    """The model that it starts from."""
    tasks: TasksConfig = TasksConfig(source="pocket", split="train", count=1000)
    """Tasks whose reference solutions it trains on."""
    train: TrainConfig = TrainConfig(
        max_steps=200, batch_tokens=1536, accumulation=1, learning_rate=1.5e-3, precision="float32"
    )
    """How it is trained."""


def raw_student(config: RawStudentConfig, placement: Placement, run: Run) -> Student:
    """The trained student; saved below ``raw/`` in the run."""
    student = StudentConfig(model=config.model).build(placement=placement)
    examples = references(config.tasks.load(), student)
    return fit(student, examples, CrossEntropy(), config.train, run.part("raw"))
