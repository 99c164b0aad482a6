import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.support.worlds import DieAt, assert_killed

from codestill.compare import CompareConfig, SweepConfig, compare
from codestill.errors import ConfigError, UserError
from codestill.evaluation import read_evaluation
from codestill.models.student import Student
from codestill.run import Observer
from codestill.serialize import read_record
from codestill.train.loop import DistillationTrainer
from codestill.types import Comparison, Event

TASKS = {"source": "pocket", "split": "train", "count": 4, "depths": [2]}
ARM: dict[str, Any] = {
    "student": "pocket-base",
    "teacher": {"model": "pocket", "dtype": "float32"},
    "examples": {"tasks": TASKS, "validation": None},
    "train": {"max_steps": 2, "batch_tokens": 400, "accumulation": 1, "learning_rate": 1e-3},
}
SETTINGS: dict[str, Any] = {
    "title": "Logits or text",
    "arms": [
        {"name": "teacher", "model": "pocket"},
        {"name": "text", "recipe": "sft", "config": ARM},
        {"name": "logits", "recipe": "logit_kd", "config": ARM},
    ],
    "seeds": [0, 1],
    "teacher": "teacher",
    "differences": [["logits", "text"], ["text", "logits"], ["teacher", "text"], ["text", "text"]],
    "evaluate": {
        "tasks": {"source": "pocket", "split": "test", "count": 4, "depths": [2]},
        "samples_per_task": 2,
        "max_new_tokens": 48,
        "profile": False,
    },
    "execution": {"device": "cpu"},
}


def run(directory: Path, *observers: Observer, **changes: Any) -> Comparison:
    return compare(CompareConfig.model_validate(SETTINGS | changes), directory, observers)


def die_at(directory: Path, stage: str, done: int) -> None:
    run(directory, DieAt(stage, done))


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison, list[Event]]:
    directory = tmp_path_factory.mktemp("compare") / "run"
    seen: list[Event] = []
    return directory, run(directory, seen.append), seen


def test_comparison_holds_every_arm(compared: tuple[Path, Comparison, list[Event]]) -> None:
    directory, comparison, _ = compared
    assert read_record(directory / "comparison.json", Comparison) == comparison
    assert comparison.teacher == "teacher"
    assert comparison.task_count == 4
    runs = {arm.name: arm.runs for arm in comparison.arms}
    assert runs == {
        "teacher": ("teacher",),
        "text": ("text/seed-0", "text/seed-1"),
        "logits": ("logits/seed-0", "logits/seed-1"),
    }
    for arm in comparison.arms:
        assert arm.pass_at.keys() == {1, 2}
        found = [
            read_evaluation(directory / name / "results" / f"{role}.json")
            for name in arm.runs
            for role in ["teacher" if arm.name == "teacher" else "student"]
        ]
        mean = sum(one.pass_at[1].mean for one in found) / len(found)
        assert arm.pass_at[1].mean == pytest.approx(mean)
        assert [one.seed for one in found] == ([0] if arm.name == "teacher" else [0, 1])
    assert comparison.arms[0].pass_at[1].mean > comparison.arms[1].pass_at[1].mean


def test_differences_are_antisymmetric(compared: tuple[Path, Comparison, list[Event]]) -> None:
    _, comparison, _ = compared
    forth, back, teacher, none = comparison.differences
    arms = {arm.name: arm.pass_at[1].mean for arm in comparison.arms}
    assert forth.interval.mean == pytest.approx(-back.interval.mean)
    assert forth.interval.low == pytest.approx(-back.interval.high)
    assert forth.interval.high == pytest.approx(-back.interval.low)
    assert forth.interval.mean == pytest.approx(arms["logits"] - arms["text"])
    assert teacher.interval.mean == pytest.approx(arms["teacher"] - arms["text"])
    assert {one.pairs for one in comparison.differences} == {8}
    assert (none.interval.low, none.interval.mean, none.interval.high) == (0, 0, 0)
    assert not none.excludes_zero


def test_observers_can_tell_the_runs_apart(compared: tuple[Path, Comparison, list[Event]]) -> None:
    _, _, seen = compared
    stages = {event.stage for event in seen if event.kind == "metrics"}
    assert {f"{arm}/seed-{seed}/train" for arm in ("text", "logits") for seed in (0, 1)} <= stages


