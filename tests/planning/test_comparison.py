"""What a comparison will take, from trials."""

from pathlib import Path

import pytest

from codestill.compare import CompareConfig
from codestill.planning.comparison import forecast_comparison


@pytest.mark.slow
def test_greedy_answers_are_asked_for_once_for_all_seeds(tmp_path: Path) -> None:
    config = CompareConfig.model_validate({
        "title": "Answers",
        "seeds": [0, 1, 2],
        "arms": [
            {
                "name": "answers",
                "recipe": "sft",
                "config": {
                    "student": "pocket-base-0.1m",
                    "teacher": {"model": "pocket", "dtype": "float32"},
                    "examples": {
                        "tasks": {"source": "pocket", "split": "train", "count": 40},
                        "validation": None,
                        "answers": "teacher",
                        "max_new_tokens": 64,
                    },
                    "train": {"max_steps": 4, "batch_tokens": 800, "accumulation": 1},
                },
            }
        ],
        "evaluate": {
            "tasks": {"source": "pocket", "split": "test", "count": 8},
            "samples_per_task": 1,
            "greedy": False,
            "profile": False,
            "max_new_tokens": 32,
        },
        "execution": {"device": "cpu"},
    })  # fmt: skip
    found = forecast_comparison(config, tmp_path)
    assert found.calls.mean == 40
    assert [(stage.stage, stage.items.mean) for stage in found.stages] == [("answers", 3)]
