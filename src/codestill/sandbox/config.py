"""Settings of the sandbox."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from codestill.types import Settings


class SandboxConfig(Settings):
    """Limits under which untrusted programs run, and how their verdict is reached."""

    verdict: Literal["split", "in-process"] = "split"
    """``split``: the tests run in a separate process, and the program sees none of them. ``in-process``: they
    share one, where a malicious program can fake a pass; results say so."""
    tier: Literal["best", "A", "B", "C", "unsafe"] = "best"
    """Isolation. A: namespaces, Landlock, seccomp, limits; B: without namespaces; C: seccomp and limits.
    ``best`` is the highest that works here, at least C; a letter is that tier or an error; ``unsafe`` runs
    with whatever works."""
    cpu_seconds: float = Field(default=10, gt=0)
    """CPU time of one program, and of its tests; a task may set its own limit."""
    wall_factor: float = Field(default=4, ge=1)
    """The wall-clock limit is this many times the CPU limit plus 2 s; only waiting programs meet it."""
    memory_megabytes: int = Field(default=4096, ge=128)
    """Address space of a program, in MiB."""
    file_megabytes: int = Field(default=64, ge=0)
    """Largest file that a program may write, and size of its scratch directory, in MiB."""
    output_kilobytes: int = Field(default=1000, ge=1)
    """Standard output and error together, in kB; a program that prints more fails."""
    open_files: int = Field(default=64, ge=16)
    """Files that a program may hold open."""
    preload: tuple[str, ...] = ()
    """Modules loaded once for all programs, e.g. numpy, besides common ones of the standard library."""
    cache: Path | None = None
    """Directory for expected values that tests compute from a reference (default: in the user's cache)."""
