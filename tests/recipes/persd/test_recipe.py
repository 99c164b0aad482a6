"""Personalised distillation: what is kept of a round, and the switches that change it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.teachers import endpoint

from codestill.errors import BudgetError, TaskError
from codestill.files.run_files import read_accounting
from codestill.files.serialize import read_jsonl, read_object
from codestill.models.student import Student
from codestill.recipes.persd import recipe
from codestill.recipes.persd.recipe import Config, distill
from codestill.recipes.persd.similarity import similarity
from codestill.refine import Refinement
from codestill.report import write_report
from codestill.run import Run
from codestill.tasks import TasksConfig, write_tasks
from codestill.types import Attempt, Event, Example

TASKS: dict[str, Any] = {"source": "pocket", "split": "train", "count": 6, "depths": [2], "skip": 0}
SETTINGS: dict[str, Any] = {
    "student": "pocket-base",
    "warm_up": None,
    "teacher": {"model": "pocket", "dtype": "float32"},
    "tasks": TASKS,
    "attempts": {"max_new_tokens": 48, "temperature": 0.3},
    "refine": {"sampling": {"max_new_tokens": 64}},
    "train": {"max_steps": 2, "batch_tokens": 400, "accumulation": 1},
    "evaluate": {
        "tasks": {"source": "pocket", "split": "test", "count": 2, "depths": [2]},
        "samples_per_task": 1,
        "greedy": False,
        "max_new_tokens": 24,
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


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Runs that keep the teacher's answers in one place: what one has asked, the others find."""
    return {"teacher_usage": {"answers": str(tmp_path_factory.mktemp("answers"))}}


def test_a_round_keeps_every_step_and_how_personal_it_was(tmp_path: Path) -> None:
    account = distilled(tmp_path / "run", arm="persd")
    stages = tmp_path / "run" / "stages" / "round-1"
    attempts = list(read_jsonl(stages / "attempts.jsonl", Attempt))
    refinements = list(read_jsonl(stages / "refinements.jsonl", Refinement))
    failed = {one.key for one in attempts if not one.result.passed}
    assert {one.key for one in refinements} == failed
    good = [one for one in refinements if one.result.passed]
    assert account["round-1/refined"] == account["round-1/refinements_kept"] == len(good) >= 2
    assert account["round-1/examples"] == len(good)
    assert account["round-1/attempts"] == len(attempts) == account["round-1/solved"]
    assert account["round-1/attempts_passed"] == len(attempts) - len(failed)
    calls = (tmp_path / "run" / "ledger.jsonl").read_text().splitlines()
    assert len(calls) == 6 + len(refinements)
    assert (account["round-1/solution_calls"], account["round-1/refinement_calls"]) == (6, len(refinements))
    written = sum(one.completion.tokens for one in refinements)
    assert account["round-1/refinement_tokens"] == written
    for one in refinements:
        assert one.feedback
        assert one.attempt.completion.text != one.completion.text or not one.result.passed
    summary = read_object(tmp_path / "run" / "round-1" / "similarity.json")
    assert summary["count"] + summary["empty"] == len(good)


def test_how_personal_it_was_by_embeddings_too(known: dict[str, Any], tmp_path: Path) -> None:
    distilled(tmp_path / "run", arm="persd", embedder={"type": "tfidf"}, **known)
    found = read_object(tmp_path / "run" / "round-1" / "similarity.json")
    by_tokens, by_words = found["attempt_refinement"], found["attempt_refinement_embedding"]
    assert by_words["count"] == by_tokens["count"]
    assert 0 < by_words["mean"] <= 1
    assert found["refinement_solution_embedding"]["mean"] != by_words["mean"]


def test_tasks_that_the_evaluation_repeats_are_left_out(known: dict[str, Any], tmp_path: Path) -> None:
    tasks = TasksConfig.model_validate(TASKS).load().tasks
    again = [
        task.model_copy(update={"task_id": f"again/{n}", "split": "test"}) for n, task in enumerate(tasks[:2])
    ]
    write_tasks(tmp_path / "test.jsonl", again)
    evaluate = SETTINGS["evaluate"] | {"tasks": {"source": "jsonl", "path": str(tmp_path / "test.jsonl")}}
    settings = {"evaluate": evaluate, "decontaminate": {"neighbours": 0}, "arm": "stand"} | known
    account = distilled(tmp_path / "run", **settings)
    assert account["round-1/tasks"] <= 4
    report = (tmp_path / "run" / "round-1" / "decontamination.txt").read_text()
    for task in tasks[:2]:
        assert task.task_id in report


