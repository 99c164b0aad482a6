"""Trainings that several runs have in common, such as the warm-up of a comparison's arms, done once."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from codestill.losses import Objective
from codestill.models.fingerprints import tokenizer_fingerprint, weights_fingerprint
from codestill.models.student import Student
from codestill.serialize import fingerprint
from codestill.teachers import LogitTeacher
from codestill.teachers.cached import CachedLogits
from codestill.train import TrainConfig
from codestill.types import Example


@dataclass(frozen=True)
class Shared:
    """Where a trained student is kept for other runs, by all that it depends on."""

    directory: Path

    @classmethod
    def of(
        cls,
        student: Student,
        examples: Sequence[Example],
        validation: Sequence[Example],
        objective: Objective,
        config: TrainConfig,
        seed: int,
        teacher: "LogitTeacher | CachedLogits | None",
    ) -> "Shared | None":
        """None where nothing is shared, or a teacher's logits take part: they are not looked at here."""
        if config.shared is None or teacher is not None:
            return None
        name = fingerprint(
            {
                "weights": weights_fingerprint(student.model),
                "tokenizer": tokenizer_fingerprint(student.tokenizer),
                "examples": [(one.prompt, one.completion) for one in examples],
                "validation": [(one.prompt, one.completion) for one in validation],
                "objective": objective.model_dump(mode="json"),
                "config": config.model_dump(mode="json", exclude={"shared"}),
                "seed": seed,
                "torch": torch.__version__,
            }
        )
        return cls(config.shared / name)

    @property
    def exists(self) -> bool:
        return self.directory.exists()

    def take(self, student_directory: Path) -> None:
        """Copy it to a run."""
        _copy(self.directory, student_directory)

    def give(self, student_directory: Path) -> None:
        """Keep a run's student, where none is kept yet."""
        if not self.exists:
            _copy(student_directory, self.directory)


def _copy(source: Path, target: Path) -> None:
    """Whole or not at all; several processes may do it at once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(source, temporary)
    shutil.rmtree(target, ignore_errors=True)
    try:
        temporary.rename(target)
    except OSError:  # another was quicker
        shutil.rmtree(temporary, ignore_errors=True)
