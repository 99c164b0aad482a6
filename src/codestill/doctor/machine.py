"""Versions, devices and places."""

import importlib
import os
import sys
from importlib import metadata
from typing import Any

import psutil

from codestill.environment import environment
from codestill.files.cache import cache_directory
from codestill.sandbox.payload import Tests


def machine() -> list[tuple[str, str]]:
    """``(name, value)``: versions, devices, and where files are cached."""
    versions = environment()
    named = ("codestill", "python", "torch", "platform", "processor", "cores")
    libraries = [f"{name} {version}" for name, version in versions.items() if name not in named]
    memory = psutil.virtual_memory()
    return [
        ("codestill", versions["codestill"]),
        ("python", f"{versions['python']}, {sys.executable}"),
        ("torch", _torch(versions["torch"])),
        ("libraries", ", ".join(libraries)),
        ("optional", ", ".join(f"{name} {_version(name)}" for name in ("gguf", "tensorboard", "wandb"))),
        ("system", f"{versions['platform']}, {versions['processor']}"),
        ("cores", f"{_usable_cores()} usable of {versions['cores']}"),
        ("memory", f"{memory.total / 2**30:.1f} GiB, of which {memory.available / 2**30:.1f} are available"),
        ("tasks", os.environ.get("CODESTILL_DATA") or "CODESTILL_DATA is not set: files come from the hub"),
        ("expected values", str(Tests(None).cache)),
        ("models", _hub()),
        ("GGUF files", f"dequantised below {cache_directory('gguf')}"),
    ]


def _torch(version: str) -> str:
    try:
        torch: Any = importlib.import_module("torch")
    except (ImportError, OSError) as error:  # a library that does not fit this machine is an OSError
        return f"{version}, which does not load: {error}"
    if not torch.cuda.is_available():
        return f"{torch.__version__}, on the CPU with {torch.get_num_threads()} threads"
    devices = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    names = ", ".join(f"{device.name} ({device.total_memory / 2**30:.0f} GiB)" for device in devices)
    return f"{torch.__version__}, on {names}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _usable_cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _hub() -> str:
    from huggingface_hub import constants

    return constants.HF_HUB_CACHE + (", offline" if constants.HF_HUB_OFFLINE else "")
