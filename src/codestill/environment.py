"""What numbers were measured with: versions and machine."""

import os
import platform
from importlib import metadata
from pathlib import Path

from codestill.version import __version__

PACKAGES = (
    *("torch", "transformers", "tokenizers", "datasets", "accelerate", "numpy", "pydantic", "sacrebleu"),
    *("peft", "bitsandbytes"),  # where a student has an adapter
)


def environment() -> dict[str, str]:
    """The versions and the machine behind the run's numbers."""
    versions = {"codestill": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "absent"
    return versions | {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
