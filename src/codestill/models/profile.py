"""What a model costs to deploy, measured so that two models can be compared.

Every model is saved, loaded in a fresh process and timed there: batch 1, KV cache, the same number of prompt
and generated tokens for every model (the end-of-sequence token is ignored), warm-up first, medians over the
repeats, the GPU synchronised before the clock is read. Peak memory on the CPU is that process's VmHWM, with
Python, torch and loading, since a deployment pays for them too. (In a process that trained before, the
high-water mark would be the training's; ``getrusage`` would inherit the parent's.) On CUDA it is the
allocator's peak. Where the repeats scatter, other processes were at work: they are made again, and the
calmest are kept, with their quartiles.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from codestill.errors import Failure
from codestill.files.usage import peak_bytes
from codestill.models.decode import NO_LIMIT, forward_last
from codestill.models.load import load_weights
from codestill.models.sample import position_limit
from codestill.models.settings import Device
from codestill.records import STEADY
from codestill.types import ModelProfile

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WARM_UP = 3
TRIES = 3
"""Measurements at most, where the machine is busy."""


def profile(
    model: "PreTrainedModel",
    prompt_tokens: int,
    new_tokens: int,
    repeats: int,
    threads: int | None,
    trust_remote_code: bool = False,
) -> ModelProfile:
    """Save the model to a temporary directory and measure it in a fresh process.

    A model with fewer positions than ``prompt_tokens + new_tokens`` is measured with as many as it has; the
    profile records the lengths used. ``threads`` defaults to torch's number in this process. Raises Failure
    when the measuring process dies.
    """
    limit = position_limit(model.config) or NO_LIMIT
    new_tokens = min(new_tokens, limit // 2)
    prompt_tokens = min(prompt_tokens, limit - new_tokens)
    with tempfile.TemporaryDirectory(prefix="codestill-profile-") as temporary:
        directory = Path(temporary) / "model"
        model.save_pretrained(directory)
        job = {
            "directory": str(directory),
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": model.device.type,
            "trust_remote_code": trust_remote_code,
            "prompt_tokens": prompt_tokens,
            "new_tokens": new_tokens,
            "repeats": repeats,
            "threads": threads or torch.get_num_threads(),
        }
        answer = Path(temporary) / "profile.json"
        process = subprocess.run(
            [sys.executable, "-m", "codestill.models.profile", json.dumps(job), str(answer)],
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if process.returncode != 0 or not answer.exists():
            last = (process.stderr.strip() or "no message").splitlines()[-1]
            raise Failure(
                f"Profiling a {model.config.model_type} model ended with code {process.returncode}: {last}",
                next_step="A negative code is a signal, often for lack of memory; try a smaller model "
                "or another device.",
            )
        return ModelProfile.model_validate_json(answer.read_text(encoding="utf-8"))


def measure_here(job: dict[str, Any]) -> ModelProfile:
    """Load ``job["directory"]`` and time it in this process."""
    torch.set_num_threads(job["threads"])
    directory, device = Path(job["directory"]), cast(Device, job["device"])
    model = load_weights(
        str(directory),
        revision=None,
        trust_remote_code=job["trust_remote_code"],
        dtype=job["dtype"],
        device=device,
    )
    timings, measured = calmest(lambda: _repeat(model, job), TRIES)
    prompt_seconds, token_seconds = zip(*timings, strict=True)
    per_token = statistics.median(token_seconds)
    low, high = _quartiles(token_seconds)
    held = torch.cuda.max_memory_allocated() if device == "cuda" else peak_bytes()
    return ModelProfile(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        file_megabytes=sum(file.stat().st_size for file in directory.glob("*.safetensors")) / 1e6,
        prompt_milliseconds=statistics.median(prompt_seconds) * 1e3,
        token_milliseconds=per_token * 1e3,
        token_quartiles=(low * 1e3, high * 1e3),
        tokens_per_second=1 / per_token,
        peak_memory_megabytes=held / 1e6,
        prompt_tokens=job["prompt_tokens"],
        new_tokens=job["new_tokens"],
        repeats=job["repeats"],
        device=torch.cuda.get_device_name() if device == "cuda" else "cpu",
        dtype=job["dtype"],
        threads=job["threads"],
        measured=measured,
    )


Timings = list[tuple[float, float]]
"""Seconds for the prompt and per generated token, of each repeat."""


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


def _repeat(model: Any, job: dict[str, Any]) -> Timings:
    """The repeats, after the warm-up."""
    every = [
        _time_once(model, job["prompt_tokens"], job["new_tokens"]) for _ in range(WARM_UP + job["repeats"])
    ]
    return every[WARM_UP:]


@torch.inference_mode()
def _time_once(model: Any, prompt_tokens: int, new_tokens: int) -> tuple[float, float]:
    """Seconds for the prompt, and seconds per generated token."""
    generator = torch.Generator().manual_seed(0)
    rows = model.get_output_embeddings().weight.shape[0]
    tokens_BT = torch.randint(rows, (1, prompt_tokens), generator=generator).to(model.device)
    positions_BT = torch.arange(prompt_tokens + new_tokens, device=model.device)[None]
    mask_BT = torch.ones_like(positions_BT)

    start = _now()
    logits_BV, cache = forward_last(
        model, tokens_BT, mask_BT[:, :prompt_tokens], positions_BT[:, :prompt_tokens]
    )
    next_B = logits_BV.argmax(dim=-1)
    prefilled = _now()
    for length in range(prompt_tokens, prompt_tokens + new_tokens):
        if cache is None:  # a model without one reads the whole text again
            tokens_BT = torch.cat([tokens_BT, next_B[:, None]], dim=1)
            start_of_new, new_BT = 0, tokens_BT
        else:
            start_of_new, new_BT = length, next_B[:, None]
        seen = length + 1
        logits_BV, cache = forward_last(
            model, new_BT, mask_BT[:, :seen], positions_BT[:, start_of_new:seen], cache
        )
        next_B = logits_BV.argmax(dim=-1)
    return prefilled - start, (_now() - prefilled) / new_tokens


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    measured = measure_here(json.loads(sys.argv[1]))
    Path(sys.argv[2]).write_text(measured.model_dump_json(), encoding="utf-8")
