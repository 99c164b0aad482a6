"""llama.cpp's server of a real GGUF file answers nearly as the same file does here.

Its products are of 8-bit activations and 4-bit weights, ours of dequantised ones, so answers may part after
some tokens. ``CODESTILL_LLAMA_SERVER`` is its command, `llama-server` or `python -m llama_cpp.server`.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support.server import llama_cpp
from tests.support.tiny import CPU

from codestill.evaluation import EvaluateModel, evaluate_model
from codestill.models import Decoding, SamplingConfig, StudentConfig
from codestill.models.token_bytes import token_bytes
from codestill.run import Run
from codestill.teachers import ApiTeacherConfig
from codestill.teachers.listing import Listing
from codestill.teachers.replay import Replayed, read_kept
from codestill.types import Request

COMMAND = os.environ.get("CODESTILL_LLAMA_SERVER", "")
MODEL = Path(os.environ.get("CODESTILL_MODELS", ""), "gguf", "qwen2.5-coder-0.5b-instruct.gguf")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.models,
    pytest.mark.skipif(
        not COMMAND or "CODESTILL_MODELS" not in os.environ,
        reason="CODESTILL_LLAMA_SERVER or CODESTILL_MODELS is not set",
    ),
]
PROMPTS = {
    "total": 'def total(values: list[int]) -> int:\n    """Return the sum of values."""\n',
    "shout": 'def shout(s: str) -> str:\n    """Return s in upper case."""\n',
}
SOLUTIONS = {"total": "sum(values)", "shout": "s.upper()"}
TESTS = {"total": "total([1, 2, 4]) == 7", "shout": "shout('ab') == 'AB'"}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with llama_cpp(COMMAND, MODEL, tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_a_teacher_begins_as_its_weights_do(endpoint: str, address: str) -> None:
    asked = [Request(task_id=name, prompt=prompt) for name, prompt in PROMPTS.items()]
    decoding = Decoding(SamplingConfig(max_new_tokens=24))
    there = ApiTeacherConfig.model_validate({"base_url": address, "endpoint": endpoint, "model": MODEL.name})
    here = StudentConfig(model=str(MODEL), chat=endpoint == "chat").build(placement=CPU)
    answers = [
        {answer.task_id: answer for answer in model.complete(asked, decoding)}
        for model in (there.build(), here)
    ]
    for name in PROMPTS:
        served, own = (each[name].text.strip()[:20] for each in answers)
        assert served == own and served
        assert 0 < answers[0][name].tokens <= 24


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_a_served_model_is_evaluated(endpoint: str, address: str, tmp_path: Path) -> None:
    rows = (
        {"task_id": name, "prompt": prompt, "entry_point": name, "tests": [f"assert {TESTS[name]}"]}
        | {"reference": f"    return {SOLUTIONS[name]}\n"}
        for name, prompt in PROMPTS.items()
    )
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluate = {"tasks": str(tmp_path / "tasks.jsonl"), "samples_per_task": 0, "max_new_tokens": 200}
    served = {"base_url": address, "endpoint": endpoint}
    config = EvaluateModel.model_validate({"model": MODEL.name, "evaluate": evaluate, "served": served})
    with Run.open(tmp_path / "run", config) as run:
        result = evaluate_model(config, run)
    assert all(result.greedy_per_task.values())
    assert (result.chat is None) == (endpoint == "completions")


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_what_it_lists_is_what_the_weights_give(endpoint: str, address: str, tmp_path: Path) -> None:
    """At the first position, nearly: the products are of 8-bit activations there."""
    config = ApiTeacherConfig.model_validate(
        {"base_url": address, "endpoint": endpoint, "model": MODEL.name, "logprobs": 20}
    )
    here = StudentConfig(model=str(MODEL), chat=endpoint == "chat").build(placement=CPU)
    asked = [Request(task_id=name, prompt=prompt) for name, prompt in PROMPTS.items()]
    kept = Replayed(config.build(), tmp_path)
    for answer in kept.complete(asked, Decoding(SamplingConfig(max_new_tokens=24))):
        listed = read_kept(tmp_path, answer.kept).listed
        assert listed is not None
        listing = Listing.unpack(listed)
        count = int(listing.counts_N[0])
        assert count >= 20 and len(listing) <= 25
        prompt = here.codec.prompt(PROMPTS[answer.task_id])
        with torch.no_grad():
            own_V = here.model(input_ids=torch.tensor([prompt])).logits[0, -1].float().softmax(-1)
        names = token_bytes(here.codec)
        ids = {data: id for id, data in names.items()}
        total = 0.0
        for place, log_p in zip(listing.places_E[:count], listing.log_p_E[:count], strict=True):
            token = listing.tokens[place]
            id = token if isinstance(token, int) else ids.get(token)
            total += float(np.exp(log_p))
            if id is not None:
                assert float(own_V[id]) == pytest.approx(float(np.exp(log_p)), abs=0.1)
        assert 0.3 < total <= 1.01
