"""Memory that decoding takes, stated before it is taken, and how many rows it lets decode together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from transformers import PreTrainedModel

from codestill.models.decode import ROOM, Memory, Prompt, WholeTexts, bytes_per_token, chunks
from codestill.models.shared import SharedPrompts

USABLE = 0.8
"""Share of the available memory that decoding may take: allocators and other processes take some, too."""
_SAMPLING = 24
"""Bytes for a row and vocabulary entry while a token is sampled: probabilities, sums, order."""


@dataclass(frozen=True)
class Plan:
    """The most that a batch may take, in bytes."""

    rows: int
    keys_and_values: int
    logits: int
    prefill: int
    """Activations of a pass over prompts."""

    @property
    def total(self) -> int:
        return self.keys_and_values + self.logits + self.prefill


class Estimate:
    """What decoding with a model takes."""

    def __init__(self, model: PreTrainedModel, memory: Memory, *, samples: bool, new_tokens: int) -> None:
        """``memory``: of the kind that decoding uses; ``samples``: decoding is not greedy."""
        # A model that reads whole texts may not even run with a cache.
        self.token_bytes = 0 if isinstance(memory, WholeTexts) else bytes_per_token(model)
        self.logit_bytes = _stated(model, "vocab_size") * (model.dtype.itemsize + _SAMPLING * samples)
        hidden = _stated(model, "hidden_size")
        width = _stated(model, "intermediate_size") or 4 * hidden
        self.pass_bytes = (3 * width + 6 * hidden) * model.dtype.itemsize
        self.shares, self.new_tokens = isinstance(memory, SharedPrompts), new_tokens
        self.prefill_tokens = memory.prefill_tokens

    def plan(self, prompts: Sequence[Prompt]) -> Plan:
        """For rows with these prompts, all of which go on to the last token."""
        distinct = list(dict.fromkeys(prompts))
        longest = max(map(len, prompts))
        held = longest * len(distinct if self.shares else prompts) + len(prompts) * (self.new_tokens + ROOM)
        read = max(len(part) * len(part[0]) for part in chunks(distinct, self.prefill_tokens))
        return Plan(
            rows=len(prompts),
            keys_and_values=held * self.token_bytes,
            logits=len(prompts) * self.logit_bytes,
            prefill=read * self.pass_bytes,
        )

    def fitting(self, prompts: Sequence[Prompt], most: int, available: int) -> Plan:
        """For as many of the prompts as fit, the first ones, at least one and ``most`` at most."""
        low, high = 1, max(1, min(most, len(prompts)))
        while low < high:
            middle = (low + high + 1) // 2
            if self.plan(prompts[:middle]).total <= USABLE * available:
                low = middle
            else:
                high = middle - 1
        return self.plan(prompts[:low])


def _stated(model: PreTrainedModel, size: str) -> int:
    """A size in the model's config, the largest where layers differ; 0 where it states none."""
    found = getattr(model.config.get_text_config(), size, None) or 0
    return int(max(found) if isinstance(found, list | tuple) else found)


def available_bytes(device: torch.device) -> int:
    """Memory that can still be taken: on CUDA the device's, elsewhere this machine's or control group's."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min([psutil.virtual_memory().available, *(max(0, limit - used) for limit, used in _groups())])


def total_bytes(device: torch.device) -> int:
    """Memory that this process could ever take: on CUDA the device's, elsewhere this machine's or control
    group's."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return min([psutil.virtual_memory().total, *(limit for limit, _ in _groups())])


def _groups(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> list[tuple[int, int]]:
    """The limit of this process's control group and what is used of it, and of those above it (cgroup v2)."""
    try:
        names = [line[3:] for line in own.read_text().splitlines() if line.startswith("0::")]
    except OSError:
        return []
    found: list[tuple[int, int]] = []
    for name in names:
        group = root / name.strip().lstrip("/")
        for place in (group, *group.parents):
            if root not in (place, *place.parents):
                break
            try:
                limit = (place / "memory.max").read_text().strip()
                used = int((place / "memory.current").read_text())
                stat = dict(line.split() for line in (place / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):
                continue
            if limit.isdigit():  # files that were read can be dropped from memory
                found.append((int(limit), used - int(stat.get("inactive_file", 0))))
    return found


def stated(plan: Plan, wanted: int) -> str:
    """``decoding 164 rows at a time, in up to 3.1 GB: ...``."""
    fewer = f" instead of {wanted}, for more would not fit" if plan.rows < wanted else ""
    parts = {
        "keys and values": plan.keys_and_values,
        "logits": plan.logits,
        "a pass over prompts": plan.prefill,
    }
    sizes = ", ".join(f"{size / 1e9:.2g} GB for {name}" for name, size in parts.items())
    return f"decoding {plan.rows} rows at a time{fewer}, in up to {plan.total / 1e9:.2g} GB: {sizes}"
