import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from tests.support.worlds import DieAt, assert_killed

from codestill.cli.tables import print_tables
from codestill.compare import CompareConfig, SweepConfig, compare, plan
from codestill.errors import ConfigError, UserError
from codestill.evaluation import read_evaluation
from codestill.files.serialize import read_record
from codestill.models.student import Student
from codestill.run import Observer
from codestill.tables.differences import difference_sentence
from codestill.train.loop import DistillationTrainer
from codestill.types import Comparison, Difference, Event, Interval

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
    assert none.interval.mean == 0 and none.interval.low == -none.interval.high < 0
    assert not none.excludes_zero


def test_each_seeds_own_difference_stands_beside_the_interval(
    compared: tuple[Path, Comparison, list[Event]], capsys: pytest.CaptureFixture[str]
) -> None:
    directory, comparison, _ = compared
    forth, _, teacher, none = comparison.differences

    def scores(arm: str) -> list[float]:
        runs = [directory / arm / f"seed-{seed}" / "results" / "student.json" for seed in (0, 1)]
        return [read_evaluation(path).pass_at[1].mean for path in runs]

    logits, text = scores("logits"), scores("text")
    assert forth.by_seed == pytest.approx([a - b for a, b in zip(logits, text, strict=True)])
    best = comparison.arms[0].pass_at[1].mean
    assert teacher.by_seed == pytest.approx([best - b for b in text])
    assert none.by_seed == (0, 0) and none.p == 1 and none.t_interval is None
    print_tables(comparison)
    said = capsys.readouterr().out
    assert f"By seed: {100 * teacher.by_seed[0]:+.1f}, {100 * teacher.by_seed[1]:+.1f}" in said
    assert "Of 4 differences, these survive Holm's correction" in said


def test_a_sentence_says_where_the_t_interval_differs() -> None:
    both = Interval(mean=0.06, low=0.02, high=0.1)
    found = Difference(
        a="a", b="b", metric="pass@1", pairs=600, interval=both, by_seed=(0.04, 0.08),
        t_interval=Interval(mean=0.06, low=-0.19, high=0.31),
    )  # fmt: skip
    assert difference_sentence(found) == (
        "a - b: +6.0 points [+2.0, +10.0] pass@1, over 600 pairs of task and seed: the interval excludes "
        "zero. By seed: +4.0, +8.0; t interval over 2 seeds [-19.0, +31.0] includes zero."
    )
    known = found.model_copy(update={"t_interval": both})
    assert difference_sentence(known).endswith("t interval over 2 seeds [+2.0, +10.0] excludes zero.")
    old = Difference(a="a", b="b", metric="pass@1", pairs=600, interval=both)
    assert difference_sentence(old).endswith("pairs of task and seed: the interval excludes zero.")


def test_observers_can_tell_the_runs_apart(compared: tuple[Path, Comparison, list[Event]]) -> None:
    _, _, seen = compared
    stages = {event.stage for event in seen if event.kind == "metrics"}
    assert {f"{arm}/seed-{seed}/train" for arm in ("text", "logits") for seed in (0, 1)} <= stages


