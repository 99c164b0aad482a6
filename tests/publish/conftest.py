"""A finished run with a tiny student, evaluated on whole and on parts of task sets."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codestill.launch import distill
from codestill.models.student import Student

TASK = {
    "task_id": "own/1",
    "prompt": "def f(x):\n",
    "entry_point": "f",
    "reference": "    return x\n",
    "tests": ["assert f(1) == 1"],
}


def settings(place: Path, **evaluate: Any) -> dict[str, Any]:
    tasks = place / "own.jsonl"
    rows = [TASK | {"task_id": f"own/{n}", "prompt": f"def f(x{n}):\n"} for n in range(3)]
    rows = [row | {"reference": f"    return x{n}\n"} for n, row in enumerate(rows)]
    tasks.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {
        "student": "pocket-base-0.1m",
        "teacher": "pocket",
        "examples": {"tasks": {"source": "pocket", "split": "train", "count": 6}, "validation": None},
        "train": {"max_steps": 1, "batch_tokens": 512, "accumulation": 1},
        "evaluate": {
            "tasks": {"source": "jsonl", "path": str(tasks)},
            "samples_per_task": 2,
            "max_new_tokens": 8,
            "profile": False,
            **evaluate,
        },
        "execution": {"device": "cpu"},
    }


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("published")
    distill("sft", place / "kd", **settings(place))
    assert isinstance(Student.load(place / "kd/student"), Student)
    yield place / "kd"
