"""The pages' tables of real models are computed from the kept results."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def script(name: str) -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "experiments" / name / "tables.py"))


def kept(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "experiments" / name / "result.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "table", "page"),
    [
        ("real", "score_table", "docs/real-models.md"),
        ("real", "contrasts", "docs/real-models.md"),
        ("real", "summary", "README.md"),
        ("seed_sweep", "tables", "docs/recipes/logit_kd.md"),
    ],
)
def test_the_page_has_every_row_of_the_table(name: str, table: str, page: str) -> None:
    module = script(name)
    read = module.get("read", lambda: kept(name))
    lines = module[table](read())
    assert len(lines) > 3
    shown = (ROOT / page).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and line not in shown] == []


def scored(digits: str, numbers: list[int] | None = None) -> dict[str, Any]:
    return {
        "plus": digits,
        "numbers": " ".join(map(str, numbers or range(1, len(digits) + 1))),
        "tokens": len(digits),
        "cut": 0,
    }


def test_differences_are_paired_with_the_student_as_it_was() -> None:
    scores = {
        "smollm2": {"humaneval-plus": scored("1100000000" * 5)},
        "sft-0": {"humaneval-plus": scored("1110000000" * 5)},
        "sft-1": {"humaneval-plus": scored("1000000000" * 5)},
    }
    head, _, before, after = script("real")["score_table"]({"scores": scores, "runs": {}})
    assert head.startswith("| student |") and before.split(" | ")[4].startswith("20.0 [")
    difference = after.split(" | ")[5]
    assert difference.startswith("+0.0 [") and difference.endswith("(+10.0, −10.0)")


def test_tasks_that_students_were_trained_on_do_not_count() -> None:
    # Of MBPP+ the tasks from 601 on are among MBPP's training tasks.
    found = {"sft-0": {"mbpp-plus": scored("1000111", [2, 3, 4, 600, 601, 602, 974])}}
    rows = script("real")["scores"]({"scores": found}, "sft", "mbpp-plus")
    assert rows == [[1.0, 0.0, 0.0, 0.0]]


def test_a_difference_of_nats_is_of_the_same_solutions() -> None:
    profile = {"token_milliseconds": 1.0, "parameters": 10, "file_megabytes": 1.0}

    def arm(**nats: float) -> dict[str, Any]:
        same = {"passed": "0A", "greedy": "01", "bleu": 1.0, "profile": profile, "losses": {}}
        return same | {"nats_per_byte": nats}

    arms = {
        "teacher": arm(a=0.5, b=0.5),
        "44m-cross-entropy": arm(a=2.0, b=3.0),
        "44m-T-2": arm(a=1.0, b=3.0),
    }
    lines = script("seed_sweep")["tables"]({"arms": arms})
    assert any(line.startswith("| 44m-T-2 − 44m-cross-entropy | −0.500 [") for line in lines)
    teacher = next(line for line in lines if line.startswith("| teacher |"))
    assert "50.0 [" in teacher  # one task of two passes all ten times