@pytest.mark.parametrize(
    ("stage", "done", "finished"),
    [
        pytest.param("text/seed-1/train", 1, {"teacher", "text/seed-0"}, marks=pytest.mark.slow),
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
    told = [(event.stage, event.message) for event in seen if event.message.startswith("run ")]
    assert {name for name, _ in told} == everything - finished
    numbers = [int(message.split()[1]) for _, message in told]
    assert numbers == [*range(len(finished) + 1, len(everything) + 1)]
    assert all(message.endswith(f" of {len(everything)}") for _, message in told)
    within = [event for event in seen if (event.stage, event.message) not in told]
    assert {event.stage.rsplit("/", 1)[0] for event in within} == everything - finished
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
        ({"name": "late", "model": "pocket", "config": {"dtpye": "bfloat16"}}, "dtpye"),
        ({"name": "late", "recipe": "logit_kd", "config": ARM | {"teacher": "pocket"}}, "dtype: bfloat16"),
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


@pytest.mark.parametrize(
    ("teacher", "of_arm", "expected"),
    [
        ({"dtype": "float32"}, {}, ("float32", None, False)),
        ({"dtype": "bfloat16"}, {}, ("bfloat16", None, False)),
        ({}, {}, ("bfloat16", None, False)),  # what a teacher is by default
        ({"revision": "v2", "trust_remote_code": True}, {}, ("bfloat16", "v2", True)),
        ({"dtype": "bfloat16", "revision": "v2"}, {"dtype": "float32"}, ("float32", "v2", False)),
    ],
)
def test_the_teacher_is_evaluated_as_it_teaches(
    teacher: dict[str, Any], of_arm: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    learning = {"name": "logits", "recipe": "logit_kd", "config": ARM | {"teacher": {"model": "m"} | teacher}}
    raw = {"name": "raw", "recipe": "sft", "config": {"student": "pocket-base"}}  # its teacher is unused
    arms = [raw, {"name": "teacher", "model": "m", "config": of_arm}, learning]
    config = CompareConfig.model_validate(SETTINGS | {"arms": arms, "differences": []})
    planned = plan(config)["teacher"][0].config
    assert (planned.dtype, planned.revision, planned.trust_remote_code) == expected
    assert (planned.model, planned.role) == ("m", "teacher")


def test_settings_of_other_and_of_unused_teachers_do_not_count() -> None:
    model = "bigcode/starcoder2-3b"  # what sft has by default, and does not need for reference solutions
    named = {"model": model, "dtype": "float32", "revision": "v2"}
    arms = [
        {"name": "teacher", "model": model},
        {"name": "raw", "recipe": "sft", "config": {"student": "pocket-base"}},
        {
            "name": "other",
            "recipe": "logit_kd",
            "config": ARM | {"teacher": {"model": "m", "revision": "v3"}},
        },
        {"name": "logits", "recipe": "logit_kd", "config": ARM | {"teacher": named}},
    ]
    found = plan(CompareConfig.model_validate(SETTINGS | {"arms": arms, "differences": []}))
    assert (found["teacher"][0].config.dtype, found["teacher"][0].config.revision) == ("float32", "v2")


def test_the_teachers_arm_says_which_of_two_data_types_it_has() -> None:
    both = [
        {
            "name": dtype,
            "recipe": "logit_kd",
            "config": ARM | {"teacher": {"model": "pocket", "dtype": dtype}},
        }
        for dtype in ("float32", "bfloat16")
    ]
    arms = [{"name": "teacher", "model": "pocket", "config": {"dtype": "bfloat16"}}, *both]
    found = plan(CompareConfig.model_validate(SETTINGS | {"arms": arms, "differences": []}))
    assert found["teacher"][0].config.dtype == "bfloat16"


def test_a_teacher_that_no_arm_names_is_the_recipes_default() -> None:
    arms = [{"name": "teacher", "model": "pocket"}, {"name": "persd", "recipe": "persd"}]
    config = CompareConfig.model_validate(SETTINGS | {"arms": arms, "differences": []})
    found = plan(config)
    assert found["teacher"][0].config.dtype == found["persd"][0].config.teacher.dtype


def test_an_untrained_student_does_not_take_the_teachers_settings() -> None:
    arms = [
        {"name": "teacher", "model": "pocket"},
        {"name": "the same, untaught", "model": "pocket"},
        {"name": "half", "model": "pocket", "config": {"dtype": "bfloat16", "revision": "v1"}},
        {"name": "logits", "recipe": "logit_kd", "config": ARM | {"teacher": "pocket"}},
    ]
    found = plan(CompareConfig.model_validate(SETTINGS | {"arms": arms, "differences": []}))
    assert [found[arm["name"]][0].config.dtype for arm in arms[:3]] == ["bfloat16", "float32", "bfloat16"]
    assert [found[arm["name"]][0].config.revision for arm in arms[:3]] == [None, None, "v1"]
    assert {found[arm["name"]][0].config.role for arm in arms[1:3]} == {"student"}


def test_sweep_runs(tmp_path: Path) -> None:
    sweep = SweepConfig.model_validate(
        {
            "students": ["pocket-0.1m"],
            "temperatures": [1],
            "alphas": [0, 1],
            "teacher": {"model": "pocket", "dtype": "bfloat16"},
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
    saved = yaml.safe_load((tmp_path / "run" / "teacher" / "config.yaml").read_text(encoding="utf-8"))
    assert (saved["model"], saved["dtype"], saved["role"]) == ("pocket", "bfloat16", "teacher")


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
        short = arms[0] | {"config": personal | {"rounds": 1}}
        wrong = [short, arms[1] | {"result": "nothing"}]
        run(tmp_path / "other", arms=wrong, seeds=[0], teacher=None, differences=[])


@pytest.mark.parametrize(
    "arm", [{"name": "b"}, {"name": "b", "of": "text", "recipe": "sft"}, {"name": "b", "of": "c"}]
)
def test_an_arm_of_another_needs_that_one_alone(arm: dict[str, Any]) -> None:
    arms = [{"name": "text", "recipe": "sft", "config": ARM}, arm]
    with pytest.raises(ValidationError, match=r"either a recipe or a model|no earlier arm with a recipe"):
        CompareConfig.model_validate(SETTINGS | {"arms": arms, "teacher": None, "differences": []})


def test_arms_can_be_compared_by_their_greedy_completions_alone(tmp_path: Path) -> None:
    twelve = {"source": "pocket", "split": "test", "count": 12, "depths": [2]}
    evaluate = SETTINGS["evaluate"] | {"samples_per_task": 0, "tasks": twelve}
    arms = [{"name": "teacher", "model": "pocket"}, {"name": "base", "model": "pocket-base-0.1m"}]
    changes = {"evaluate": evaluate, "arms": arms, "differences": [["teacher", "base"]], "seeds": [0]}
    found = run(tmp_path, **changes)
    (tmp_path / "comparison.json").unlink()
    assert run(tmp_path, **changes).differences == found.differences  # read from files, which order the tasks
    teacher, base = found.arms
    assert teacher.greedy == teacher.pass_at[1] and base.greedy == base.pass_at[1]
    assert teacher.greedy is not None and teacher.greedy.mean > 0
    (difference,) = found.differences
    assert difference.interval.mean == pytest.approx(teacher.pass_at[1].mean - base.pass_at[1].mean)
    print_tables(found)
