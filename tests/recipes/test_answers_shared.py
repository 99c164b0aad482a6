"""Teacher answers of sft, logit_kd and the cache: kept, counted, within a budget, and shared between runs."""

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.recipes import COMMON, FROM_TEACHER, TASKS
from tests.teachers import endpoint

from codestill.capture import CaptureRun, capture_run
from codestill.compare import CompareConfig, compare
from codestill.errors import BudgetError, TeacherError
from codestill.files.run_files import read_accounting, read_ledger
from codestill.files.serialize import read_jsonl
from codestill.recipes import load_recipe, logit_kd, sft
from codestill.run import Run
from codestill.tasks import TasksConfig
from codestill.teachers.frozen import LocalTeacher
from codestill.types import Attempt

ANSWERED = COMMON | FROM_TEACHER
PERSONAL = {name: ANSWERED[name] for name in ("student", "teacher", "train", "evaluate", "execution")} | {
    "arm": "stand",
    "warm_up": None,
    "tasks": TASKS | {"skip": 0},  # the first ones, as `examples` takes them
    "refine": {"sampling": {"max_new_tokens": 64}},
}
LOCAL = {"teacher": FROM_TEACHER["teacher"], "examples": FROM_TEACHER["examples"]}


def distilled(recipe: str, directory: Path, /, **changes: Any) -> list[str]:
    """The stages of the calls that the run's ledger holds."""
    torch.set_num_threads(1)
    module = load_recipe(recipe)
    config = module.Config.model_validate((PERSONAL if recipe == "persd" else ANSWERED) | changes)
    with Run.open(directory, config) as run:
        module.distill(config, run)
    return stages(directory)


def stages(directory: Path) -> list[str]:
    path = directory / "ledger.jsonl"
    return [call.stage for call in read_ledger(path)] if path.exists() else []


def texts(directory: Path, stage: str = "answers") -> dict[str, str]:
    attempts = read_jsonl(directory / "stages" / f"{stage}.jsonl", Attempt)
    return {attempt.key: attempt.completion.text for attempt in attempts}


def test_runs_of_all_seeds_and_recipes_ask_for_greedy_answers_once(tmp_path: Path) -> None:
    shared = {"teacher_usage": {"answers": str(tmp_path / "answers")}}
    assert distilled("sft", tmp_path / "sft", seed=3, **shared) == ["answers"] * 5
    assert distilled("sft", tmp_path / "again", seed=4, **shared) == []
    assert distilled("logit_kd", tmp_path / "logits", seed=5, **shared) == []
    assert distilled("persd", tmp_path / "persd", seed=6, **shared) == []
    first = texts(tmp_path / "sft")
    assert len(first) == 5
    assert first == texts(tmp_path / "again") == texts(tmp_path / "logits")
    assert first == texts(tmp_path / "persd", "round-1/solutions")
    # What an arm needs counts, whoever asked for it.
    assert {read_accounting(tmp_path / name)["teacher_calls"] for name in ("sft", "again", "logits")} == {5}
    assert read_accounting(tmp_path / "persd")["round-1/solution_calls"] == 5


def test_sft_finds_what_persd_asked_for_as_well(tmp_path: Path) -> None:
    shared = {"teacher_usage": {"answers": str(tmp_path / "answers")}}
    assert distilled("persd", tmp_path / "persd", seed=1, **shared) == ["round-1/solutions"] * 5
    assert distilled("sft", tmp_path / "sft", **shared) == []


def test_sampled_answers_are_each_seeds_own(tmp_path: Path) -> None:
    sampled = {"examples": FROM_TEACHER["examples"] | {"temperature": 0.8}}
    shared = {"teacher_usage": {"answers": str(tmp_path / "answers")}}
    for seed in (0, 1):
        assert distilled("sft", tmp_path / str(seed), seed=seed, **sampled, **shared) == ["answers"] * 5
    assert texts(tmp_path / "0") != texts(tmp_path / "1")


def test_answers_that_another_stop_rule_ended_are_asked_for_again(tmp_path: Path) -> None:
    shared = {"teacher_usage": {"answers": str(tmp_path / "answers")}}
    for rule in ("definitions", "human-eval"):
        other = {"examples": FROM_TEACHER["examples"] | {"tasks": TASKS | {"stop": rule}}}
        assert distilled("sft", tmp_path / rule, **other, **shared) == ["answers"] * 5


@pytest.mark.parametrize("recipe", ["sft", "logit_kd"])
def test_a_budget_stops_the_run_and_a_larger_one_goes_on(recipe: str, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="budget of 3 calls"):
        distilled(recipe, tmp_path, teacher_usage={"budget": {"calls": 3}})
    assert len(stages(tmp_path)) == 3
    assert len(distilled(recipe, tmp_path, teacher_usage={"budget": {"calls": 5}})) == 5


