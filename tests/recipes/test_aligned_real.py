"""Qwen2.5-Coder teaches SmolLM2 through the cache: real tokenizers, real weights."""

import json
import os
from pathlib import Path

import pytest
import torch
from tests.support.worlds import metrics

from codestill.capture import CaptureRun, capture_run
from codestill.doctor import compare_tokenizers
from codestill.recipes import logit_kd
from codestill.run import Run

PLACE = Path(os.environ.get("CODESTILL_MODELS", "nowhere"), "gguf")
TEACHER, STUDENT = (
    str(PLACE / f"{name}.gguf") for name in ("qwen2.5-coder-0.5b-instruct", "smollm2-135m-instruct")
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.models,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not Path(TEACHER).exists(), reason="CODESTILL_MODELS has no such models"),
    pytest.mark.skipif("CODESTILL_DATA" not in os.environ, reason="CODESTILL_DATA is not set"),
]


@pytest.mark.parametrize("tasks", ["humaneval", "mbpp:train", "mbpp:test"])
def test_four_of_five_boundaries_and_three_of_five_tokens_agree(
    tasks: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = dict(compare_tokenizers(TEACHER, STUDENT, tasks))
    with capsys.disabled():
        print(f"\n{found['texts']}: {found['aligned']}")
    shares = [float(word[:-1]) for word in found["aligned"].split() if word.endswith("%")]
    assert 78 < shares[0] < 85 and 57 < shares[1] < 65
    assert "advice" not in found and "get none" not in found["aligned"]


def test_a_whole_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)
    examples = {"tasks": {"source": "mbpp", "split": "train", "limit": 4}, "validation": None}
    shared = {"teacher": TEACHER, "examples": examples, "execution": {"device": "cpu"}}
    config = CaptureRun.model_validate(shared | {"student": STUDENT, "temperatures": (1.0, 2.0)})
    with Run.open(tmp_path / "cache", config) as run:
        capture_run(config, run)
    with capsys.disabled():
        accounted = json.loads((tmp_path / "cache" / "accounting.json").read_text())
        print("\n", {name: value for name, value in accounted.items() if "aligned" in name})
    assert 0.5 < accounted["aligned_one_to_one"] < accounted["aligned_boundaries"] < 0.9
    assert 0 < accounted["aligned_lost_T1"] < 0.1 and 0 < accounted["aligned_lost_T2"] < 0.1

    trained = logit_kd.Config.model_validate(
        shared
        | {
            "student": STUDENT,
            "teacher_logits": "cached",
            "cache": {"directory": tmp_path / "cache" / "logits", "vocabularies": "aligned"},
            "train": {"max_steps": 3, "batch_tokens": 1024, "accumulation": 1, "precision": "float32"},
            "evaluate": {
                "tasks": {"source": "humaneval", "limit": 1},
                "samples_per_task": 0,
                "max_new_tokens": 8,
                "profile": False,
            },
        }
    )
    with Run.open(tmp_path / "run", trained) as run:
        logit_kd.distill(trained, run)
    divergences = [float(event.metrics["divergence"] or 0) for event in metrics(tmp_path / "run")]
    with capsys.disabled():
        print("divergence by step:", divergences)
    assert 0 < divergences[-1] < divergences[0] < 3
