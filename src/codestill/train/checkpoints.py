"""Checkpoints that survive a kill, and the reporting of progress."""

import hashlib
import shutil
import time
from pathlib import Path
from typing import Any, Literal

from accelerate import PartialState
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from codestill.errors import RunError
from codestill.files.serialize import read_object, write_atomic, write_object
from codestill.run import Run
from codestill.train.batches import LengthBatches

COMPLETE = "complete"
FINISHED = "finished"
STUDENT = "student.json"


class Checkpoints(TrainerCallback):
    """The checkpoints of one training: only those marked complete count; the last and the best stay.

    A mark holds the SHA-256 of every file, which is compared before a file is read.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._intact: set[Path] = set()

    @property
    def finished(self) -> bool:
        """Whether the training ended and its student is saved."""
        return (self.directory / FINISHED).exists()

    def finish(self) -> None:
        """Mark the training as ended; its optimiser states are not needed again."""
        write_atomic(self.directory / FINISHED, "")
        for path in self._all():
            shutil.rmtree(path)

    def note(self, student: Path) -> None:
        """Remember what was saved as the student."""
        write_object(self.directory / STUDENT, _digests(student))

    def intact(self, student: Path) -> Path:
        """The saved student's directory. Raises RunError, naming the file, where it is not what :meth:`note`
        was given."""
        path = self.directory / STUDENT
        step = f"Delete {self.directory}, and run the same command again: the student is trained again."
        if not path.exists():
            raise RunError(
                f"{self.directory} does not say what was saved as the student: an earlier version wrote it.",
                next_step=step,
            )
        _require(student, path, step)
        return student

    def latest(self) -> Path | None:
        """The newest complete checkpoint; a torn one will be overwritten. Raises RunError where it is
        damaged."""
        complete = [path for path in self._all() if (path / COMPLETE).exists()]
        return self._checked(complete[-1]) if complete else None

    def _checked(self, checkpoint: Path) -> Path:
        if checkpoint not in self._intact:
            step = (
                f"Delete {checkpoint}, and run the same command again: training continues from the one "
                "before it, or begins again."
            )
            _require(checkpoint, checkpoint / COMPLETE, step)
            self._intact.add(checkpoint)
        return checkpoint

    def kept(self, keep: Literal["last", "best"]) -> Path:
        """The checkpoint that becomes the student; without validation the best is the last."""
        last = self.latest()
        assert last is not None, "a training ends with a checkpoint"
        best = TrainerState.load_from_json(str(last / TRAINER_STATE_NAME)).best_global_step
        return last if keep == "last" or best is None else self._checked(self._path(best))

    def _path(self, step: int) -> Path:
        return self.directory / f"checkpoint-{step}"

    @staticmethod
    def step(checkpoint: Path) -> int:
        """The optimiser step at which a checkpoint was written."""
        return int(checkpoint.name.rsplit("-", 1)[1])

    def _all(self) -> list[Path]:
        return sorted(self.directory.glob("checkpoint-*"), key=self.step)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Mark the checkpoint just written, then let older ones go."""
        PartialState().wait_for_everyone()  # every rank writes the state of its random numbers
        if not state.is_world_process_zero:
            return
        written = self._path(state.global_step)
        write_object(written / COMPLETE, _digests(written))
        self._intact.add(written)
        # By step, not by path: the run directory may have been moved since the best was written.
        stay = {written} if state.best_global_step is None else {written, self._path(state.best_global_step)}
        for path in self._all():
            if path not in stay:
                shutil.rmtree(path)


def _digests(directory: Path) -> dict[str, str]:
    """The SHA-256 of every file below a directory, by its path there."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != COMPLETE)
    return {path.relative_to(directory).as_posix(): _sha256(path) for path in files}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _require(directory: Path, noted: Path, next_step: str) -> None:
    for name, expected in read_object(noted, next_step).items():
        path = directory / name
        if not path.is_file() or _sha256(path) != expected:
            what = "is damaged: it is not what was written" if path.is_file() else "is missing"
            raise RunError(f"{path} {what}.", next_step=next_step)


class TrainingProgress(TrainerCallback):
    """Reports the run's progress in steps, with tokens per second in the steps alone: not in the first, which
    prepares the others, nor in checkpoints and validation."""

    def __init__(self, run: Run, batches: LengthBatches) -> None:
        self.run = run
        self.tokens_per_batch = sum(batches.lengths) / len(batches)
        self.started, self.seconds, self.steps = 0.0, 0.0, 0

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.started = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        self.steps += 1
        if self.steps == 2:
            self.seconds = 0.0
        self.seconds += time.monotonic() - self.started
        tokens = args.gradient_accumulation_steps * args.world_size * self.tokens_per_batch
        rate = max(self.steps - 1, 1) * tokens / max(self.seconds, 1e-9)
        told = {"tokens_per_second": round(rate), "trained_tokens": round(self.steps * tokens)}
        self.run.progress("train", state.global_step, state.max_steps, **told)