def test_the_teacher_makes_the_tasks_from_seeds(tmp_path: Path) -> None:
    made = {"proposals": 9, "novelty": 1.0}
    account = distilled(tmp_path / "run", synthesis=made, arm="stand")
    assert account["round-1/proposals"] == 9
    assert 2 <= account["round-1/tasks"] == account["round-1/tasks_made"] <= 9
    assert account["round-1/examples"] == account["round-1/solved"] >= 2


def test_a_round_without_examples_says_so(tmp_path: Path) -> None:
    hopeless = {"arm": "persd", "refine": {"sampling": {"max_new_tokens": 1}}}
    with pytest.raises(TaskError, match="first round gave no training example"):
        distilled(tmp_path / "run", **hopeless)


def test_an_arm_asks_for_no_more_than_its_examples_need(known: dict[str, Any], tmp_path: Path) -> None:
    account = distilled(tmp_path / "stand", arm="stand", **known)
    assert (account["round-1/attempts"], account["round-1/refinement_calls"]) == (0, 0)
    account = distilled(tmp_path / "stand-refine", arm="stand-refine", **known)
    assert account["round-1/attempts"] == account["round-1/solved"]
    assert account["round-1/refinement_calls"] == 0
    assert (
        account["round-1/examples"] == account["round-1/attempts"] - account["round-1/attempts_passed"] >= 2
    )


def test_only_refinements_that_are_kept_make_examples(known: dict[str, Any], tmp_path: Path) -> None:
    sampling = SETTINGS["refine"]
    found = {
        keep: distilled(tmp_path / keep, arm="persd", refine={**sampling, "keep": keep}, **known)
        for keep in ("all", "passed", "personal")
    }
    kept = {keep: account["round-1/refinements_kept"] for keep, account in found.items()}
    assert kept["all"] == found["all"]["round-1/refinement_calls"]
    assert kept["passed"] == found["all"]["round-1/refined"]
    stages = tmp_path / "all" / "stages" / "round-1"
    solved = {one.key: one.completion.text for one in read_jsonl(stages / "solutions.jsonl", Attempt)}
    refinements = read_jsonl(stages / "refinements.jsonl", Refinement)
    personal = [
        similarity(one.attempt.completion.text, one.completion.text, solved[one.key]).personal
        for one in refinements
        if one.result.passed
    ]
    assert kept["personal"] == sum(personal)


