"""What small instructed models really answered, and what is read in it.

``data/real_answers.jsonl`` holds greedy answers of Qwen2.5-Coder-0.5B-Instruct and 1.5B-Instruct (4-bit
weights) about tasks of MBPP and HumanEval, as the models wrote them, and beside each what a reader finds in
it. ``prompts`` is the version of the set that asked. Some repeat their task's text, which is MBPP's (CC-BY
4.0) or HumanEval's (MIT).
"""

import json
from pathlib import Path
from typing import Any

import pytest

from codestill.prompts import INSTRUCT, Prompts
from codestill.prompts.modular import says_yes
from codestill.recipes.amr_evol.decompose import read_modules
from codestill.recipes.amr_evol.headers import headers_in
from codestill.synthesis import function_name, read_calls, read_values
from codestill.tasks import STOP_RULES
from codestill.types import Task, Test

ROWS: list[dict[str, Any]] = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "real_answers.jsonl").read_text().splitlines()
]
PROGRAMS = ("solve", "refine", "explain", "think", "regenerate", "fault", "evolve")


def of(*kinds: str) -> Any:
    """The rows of these kinds, each a test of its own."""
    rows = [row for row in ROWS if row["kind"] in kinds]
    names = [f"{number}-{row['kind']}-{row['task']}" for number, row in enumerate(rows)]
    return pytest.mark.parametrize("row", rows, ids=names)


def task(row: dict[str, Any]) -> Task:
    return Task(
        task_id=row["task"],
        prompt='"""The task."""\n',
        entry_point=row["function"],
        reference="",
        tests=(Test(code="assert True"),),
    )


@of("judge")
def test_judgements(row: dict[str, Any]):
    found = INSTRUCT.read_judgement(row["answer"])
    assert (found and list(found.points.values())) == row["expected"]


@of("propose", "evolve_task")
def test_proposals(row: dict[str, Any]):
    prompt = INSTRUCT.read_proposal(row["answer"])
    assert (prompt and function_name(prompt)) == row["expected"]
    assert prompt is None or "return" not in prompt.rpartition('"""')[2]  # no body


@of("inputs")
def test_calls(row: dict[str, Any]):
    assert read_calls(row["function"], row["answer"]) == row["expected"]


@of("tests")
def test_assertions(row: dict[str, Any]):
    assert [list(pair) for pair in read_values(row["function"], row["answer"])] == row["expected"]


@of("decompose")
def test_decompositions(row: dict[str, Any]):
    assert [function.name for function in headers_in(row["answer"])[0]] == row["expected"]


@of("same")
def test_comparisons(row: dict[str, Any]):
    assert says_yes(row["answer"]) == row["expected"]


@of(*PROGRAMS)
def test_programs(row: dict[str, Any]):
    one = task(row)
    assert one.accepts(INSTRUCT.read(row["answer"], one, STOP_RULES["definitions"])) == row["expected"]


def asked_with_an_example() -> Prompts:
    """The set as it was while its prompt showed two functions of another task."""
    assert INSTRUCT.modular is not None
    shown = 'def parse_hours(line: str) -> tuple[str, int, int]:\n    """Read a line."""\n\n'
    shown += 'def is_weekday(day: str) -> bool:\n    """Tell whether."""\n'
    return INSTRUCT.model_copy(
        update={"modular": INSTRUCT.modular.model_copy(update={"decompose": f"{shown}{{{{ prompt }}}}"})}
    )


def test_a_decomposition_that_repeats_the_example_is_none():
    repeated = [row for row in ROWS if row["kind"] == "decompose" and row["prompts"] == "instruct-1"]
    assert len(repeated) >= 4
    for row in repeated:
        with pytest.raises(ValueError, match=r"fewer than two functions: [01] "):
            read_modules(row["answer"], task(row), asked_with_an_example())


def test_the_set_is_small_and_of_every_kind():
    assert {row["kind"] for row in ROWS} >= {
        "judge",
        "propose",
        "inputs",
        "tests",
        "decompose",
        *PROGRAMS[:4],
    }
    assert 60 <= len(ROWS) <= 120
    assert sum(len(row["answer"]) for row in ROWS) < 150_000
