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
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from codestill.models.batch import position_limit
from codestill.models.decode import NO_LIMIT, forward_last
from codestill.models.load import load_weights
from codestill.models.settings import Device
from codestill.models.timing import in_fresh_process, measured_here
from codestill.types import ModelProfile

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
    prompt_tokens, new_tokens = lengths(position_limit(model.config), prompt_tokens, new_tokens)
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
        return in_fresh_process("codestill.models.profile", job, f"a {model.config.model_type} model")


def lengths(positions: int | None, prompt_tokens: int, new_tokens: int) -> tuple[int, int]:
    """Prompt and new tokens that a model has room for."""
    limit = positions or NO_LIMIT
    new_tokens = min(new_tokens, limit // 2)
    return min(prompt_tokens, limit - new_tokens), new_tokens


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
    once = partial(_time_once, model, job["prompt_tokens"], job["new_tokens"])
    found = measured_here(
        once,
        job,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        file_megabytes=sum(file.stat().st_size for file in directory.glob("*.safetensors")) / 1e6,
        dtype=job["dtype"],
    )
    if device == "cuda":
        held = torch.cuda.max_memory_allocated() / 1e6
        facts = {"peak_memory_megabytes": held, "device": torch.cuda.get_device_name()}
        found = found.model_copy(update=facts)
    return found


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
