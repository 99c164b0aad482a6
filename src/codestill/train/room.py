"""Whether a training has room on the disk, before a teacher is paid for it."""

import shutil

from codestill.errors import ConfigError
from codestill.models.student import Student
from codestill.run import Run


def require_disk(student: Student, run: Run) -> None:
    """Raises ConfigError where a run that begins has no room for the student and a checkpoint (weights and
    AdamW's two moments); with an adapter, for the student alone."""
    if run.checkpoints.exists() or run.student_directory.exists():
        return  # what is written already needs no room any more
    width = student.model.dtype.itemsize
    copies = 1 if student.adapter else 4
    needed = copies * width * student.model.num_parameters()
    free = shutil.disk_usage(run.directory).free
    if needed > free:
        raise ConfigError(
            f"training needs {needed / 1e9:,.3g} GB of disk in {run.directory}, and {free / 1e9:,.3g} GB is "
            "free.",
            next_step="Free some space, or choose a --run-dir on another disk"
            + ("." if student.adapter else "; an adapter (student.adapter) takes a quarter."),
        )
