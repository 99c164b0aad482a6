"""What can be set about the sandbox."""

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from codestill.sandbox.sandbox import Sandbox


class SandboxConfig(BaseModel):
    """Limits under which untrusted programs run."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    cpu_seconds: float = Field(default=10, gt=0)
    """CPU time of one program with all its tests; a task may bring its own."""
    wall_factor: float = Field(default=4, ge=1)
    """The wall-clock limit is this many times the CPU limit plus 2 s; it counts for waiting programs only."""
    memory_megabytes: int = Field(default=4096, ge=128)
    """Address space of a program, in MiB."""
    file_megabytes: int = Field(default=64, ge=0)
    """Size of each file that a program writes, in MiB."""
    output_kilobytes: int = Field(default=1000, ge=1)
    """Standard output and error together; a program that prints more is stopped."""
    open_files: int = Field(default=64, ge=16)
    """Files that a program may hold open."""
    unsafe: bool = False
    """Run even though a required isolation layer is missing on this machine."""

    def build(self, workers: int | None = None) -> "Sandbox":
        """Probe this machine and return the sandbox.

        Raises SandboxUnavailable, naming the layer, where a required one does not work.
        """
        from codestill.sandbox.sandbox import Sandbox

        return Sandbox(self, workers)