@pytest.mark.parametrize(
    ("stage", "done", "finished"),
    [
        ("text/seed-1/train", 1, {"teacher", "text/seed-0"}),
        ("logits/seed-1/evaluate-student", 3, {"teacher", "text/seed-0", "text/seed-1", "logits/seed-0"}),
    ],
)
def test_killed_comparison_skips_what_is_done(
    stage: str,
    done: int,
    finished: set[str],
    compared: tuple[Path, Comparison, list[Event]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    directory = tmp_path / "run"
    assert_killed(die_at, directory, stage, done)
    assert not (directory / "comparison.json").exists()
    built: list[Path] = []
    make = DistillationTrainer.__init__

    def watched(self: DistillationTrainer, *args: Any) -> None:
        built.append(next(arg.directory for arg in args if hasattr(arg, "metrics_path")))
        make(self, *args)

    monkeypatch.setattr(DistillationTrainer, "__init__", watched)
    seen: list[Event] = []
    assert run(directory, seen.append) == compared[1]
    assert (directory / "comparison.json").read_bytes() == (compared[0] / "comparison.json").read_bytes()
    everything = {name for arm in compared[1].arms for name in arm.runs}
    assert {event.stage.rsplit("/", 1)[0] for event in seen} == everything - finished
    trained = {str(path.relative_to(directory)) for path in built}
    assert trained == everything - finished - ({"logits/seed-1"} if "evaluate" in stage else set())


def test_finished_comparison_loads_no_model(
    compared: tuple[Path, Comparison, list[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Student, "load", lambda *_, **__: pytest.fail("loads a model"))
    assert run(compared[0]) == compared[1]


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"name": "late", "recipe": "sft", "config": ARM | {"trian": {}}}, "trian"),
        ({"name": "late", "recipe": "sft", "config": ARM | {"train": {"max_steps": -1}}}, "max_steps"),
        ({"name": "late", "recipe": "sfd"}, "sfd"),
    ],
)
def test_bad_arm_is_refused_before_anything_runs(arm: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tmp_path / "run", arms=[*SETTINGS["arms"], arm])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"teacher": "nobody"},
        {"differences": [["text", "nobody"]]},
        {"arms": [*SETTINGS["arms"], {"name": "text", "model": "pocket"}]},
        {"arms": []},
        {"seeds": []},
        {"arms": [{"name": "both", "model": "pocket", "recipe": "sft"}], "teacher": None, "differences": []},
        {"arms": [{"name": "none"}], "teacher": None, "differences": []},
    ],
)
def test_inconsistent_comparison(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CompareConfig.model_validate(SETTINGS | changes)


def test_other_arms_need_another_directory(compared: tuple[Path, Comparison, list[Event]]) -> None:
    with pytest.raises(UserError, match="seeds"):
        run(compared[0], seeds=[0, 1, 2])


def test_sweep_is_a_grid() -> None:
    sweep = SweepConfig.model_validate(
        {
            "students": ["pocket-0.1m", "pocket-0.4m"],
            "temperatures": [1, 2],
            "alphas": [0.1, 0.9],
            "seeds": [3, 4],
            "teacher": "pocket",
            "divergence": "reverse_kl",
        }
    )
    found = sweep.comparison()
    assert found.seeds == (3, 4)
    assert found.teacher == "teacher"
    assert (found.arms[0].name, found.arms[0].model) == ("teacher", "pocket")
    points = [
        (
            arm.config["student"],
            arm.config["objective"]["temperature"],
            arm.config["objective"]["alpha"],
            arm.config["objective"]["divergence"],
        )
        for arm in found.arms[1:]
    ]
    assert points == [
        (student, temperature, alpha, "reverse_kl")
        for student in ("pocket-0.1m", "pocket-0.4m")
        for temperature in (1, 2)
        for alpha in (0.1, 0.9)
    ]
    assert {arm.recipe for arm in found.arms[1:]} == {"logit_kd"}
    assert len({arm.name for arm in found.arms}) == 9


def test_sweep_runs(tmp_path: Path) -> None:
    sweep = SweepConfig.model_validate(
        {
            "students": ["pocket-0.1m"],
            "temperatures": [1],
            "alphas": [0, 1],
            "teacher": ARM["teacher"],
            "examples": ARM["examples"],
            "train": ARM["train"],
            "evaluate": SETTINGS["evaluate"] | {"samples_per_task": 1},
            "execution": {"device": "cpu"},
        }
    )
    compare(sweep.comparison(), tmp_path / "run")
    found = json.loads((tmp_path / "run" / "comparison.json").read_text(encoding="utf-8"))
    assert [arm["name"] for arm in found["arms"]] == [
        "teacher",
        "pocket-0.1m T=1 alpha=0",
        "pocket-0.1m T=1 alpha=1",
    ]


def test_an_arm_may_be_another_evaluation_of_anothers_runs(tmp_path: Path) -> None:
    personal = {
        "student": "pocket-base",
        "warm_up": None,
        "tasks": TASKS,
        "rounds": 2,
        "refine": {"sampling": {"max_new_tokens": 48}},
        "train": ARM["train"],
        "self_repair": {"visible": "first", "repairs": 1},
    }
    arms = [
        {"name": "once", "recipe": "persd", "config": personal},
        {"name": "repairing", "of": "once", "result": "student-self-repair"},
        {"name": "first round", "of": "once", "result": "round-1/student"},
    ]
    found = run(tmp_path / "run", arms=arms, seeds=[0], teacher=None, differences=[["repairing", "once"]])
    assert [(arm.runs, arm.result) for arm in found.arms] == [
        (("once/seed-0",), result) for result in ("student", "student-self-repair", "round-1/student")
    ]
    for arm in found.arms:
        score = read_evaluation(tmp_path / "run" / "once/seed-0" / "results" / f"{arm.result}.json")
        assert score.pass_at[1].mean == arm.pass_at[1].mean
    with pytest.raises(ConfigError, match=r"asks for the result 'nothing'.*student-self-repair"):
        wrong = [*arms[:1], arms[1] | {"result": "nothing"}]
        run(tmp_path / "other", arms=wrong, seeds=[0], teacher=None, differences=[])


@pytest.mark.parametrize(
    "arm", [{"name": "b"}, {"name": "b", "of": "text", "recipe": "sft"}, {"name": "b", "of": "c"}]
)
def test_an_arm_of_another_needs_that_one_alone(arm: dict[str, Any]) -> None:
    arms = [{"name": "text", "recipe": "sft", "config": ARM}, arm]
    with pytest.raises(ValidationError, match=r"either a recipe or a model|no earlier arm with a recipe"):
        CompareConfig.model_validate(SETTINGS | {"arms": arms, "teacher": None, "differences": []})
