"""Graphs of a model's pass over tokens, as transformers' exporters trace them."""

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from codestill.files.whole import written_whole


@contextmanager
def quietly() -> Iterator[None]:
    """Exporters tell every step of theirs, and what to do about it; what goes wrong they raise."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def write_graph(source: str, place: Path, export: Callable[[Any, dict[str, Any]], Any]) -> None:
    """Write what ``export`` makes of a saved model's graph, with the tokenizer: all of it or nothing."""
    with quietly():
        graph, inputs, tokenizer = decoding_graph(source)
        exported = export(graph, inputs)
        with written_whole(place) as temporary:
            exported.save_pretrained(temporary)
            tokenizer.save_pretrained(str(temporary))


def decoding_graph(source: str) -> tuple[Any, dict[str, Any], Any]:
    """The model's pass over tokens that follow others, what such a pass takes, and the tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast
    from transformers.exporters.utils import decompose_for_generation

    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    tokens_1T = torch.arange(8)[None]
    parts = decompose_for_generation(
        model,
        {"input_ids": tokens_1T, "attention_mask": torch.ones_like(tokens_1T)},
        generation_config=GenerationConfig(max_new_tokens=3, do_sample=False, pad_token_id=0),
        multi_token_decode=True,
    )
    graph, inputs = parts["decode"]
    return graph, dict(inputs), PreTrainedTokenizerFast.from_pretrained(source)


def positions_after(past: int, ids: Sequence[int]) -> list[list[int]]:
    """Positions [1, n] of tokens that follow so many."""
    return [list(range(past, past + len(ids)))]
