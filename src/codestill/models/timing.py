"""How fast a model answers, measured in a fresh process and told with how far the repeats scatter.

Nothing here imports torch, whose own memory would otherwise be counted with that of programs that do without.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from codestill.errors import Failure
from codestill.files.usage import peak_bytes
from codestill.records import STEADY
from codestill.types import ModelProfile

WARM_UP = 3
TRIES = 3
"""Measurements at most, where the machine is busy."""

Timings = list[tuple[float, float]]
"""Seconds for the prompt and per generated token, of each repeat."""


def in_fresh_process(module: str, job: Mapping[str, Any], what: str) -> ModelProfile:
    """What ``python -m module JOB ANSWER`` measures. Raises Failure, which names ``what``, when it dies."""
    with tempfile.TemporaryDirectory(prefix="codestill-profile-") as temporary:
        answer = Path(temporary) / "profile.json"
        process = subprocess.run(
            [sys.executable, "-m", module, json.dumps(job), str(answer)],
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if process.returncode != 0 or not answer.exists():
            last = (process.stderr.strip() or "no message").splitlines()[-1]
            raise Failure(
                f"Profiling {what} ended with code {process.returncode}: {last}",
                next_step="A negative code is a signal: for lack of memory -9, for a program that was built "
                "for another processor -4. Try a smaller model, another device, or another build.",
            )
        return ModelProfile.model_validate_json(answer.read_text(encoding="utf-8"))


def measured_here(
    once: Callable[[], tuple[float, float]], job: Mapping[str, Any], **facts: Any
) -> ModelProfile:
    """Time ``once``, which gives seconds for the prompt and for each new token, as the job says."""

    def repeats() -> Timings:
        return [once() for _ in range(WARM_UP + job["repeats"])][WARM_UP:]

    timings, measured = calmest(repeats, TRIES)
    prompt_seconds, token_seconds = zip(*timings, strict=True)
    per_token = statistics.median(token_seconds)
    low, high = _quartiles(token_seconds)
    held = {"peak_memory_megabytes": peak_bytes() / 1e6, "device": "cpu"}
    return ModelProfile(
        prompt_milliseconds=statistics.median(prompt_seconds) * 1e3,
        token_milliseconds=per_token * 1e3,
        token_quartiles=(low * 1e3, high * 1e3),
        tokens_per_second=1 / per_token,
        prompt_tokens=job["prompt_tokens"],
        new_tokens=job["new_tokens"],
        repeats=job["repeats"],
        threads=job["threads"],
        measured=measured,
        **(held | facts),
    )


def calmest(measure: Callable[[], Timings], tries: int) -> tuple[Timings, int]:
    """The timings whose time per token scatters least, of at most ``tries`` measurements, and how many there
    were; one that is steady is not repeated."""
    best, spread = Timings(), math.inf
    for number in range(1, tries + 1):
        timings = measure()
        found = _spread([token for _, token in timings])
        if found < spread:
            best, spread = timings, found
        if spread <= STEADY:
            return best, number
    return best, tries


def _spread(seconds: Sequence[float]) -> float:
    """Distance of the quartiles as a share of the median."""
    low, high = _quartiles(seconds)
    return (high - low) / statistics.median(seconds)


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high
