"""A run's teacher: kept answers, a ledger for local weights too, and budgets."""

from pathlib import Path

import pytest
from tests.support.tiny import CPU

from codestill.config import RunConfig
from codestill.errors import BudgetError, TeacherError
from codestill.files.serialize import read_jsonl
from codestill.models import Decoding, SamplingConfig
from codestill.run import Run
from codestill.teachers import LocalTeacherConfig
from codestill.teachers.ledger import Budget
from codestill.teachers.session import TeacherSession, TeacherUsage, open_session
from codestill.types import Call, Request

ASKED = [Request(task_id=str(n), prompt=f"def f{n}(x):\n") for n in range(5)]
SAMPLING = SamplingConfig(max_new_tokens=8)
POCKET = LocalTeacherConfig(model="pocket", dtype="float32")


def opened(directory: Path, **settings) -> TeacherSession:
    with Run.open(directory, RunConfig()) as run:
        return open_session(POCKET, TeacherUsage.model_validate(settings), CPU, run)


def calls(directory: Path) -> list[Call]:
    return list(read_jsonl(directory / "ledger.jsonl", Call))


def test_local_answers_stand_in_the_ledger_by_stage_and_are_asked_for_once(tmp_path: Path):
    session = opened(tmp_path)
    first = {one.key: one for one in session.stage("solve").complete(ASKED[:3], Decoding(SAMPLING))}
    again = {one.key: one for one in opened(tmp_path).stage("repair").complete(ASKED, Decoding(SAMPLING))}
    assert {key: again[key] for key in first} == first
    found = calls(tmp_path)
    assert [(one.stage, one.key) for one in found[:3]] == [("solve", key) for key in first]
    assert {one.key for one in found[3:]} == {"3#0", "4#0"}
    assert {one.stage for one in found[3:]} == {"repair"}
    tokenizer = session.tokenizer
    assert tokenizer is not None
    for one in found:
        request = next(request for request in ASKED if request.key == one.key)
        assert one.prompt_tokens == len(tokenizer.encode(request.prompt))
        assert one.completion_tokens == again[one.key].tokens


def test_runs_may_share_answers_and_be_offline(tmp_path: Path):
    shared = {"answers": str(tmp_path / "shared")}
    wanted = list(opened(tmp_path / "a", **shared).stage("s").complete(ASKED, Decoding(SAMPLING)))
    session = opened(tmp_path / "b", replay="only", **shared)
    assert sorted(session.stage("s").complete(ASKED, Decoding(SAMPLING)), key=lambda one: one.key) == sorted(
        wanted, key=lambda one: one.key
    )
    assert not (tmp_path / "b" / "ledger.jsonl").exists()
    with pytest.raises(TeacherError, match="first 9#0"):
        list(session.stage("s").complete([Request(task_id="9", prompt="def g():\n")], Decoding(SAMPLING)))


@pytest.mark.parametrize("limit", [{"calls": 3}, {"tokens": 45}])
def test_a_budget_is_kept_and_a_larger_one_goes_on(tmp_path: Path, limit: dict[str, int]):
    session = opened(tmp_path, budget=limit)
    kept = []
    with pytest.raises(BudgetError, match="All answers so far are kept"):
        for one in session.stage("s").complete(ASKED, Decoding(SAMPLING)):
            kept.append(one.key)
    spent = sum(one.prompt_tokens + one.completion_tokens for one in calls(tmp_path))
    assert 0 < len(kept) < 5
    assert len(kept) <= limit.get("calls", 5)
    assert spent <= limit.get("tokens", 10**9)
    rest = opened(tmp_path, budget={"calls": 5})
    assert len(list(rest.stage("s").complete(ASKED, Decoding(SAMPLING)))) == 5
    assert len(calls(tmp_path)) == 5
    assert rest.ledger.spent.calls == 5
    assert rest.ledger.budget == Budget(calls=5)


def test_greedy_answers_are_those_of_every_seed(tmp_path: Path):
    greedy = [Decoding(SAMPLING, seed=seed) for seed in (0, 7)]
    lively = [Decoding(SAMPLING.model_copy(update={"temperature": 1.0}), seed=seed) for seed in (0, 7)]
    for decoding in (*greedy, *lively):
        assert len(list(opened(tmp_path).stage("s").complete(ASKED, decoding))) == 5
    assert len(calls(tmp_path)) == 3 * 5


def test_answers_that_another_stop_rule_ended_are_others(tmp_path: Path):
    for rule in ("", "definitions", "human-eval"):
        list(opened(tmp_path).stage(rule).complete(ASKED, Decoding(SAMPLING, stop=rule)))
    assert [one.stage for one in calls(tmp_path)] == [""] * 5 + ["human-eval"] * 5


def test_a_question_that_stands_twice_is_asked_once(tmp_path: Path):
    twice = [Request(task_id=name, prompt=ASKED[0].prompt) for name in ("a", "b")]
    lively = SamplingConfig(max_new_tokens=8, temperature=1.0)
    found = {one.key: one.text for one in opened(tmp_path).stage("s").complete(twice, Decoding(lively))}
    assert found["a#0"] == found["b#0"]
    assert [one.key for one in calls(tmp_path)] == ["a#0"]
