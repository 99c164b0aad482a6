"""A real server: `transformers serve` answers as the same weights do here."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.server import served
from tests.support.tiny import CPU

from codestill.errors import TeacherError
from codestill.evaluation import EvaluateModel, evaluate_model
from codestill.models import Decoding, SamplingConfig, StudentConfig
from codestill.models.student import Student
from codestill.run import Run
from codestill.teachers import ApiTeacherConfig
from codestill.teachers.replay import Replayed
from codestill.types import Request

pytest.importorskip("fastapi", reason="transformers serve needs fastapi and uvicorn")
pytest.importorskip("uvicorn", reason="transformers serve needs fastapi and uvicorn")

TASKS = {
    "total": 'def total(values: list[int]) -> int:\n    """Return the sum of values.\n    """\n',
    "shout": 'def shout(s: str) -> str:\n    """Return s in upper case.\n    """\n',
    "digits": 'def digits(n: int) -> list[int]:\n    """Return the digits of n.\n    """\n',
}
TESTS = {"total": "total([1, 2]) == 3", "shout": "shout('a') == 'A'", "digits": "digits(120) == [1, 2, 0]"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("served") / "pocket"
    student = Student.load("pocket", device="cpu")
    student.tokenizer.chat_template = "{{ messages[-1]['content'] }}"
    return student.save(place)


@pytest.fixture(scope="module")
def address(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(model, tmp_path_factory.mktemp("server")) as url:
        yield url


def answers(model: Path, address: str, endpoint: str, tokens: int) -> tuple[dict[str, str], dict[str, str]]:
    """Greedy answers by task: the server's, and those of the weights here."""
    named = {"model": str(model), "also_named": (f"{model}@main",)}
    config = ApiTeacherConfig.model_validate({"base_url": address, "endpoint": endpoint, **named})
    asked = [Request(task_id=name, prompt=prompt) for name, prompt in TASKS.items()]
    decoding = Decoding(SamplingConfig(max_new_tokens=tokens))
    here = StudentConfig(model=str(model), chat=endpoint == "chat").build(placement=CPU)
    there, own = (
        {one.task_id: one.text.strip() for one in each.complete(asked, decoding)}
        for each in (config.build(), here)
    )
    return there, own


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_a_served_model_answers_as_its_weights_do(endpoint: str, model: Path, address: str) -> None:
    there, here = answers(model, address, endpoint, 40)
    assert there == here


def test_a_server_that_lists_no_tokens_is_refused_by_name(model: Path, address: str, tmp_path: Path) -> None:
    named = {"model": str(model), "also_named": (f"{model}@main",), "retries": 0}
    config = ApiTeacherConfig.model_validate({"base_url": address, "logprobs": 5, **named})
    asked = [Request(task_id="a", prompt=TASKS["total"])]
    # Some versions of the server refuse the field, others ignore it.
    with pytest.raises(TeacherError, match=r"without log-probabilities: status 422|answers with text alone"):
        list(Replayed(config.build(), tmp_path).complete(asked, Decoding(SamplingConfig(max_new_tokens=4))))


# A real code model, where CODESTILL_MODELS has one.

SMOLLM2 = Path(os.environ.get("CODESTILL_MODELS", ""), "hf", "smollm2-135m-instruct")
REAL = [
    pytest.mark.slow,
    pytest.mark.models,
    pytest.mark.skipif("CODESTILL_MODELS" not in os.environ, reason="CODESTILL_MODELS is not set"),
]


@pytest.fixture(scope="module")
def real_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(SMOLLM2, tmp_path_factory.mktemp("real"), "--dtype", "float32") as url:
        yield url


@pytest.mark.parametrize("endpoint", [pytest.param(name, marks=REAL) for name in ("chat", "completions")])
def test_a_real_model_answers_as_its_weights_do(endpoint: str, real_address: str) -> None:
    there, here = answers(SMOLLM2, real_address, endpoint, 48)
    assert there == here and all(here.values())


@pytest.mark.parametrize("endpoint", [pytest.param(name, marks=REAL) for name in ("chat", "completions")])
def test_a_real_model_has_the_same_score_served_and_here(
    endpoint: str, real_address: str, tmp_path: Path
) -> None:
    rows = [
        {"task_id": name, "prompt": prompt, "entry_point": name, "tests": [f"assert {TESTS[name]}"]}
        | {"reference": f"    return {code}\n"}
        for (name, prompt), code in zip(
            TASKS.items(), ("sum(values)", "s.upper()", "[int(c) for c in str(n)]"), strict=True
        )
    ]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tasks = {"source": "jsonl", "path": str(tmp_path / "tasks.jsonl")}
    evaluate: dict[str, Any] = {"tasks": tasks, "samples_per_task": 1, "temperature": 0.001}
    evaluate |= {"max_new_tokens": 96, "profile": False}
    api = {"base_url": real_address, "endpoint": endpoint, "also_named": (f"{SMOLLM2}@main",)}
    results = []
    for name, settings in (("there", {"served": api}), ("here", {"chat": endpoint == "chat"})):
        given = {"model": str(SMOLLM2), "evaluate": evaluate, "execution": {"device": "cpu"}, **settings}
        config = EvaluateModel.model_validate(given)
        with Run.open(tmp_path / name, config) as run:
            results.append(evaluate_model(config, run))
    there, here = results
    assert there.greedy_per_task == here.greedy_per_task
    assert there.prompts == here.prompts
    assert (there.chat is None) == (here.chat is None) == (endpoint == "completions")