def test_the_cache_finds_the_answers_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distilled("logit_kd", tmp_path / "run", seed=2)
    monkeypatch.setattr(LocalTeacher, "complete", lambda *_: pytest.fail("the teacher is asked again"))
    kept = {"teacher_usage": {"answers": str(tmp_path / "run" / "answers"), "replay": "only"}}
    config = CaptureRun.model_validate(LOCAL | kept | {"execution": {"device": "cpu"}})
    with Run.open(tmp_path / "cache", config) as run:
        capture_run(config, run)
    assert stages(tmp_path / "cache") == []
    assert texts(tmp_path / "cache") == texts(tmp_path / "run")
    cached = {"teacher_logits": "cached", "cache": {"directory": str(tmp_path / "cache" / "logits")}}
    assert distilled("logit_kd", tmp_path / "trained", **kept, **cached) == []
    nothing = {"answers": tmp_path / "none", "replay": "only"}
    with pytest.raises(TeacherError, match="5 answers are not in"):
        distilled("sft", tmp_path / "offline", teacher_usage=nothing)


def test_an_endpoint_answers_for_sft(tmp_path: Path) -> None:
    solved = {task.prompt: task.reference for task in TasksConfig.model_validate(TASKS).load().tasks}

    def behave(handler: endpoint.Handler, asked: dict[str, Any], before: int) -> None:
        choice = {"index": 0, "finish_reason": "stop", "text": solved[asked["prompt"]]}
        handler.send(200, endpoint.answer(asked, choices=[choice]))

    with endpoint.serving(behave) as server:
        teacher = {"type": "api", "model": "big", "base_url": server.url, "endpoint": "completions"}
        shared = {"teacher_usage": {"answers": str(tmp_path / "answers")}}
        for seed in (0, 1):
            distilled("sft", tmp_path / str(seed), teacher=teacher, seed=seed, **shared)
        assert len(server.asked) == 5
    assert stages(tmp_path / "0") == ["answers"] * 5
    assert read_accounting(tmp_path / "1")["teacher_answers"] == 5


def test_reference_solutions_need_no_teacher(tmp_path: Path) -> None:
    reference = {"examples": FROM_TEACHER["examples"] | {"answers": "reference"}}
    nowhere = {"model": str(tmp_path / "nowhere")}
    assert distilled("sft", tmp_path / "run", teacher=nowhere, student="pocket-base-0.1m", **reference) == []
    assert not (tmp_path / "run" / "answers").exists()


@pytest.mark.parametrize(
    ("recipe", "changes"), [("sft", {}), ("logit_kd", {"teacher_logits": "cached"})], ids=["sft", "logit_kd"]
)
def test_the_student_trains_without_the_teacher_in_memory(
    recipe: str, changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[weakref.ref[LocalTeacher]] = []
    prepare = LocalTeacher.__post_init__

    def watched(self: LocalTeacher) -> None:
        prepare(self)
        loaded.append(weakref.ref(self))

    def alone(*args: Any, **kwargs: Any) -> Any:
        gc.collect()
        assert loaded and not any(teacher() for teacher in loaded)
        return train(*args, **kwargs)

    module: Any = sft if recipe == "sft" else logit_kd
    train = module.fit
    monkeypatch.setattr(LocalTeacher, "__post_init__", watched)
    monkeypatch.setattr(module, "fit", alone)
    distilled(recipe, tmp_path, **changes)


def test_logit_kd_loads_its_teacher_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    load = LocalTeacher.load.__func__  # type: ignore[attr-defined]

    def watched(kind: type[LocalTeacher], source: str, **settings: Any) -> LocalTeacher:
        loaded.append(source)
        return load(kind, source, **settings)

    monkeypatch.setattr(LocalTeacher, "load", classmethod(watched))
    for _ in range(2):  # a resume with every answer kept still has its logits
        loaded.clear()
        distilled("logit_kd", tmp_path)
        assert loaded == ["pocket"]


def test_a_comparisons_runs_share_answers_unless_told_otherwise(tmp_path: Path) -> None:
    taught = {name: ANSWERED[name] for name in ("student", "teacher", "examples", "train")}
    own = {"teacher_usage": {"answers": str(tmp_path / "own")}}
    arms = [
        {"name": "kept answers", "recipe": "sft", "config": taught},
        {"name": "logits", "recipe": "logit_kd", "config": taught},
        {"name": "alone", "recipe": "sft", "config": taught | own},
    ]
    given = {"title": "Shared", "arms": arms, "seeds": [0, 1]}
    given |= {name: ANSWERED[name] for name in ("evaluate", "execution")}
    found = compare(CompareConfig.model_validate(given), tmp_path / "run")
    asked = {name: len(stages(tmp_path / "run" / name)) for arm in found.arms for name in arm.runs}
    paid = {"kept-answers/seed-0": 5, "alone/seed-0": 5}
    assert asked == {name: paid.get(name, 0) for name in asked} and len(asked) == 6
    assert [arm.accounting["teacher_calls"] for arm in found.arms] == [5, 5, 5]
    for directory in (tmp_path / "run" / "kept_answers", tmp_path / "own"):
        assert len(list(directory.rglob("*.json"))) == 5
