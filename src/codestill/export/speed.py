"""Time an artefact in its own program, in a fresh process: ``python -m codestill.export.speed JOB ANSWER``.

The work is that of :mod:`codestill.models.profile`, beside whose timings these stand: one text, as many
prompt and new tokens, threads and repeats.
"""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codestill.export.form import form
from codestill.models.timing import measured_here
from codestill.types import ModelProfile

if TYPE_CHECKING:
    from codestill.models.alone import Reader


def measure_here(job: Mapping[str, Any]) -> ModelProfile:
    """Open the artefact and time it in this process."""
    reader = form(job["form"]).open(
        Path(job["place"]), job["threads"], job["prompt_tokens"] + job["new_tokens"]
    )
    return measured_here(
        lambda: _time_once(reader, job["prompt_tokens"], job["new_tokens"]),
        job,
        parameters=job["parameters"],
        file_megabytes=job["megabytes"],
        dtype=job["kind"],
    )


def _time_once(reader: "Reader", prompt_tokens: int, new_tokens: int) -> tuple[float, float]:
    """Seconds for the prompt, and seconds per generated token."""
    reader.begin()
    start = time.perf_counter()
    token = int(reader.read([(7 * place) % 200 + 5 for place in range(prompt_tokens)])[-1].argmax())
    prefilled = time.perf_counter()
    for _ in range(new_tokens):
        token = int(reader.read([token])[-1].argmax())
    return prefilled - start, (time.perf_counter() - prefilled) / new_tokens


if __name__ == "__main__":
    measured = measure_here(json.loads(sys.argv[1]))
    Path(sys.argv[2]).write_text(measured.model_dump_json(), encoding="utf-8")