def test_examples_may_be_limited_in_tokens(known: dict[str, Any], tmp_path: Path) -> None:
    whole = distilled(tmp_path / "whole", arm="stand", **known)["round-1/example_tokens"]
    account = distilled(tmp_path / "part", arm="stand", max_example_tokens=whole // 2, **known)
    assert 0 < account["round-1/example_tokens"] <= whole // 2


class Trainings:
    """The trainings of a run: what each began from, and its examples."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.examples: list[list[Example]] = []
        self.begun: list[torch.Tensor] = []
        self.ended: list[torch.Tensor] = []
        train = recipe.fit

        def watched(learner: Student, examples: list[Example], *args: Any, **kwargs: Any) -> Student:
            self.examples.append(examples)
            self.begun.append(weight(learner))
            trained = train(learner, examples, *args, **kwargs)
            self.ended.append(weight(trained))
            return trained

        monkeypatch.setattr(recipe, "fit", watched)


def weight(student: Student) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in student.model.parameters()])


ROUNDS: dict[str, Any] = {"arm": "stand", "rounds": 2, "tasks": TASKS | {"count": 4}, "evaluated": "last"}


@pytest.mark.parametrize("start", ["base", "last"])
def test_a_further_round_trains_what_it_is_told_to(
    start: str, known: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Trainings(monkeypatch)
    distilled(tmp_path / "run", start=start, **ROUNDS, **known)
    base, trained = seen.begun[0], seen.ended[0]
    assert not torch.equal(base, trained)
    assert torch.equal(seen.begun[1], base if start == "base" else trained)


def test_a_further_round_has_new_tasks_and_replays_some_examples(
    known: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Trainings(monkeypatch)
    account = distilled(tmp_path / "run", replay_examples=2, **ROUNDS, **known)
    first, second = seen.examples
    old = [one for one in second if one in first]
    assert len(old) == 2 and len(first) == account["round-1/solved"] >= 3
    assert len(second) == account["round-2/examples"] == account["round-2/solved"] + 2
    assert not {one.prompt for one in second if one not in old} & {one.prompt for one in first}


def test_examples_may_be_limited_in_number(known: dict[str, Any], tmp_path: Path) -> None:
    account = distilled(tmp_path / "run", arm="stand", max_examples=2, **known)
    assert account["round-1/examples"] == 2 < account["round-1/solved"]


def test_the_half_that_teaches_to_generate_may_be_the_teachers_or_a_refinement(
    known: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Trainings(monkeypatch)
    for half in (None, "refinement"):
        distilled(tmp_path / str(half), arm="persd-combined", generation_half=half, **known)
    kinds = [{(one.source, one.key.endswith("/repair")) for one in examples} for examples in seen.examples]
    repair = ("repair: refinement", True)
    assert kinds == [{("solution", False), repair}, {("refinement", False), repair}]


def test_arms_may_be_given_the_same_spend(known: dict[str, Any], tmp_path: Path) -> None:
    found = {}
    for arm in ("stand", "persd"):
        whole = distilled(tmp_path / arm / "whole", arm=arm, **known)
        cost = whole["round-1/solution_tokens"] + whole["round-1/refinement_tokens"]
        limit = whole["round-1/solution_tokens"] - 1 if arm == "stand" else cost * 2 // 3
        found[arm] = distilled(tmp_path / arm / "part", arm=arm, teacher_token_budget=limit, **known)
        assert 0 < found[arm]["round-1/spent_tokens"] <= limit
        assert 0 < found[arm]["round-1/examples"] <= found[arm]["round-1/tasks_paid"] < 6
        same = distilled(tmp_path / arm / "enough", arm=arm, teacher_token_budget=cost, **known)
        assert same["round-1/examples"] == whole["round-1/examples"] and same["round-1/spent_tokens"] == cost


def test_the_same_examples_may_be_learned_from_logits(known: dict[str, Any], tmp_path: Path) -> None:
    losses: dict[str, dict[str, Any]] = {}
    for name, objective in {
        "ce": {"type": "cross_entropy"},
        "kd": {"type": "distillation", "divergence": "forward_kl", "temperature": 2.0, "alpha": 0.7},
    }.items():
        distilled(tmp_path / name, arm="stand", objective=objective, **known)
        events = read_jsonl(tmp_path / name / "metrics.jsonl", Event)
        losses[name] = next(one.metrics for one in events if one.stage == "train" and one.step == 1)
    assert losses["kd"]["cross_entropy"] == pytest.approx(losses["ce"]["cross_entropy"])
    assert losses["kd"]["divergence"] > 0 and "divergence" not in losses["ce"]
    students = [(tmp_path / name / "student" / "model.safetensors").read_bytes() for name in losses]
    assert students[0] != students[1]


def test_other_feedback_is_evaluated_too(known: dict[str, Any], tmp_path: Path) -> None:
    told = {"visible": "first", "repairs": 1, "compare_feedback": ["generic", "none"], "samples_per_task": 2}
    distilled(tmp_path / "run", arm="stand", self_repair=told, **known)
    results = tmp_path / "run" / "results"
    names = {"student": 1, **{f"student-self-repair{kind}": 2 for kind in ("", "-generic", "-none")}}
    assert {path.stem for path in results.glob("*.json")} == set(names)
    for name, samples in names.items():
        assert json.loads((results / f"{name}.json").read_text())["samples_per_task"] == samples


def test_the_last_round_may_be_the_only_one_that_is_evaluated(known: dict[str, Any], tmp_path: Path) -> None:
    rounds = {"arm": "stand", "rounds": 2, "tasks": TASKS | {"count": 2}}
    distilled(tmp_path / "last", evaluated="last", **rounds, **known)
    results = tmp_path / "last" / "results"
    assert [path.relative_to(results) for path in results.rglob("*.json")] == [Path("student.json")]
    assert (tmp_path / "last" / "round-1" / "student").exists()


def test_a_budget_stops_the_run_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="budget of 4 calls"):
        distilled(tmp_path / "run", arm="stand", teacher_usage={"budget": {"calls": 4}})
    ledger = tmp_path / "run" / "ledger.jsonl"
    assert len(ledger.read_text().splitlines()) == 4
    distilled(tmp_path / "run", arm="stand", teacher_usage={"budget": {"calls": 50}})
    assert len(ledger.read_text().splitlines()) == 6


def test_a_key_stands_in_no_file_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-planted-secret")
    solved = {task.prompt: task.reference for task in TasksConfig.model_validate(TASKS).load().tasks}

    def behave(handler: endpoint.Handler, asked: dict[str, Any], before: int) -> None:
        choice = {"index": 0, "finish_reason": "stop", "text": solved[asked["prompt"]]}
        handler.send(200, endpoint.answer(asked, choices=[choice]))

    with endpoint.serving(behave) as server:
        teacher = {"type": "api", "model": "big", "base_url": server.url, "endpoint": "completions"}
        account = distilled(tmp_path / "run", arm="stand", teacher={**teacher, "key_variable": "MY_KEY"})
    assert account["round-1/solved"] == 6 and server.keys == {"Bearer sk-planted-secret"}
    page, _ = write_report([tmp_path / "run"])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert page in files and len(files) > 10
    assert not [path for path in files if b"planted" in path.read_bytes()]
