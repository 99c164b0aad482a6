"""AMR-Evol: every method and every switch, end to end with the bundled teacher."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tests.support.worlds import javascript_task

from codestill.errors import ConfigError
from codestill.files.run_files import read_accounting
from codestill.files.serialize import read_jsonl
from codestill.prompts import CONTINUED
from codestill.recipes.amr_evol.library import read_library
from codestill.recipes.amr_evol.recipe import Config, distill
from codestill.recipes.amr_evol.responses import Response
from codestill.run import Run
from codestill.sandbox import Program, Sandbox, SandboxConfig
from codestill.synthesis import untested
from codestill.types import Test

TASKS: dict[str, Any] = {"source": "pocket", "split": "train", "count": 3, "depths": [2]}
SETTINGS: dict[str, Any] = {
    "student": "pocket-0.1m",
    "teacher": {"model": "pocket", "dtype": "float32"},
    "tasks": TASKS,
    "answers": {"max_new_tokens": 96},
    "evolution": {"wave": 2},
    "agreement": {"solutions": 2},
    "library": {"seeds": TASKS | {"skip": 3}, "proposals": {"proposals": 3}},
    "train": {"max_steps": 1, "batch_tokens": 400},
    "evaluate": {
        "tasks": {"source": "pocket", "split": "test", "count": 2, "depths": [2]},
        "samples_per_task": 1,
        "greedy": False,
        "max_new_tokens": 8,
        "profile": False,
    },
    "execution": {"device": "cpu"},
}


def distilled(directory: Path, **changes: Any) -> dict[str, Any]:
    """What the run accounts for."""
    torch.set_num_threads(1)
    config = Config.model_validate(SETTINGS | changes)
    with Run.open(directory, config) as run:
        distill(config, run)
    return read_accounting(directory)


def answers(directory: Path) -> list[Response]:
    return list(read_jsonl(directory / "stages" / "answers.jsonl", Response))


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Runs that keep the teacher's answers in one place: what one has asked, the others find."""
    return {"teacher_usage": {"answers": str(tmp_path_factory.mktemp("answers"))}}


def test_the_library_holds_verified_functions_that_answers_are_made_of(tmp_path: Path) -> None:
    account = distilled(tmp_path)
    made = answers(tmp_path)
    assert {one.how for one in made} == {"evolved"}
    assert account["answers_right"] == 3 and account["instructions"] == account["examples"] == 3
    library = read_library(tmp_path)
    assert account["library"] == len(library) >= account["library_seed"] + 2
    assert list(library.batches) == ["seed", "wave-1", "wave-2"]
    programs = []
    for one in library.functions:
        task = untested(one.key, one.header, one.name)
        tests = tuple(Test(code=test) for test in one.tests)
        assert len(tests) >= 3
        programs.append(Program.of(task.model_copy(update={"prompt": one.code, "tests": tests}), ""))
    with Sandbox(SandboxConfig(), 1) as sandbox:
        assert all(result.passed for result in sandbox.run(programs))
    curve = (tmp_path / "library" / "growth.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["modules"] for line in curve) == account["modules"] >= 6
    calls = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert account["teacher_calls"] == len(calls)
    assert account["teacher_tokens"] == sum(one["completion_tokens"] for one in calls)


@pytest.mark.parametrize(
    ("method", "how"),
    [("direct", "direct"), ("cot", "chain_of_thought"), ("ans-repair", "direct"), ("best-of-n", "voted")],
)
def test_baselines_answer_the_same_instructions(
    method: str, how: str, known: dict[str, Any], tmp_path: Path
) -> None:
    account = distilled(tmp_path, method=method, samples=1, **known)
    made = answers(tmp_path)
    assert [one.task_id for one in made] == [f"pocket/train-0/{n}" for n in range(3)]
    assert account[f"answers_{how}"] >= 2
    assert not (tmp_path / "library").exists()
    if method != "cot":  # a form that the pocket teacher has never met
        assert account["answers_right"] >= 2


def test_more_answers_are_drawn_until_as_much_is_spent(tmp_path: Path) -> None:
    account = distilled(tmp_path, method="best-of-n", samples=0, token_budget_per_instruction=150)
    assert account["tokens_per_instruction"] >= 150
    rounds = sorted((tmp_path / "stages").glob("samples-*.jsonl"))
    last = sum(json.loads(line)["tokens"] for line in rounds[-1].read_text().splitlines())
    assert account["teacher_tokens"] - last < 150 * 3


def test_each_switch_leaves_one_thing_out(known: dict[str, Any], tmp_path: Path) -> None:
    without = distilled(tmp_path / "a", evolution={"wave": 2, "retrieve": False}, **known)
    assert without["answers_evolved"] == 3 and "library" not in without
    frozen = distilled(tmp_path / "b", library=SETTINGS["library"] | {"grow": False}, **known)
    assert frozen["library"] == frozen["library_seed"] >= 1
    empty = distilled(tmp_path / "c", library={"start": "empty"}, **known)
    assert empty["library_seed"] == 0 < empty["library"]
    assert not (tmp_path / "c" / "stages" / "seed").exists()
    whole = distilled(tmp_path / "d", evolution={"decompose": False, "cosine": -1}, **known)
    assert not (tmp_path / "d" / "stages" / "modules.jsonl").exists()
    assert whole["modules"] == 3 == whole["modules_found"]


def test_instructions_are_made_and_have_no_tests_to_count(tmp_path: Path) -> None:
    made = {
        "proposals": {"proposals": 4, "levels": ["easier"], "novelty": 1.0},
        "levels": 1,
        "keep": [1],
        "decontaminate": None,
    }
    account = distilled(tmp_path, method="direct", instructions=made, count=2)
    assert 1 <= account["instructions"] == len(answers(tmp_path)) <= 2
    assert account["level_0"] >= account["level_1"] >= account["instructions"]
    assert account["instruction_tokens"] > 0 and "answers_right" not in account


def test_prompts_that_cannot_ask_are_refused() -> None:
    bare = CONTINUED.model_copy(update={"modular": None})
    with pytest.raises(ValidationError, match="has no form for what method amr needs"):
        Config(prompts=bare)
    assert Config(prompts=bare, method="direct").method == "direct"


def test_tasks_in_another_language_are_refused_before_anything_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text(json.dumps(javascript_task()) + "\n")
    tasks = {"source": "jsonl", "path": str(path), "split": "train", "stop": "javascript"}
    with pytest.raises(ConfigError, match="js/0 is in JavaScript, and functions are taken apart"):
        distilled(tmp_path / "run", tasks=tasks)
    assert not (tmp_path / "run" / "ledger.jsonl").exists()
