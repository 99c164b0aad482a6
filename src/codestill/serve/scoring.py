"""Log-probabilities of a prompt's own tokens: what a server is asked for as a teacher of logits."""

from collections.abc import Sequence
from typing import Any

import torch

from codestill.models.batch import likeliest
from codestill.models.decode import takes
from codestill.models.shared import can_cache
from codestill.models.student import Student
from codestill.models.tokenizers import id_count
from codestill.serve.jobs import Listed

CHUNK = 512
"""Positions whose logits are in memory at once."""


def score(student: Student, ids: Sequence[int], top: int) -> list[Listed | None]:
    """For each of N tokens: it with its log-probability, then the ``top`` likeliest at its place, among the
    tokenizer's ids. None for the first, which nothing precedes."""
    model, width = student.model, id_count(student.tokenizer)
    chunk = CHUNK if can_cache(model) else len(ids)
    listed: list[Listed | None] = [None]
    cache: Any = None
    for start in range(0, len(ids) - 1, chunk):
        end = min(start + chunk, len(ids) - 1)
        tokens_1T = torch.tensor([ids[start:end]], device=model.device)
        places_1T = torch.arange(start, end, device=model.device)[None]
        more: dict[str, Any] = {"position_ids": places_1T} if takes(type(model), "position_ids") else {}
        more |= {"past_key_values": cache} if cache is not None else {}
        output = model(input_ids=tokens_1T, use_cache=chunk < len(ids) - 1, **more)
        cache = output.get("past_key_values")
        next_T = torch.tensor(ids[start + 1 : end + 1], device=model.device)
        listed += likeliest(output.logits[0, :, :width], next_T, top)
    return listed
