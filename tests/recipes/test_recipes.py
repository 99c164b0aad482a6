"""Every recipe, end to end: the real sandbox, the bundled teacher, and kills."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.recipes import FROM_TEACHER, SETTINGS, TASKS
from tests.support.tiny import tiny_gpt2, tiny_starcoder2
from tests.support.worlds import DieAt, assert_killed, metrics

from codestill.errors import TaskError, VocabularyError
from codestill.evaluation import read_evaluation
from codestill.files.run_files import read_funnels, read_stage
from codestill.files.serialize import read_jsonl
from codestill.models import Decoding, SamplingConfig
from codestill.recipes import RECIPES, load_recipe
from codestill.run import Observer, Run
from codestill.teachers.frozen import LocalTeacher
from codestill.train.loop import DistillationTrainer
from codestill.types import Attempt, Completion, Example, Request


def subject(recipe: str) -> str:
    """Whom the recipe evaluates."""
    recipe = recipe.split()[0]
    return {"pocket_teacher": "teacher", "pocket_base": "base"}.get(recipe, "student")


EVERY_MOMENT: list[tuple[str, str, int]] = [
    *((recipe, "answers", 2) for recipe in ("sft", "logit_kd")),
    ("logit_kd cached", "logits", 3),
    *(
        ("persd", f"round-{n}/{stage}", 2)
        for n in (1, 2)
        for stage in ("solutions", "attempts", "refinements")
    ),
    *(
        ("amr_evol", stage, done)
        for stage, done in (
            ("modules", 2),
            ("seed/growth-answers", 2),
            ("wave-1/retrieved", 1),
            ("wave-1/growth-novelty", 1),
            ("wave-2/evolved", 1),
            ("wave-2/growth-outputs", 2),
        )
    ),
    ("persd", "warm-up/train", 2),
    *(
        ("iterkd", f"round-1/{stage}", done)
        for stage, done in (("judgements", 3), ("tools", 2), ("train", 2), ("first-tasks", 1))
    ),
    *(("opd", f"round-{n}/{stage}", 2) for n in (1, 2) for stage in ("solutions", "attempts", "gap")),
    ("opd", "round-1/train", 2),
    ("iterkd", "round-1/hard/proposals", 2),
    ("iterkd", "round-2/judgements", 1),
    ("pocket_teacher", "first/train", 2),
    ("persd", "round-1/train", 2),
    ("persd", "round-1/evaluate-student", 3),
    ("persd", "evaluate-student-self-repair", 3),
    *((recipe, "train", 3) for recipe in SETTINGS),
    *((recipe, f"evaluate-{subject(recipe)}", 4) for recipe in SETTINGS),
    *((recipe, f"evaluate-{subject(recipe)}-greedy", 1) for recipe in SETTINGS),
    *(("pocket_teacher", f"exam-validation-{stage}", 1) for stage in ("refine", "decompose", "judge")),
]
# At every commit, a moment of each kind: a stage of a teacher's answers, of programs that are executed, of a
# recipe's own, a training, an evaluation. The others are slow tests.
FAST = {
    ("sft", "answers"),
    ("sft", "evaluate-student-greedy"),
    ("logit_kd", "train"),
    ("logit_kd cached", "logits"),
    ("persd", "round-1/attempts"),
    ("persd", "round-2/refinements"),
    ("persd", "evaluate-student-self-repair"),
    ("opd", "round-2/gap"),
    ("amr_evol", "wave-1/growth-novelty"),
    ("amr_evol", "wave-2/evolved"),
    ("iterkd", "round-1/judgements"),
    ("iterkd", "round-1/hard/proposals"),
    ("pocket_base", "evaluate-base"),
    ("pocket_teacher", "exam-validation-judge"),
}
MOMENTS = [
    moment if moment[:2] in FAST else pytest.param(*moment, marks=pytest.mark.slow) for moment in EVERY_MOMENT
]
KINDS = pytest.mark.parametrize("recipe", SETTINGS)


def distil(recipe: str, directory: Path, *observers: Observer, **changes: Any) -> Any:
    torch.set_num_threads(1)
    module = load_recipe(recipe.split()[0])
    config = module.Config.model_validate(SETTINGS.get(recipe, {}) | changes)
    with Run.open(directory, config, observers) as run:
        return module.distill(config, run)


def die_at(recipe: str, directory: Path, stage: str, done: int) -> None:
    distil(recipe, directory, DieAt(stage, done))


def results(directory: Path) -> dict[str, bytes]:
    """Everything that a run is for; its log also tells of interruptions."""
    kinds = ("stages", "student", "samples", "results", "tasks", "accounting.json", "config.yaml", "bundle")
    kinds += ("exam-validation.json", "exam-test.json", "logits", "round-1", "warm-up", "answers", "first")
    kinds += ("round-2", "library", "about.json", "funnel.json", "examples.jsonl")
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    names = {path: path.relative_to(directory) for path in paths}
    return {str(name): path.read_bytes() for path, name in names.items() if name.parts[0] in kinds}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("uninterrupted")

    def made(recipe: str) -> Path:
        if not (root / recipe).exists():
            distil(recipe, root / recipe)
        return root / recipe

    return made


def test_every_bundled_recipe_is_tested() -> None:
    assert {moment[:2] for moment in EVERY_MOMENT} >= FAST
    assert {case.split()[0] for case in SETTINGS} == set(RECIPES)


@KINDS
def test_runs_end_to_end(recipe: str, uninterrupted: Callable[[str], Path]) -> None:
    directory = uninterrupted(recipe)
    found = read_evaluation(directory / "results" / f"{subject(recipe)}.json")
    assert found.task_count == 3
    assert found.model == "pocket-0.1m"
    assert set(found.pass_at) == {1, 2}
    assert sum(found.verdicts.values()) == 6
    assert found.gates.reference == 3
    logged = metrics(directory)
    assert [event.step for event in logged] == [1, 2, 3]
    assert all(("divergence" in event.metrics) == recipe.startswith(("logit_kd", "opd")) for event in logged)
    assert (directory / "student" / "model.safetensors").exists()


@KINDS
def test_the_funnel_ends_with_the_rows_that_were_trained_on(
    recipe: str, uninterrupted: Callable[[str], Path]
) -> None:
    directory = uninterrupted(recipe)
    funnels = read_funnels(directory)
    if recipe.startswith("pocket"):  # they train models from scratch: no task becomes a row
        assert not funnels
        return
    *_, last = funnels.values()
    (*_, (name, rows)) = last.items()
    assert (name, rows) == ("rows", len(list(read_jsonl(directory / "examples.jsonl", Example))))
    for part, steps in funnels.items():
        if "attempts that failed" in steps:
            attempts = read_stage(directory, f"{part}/attempts", Attempt)
            assert steps["attempts of the student"] == len(attempts)
            assert steps["attempts that failed"] == sum(not attempt.result.passed for attempt in attempts)


@pytest.mark.parametrize(("recipe", "stage", "done"), MOMENTS)
def test_killed_run_ends_with_the_same_bytes(
    recipe: str, stage: str, done: int, uninterrupted: Callable[[str], Path], tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    assert_killed(die_at, recipe, directory, stage, done)
    wanted = results(uninterrupted(recipe))
    assert results(directory) != wanted
    distil(recipe, directory)
    found = results(directory)
    assert found.keys() == wanted.keys()
    for name, content in found.items():
        assert content == wanted[name], name


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of all requests that reach a teacher."""
    keys: list[str] = []
    complete = LocalTeacher.complete

    def watched(self: LocalTeacher, requests: Iterable[Request], *args: Any, **kwargs: Any) -> Any:
        given = list(requests)
        keys.extend(request.key for request in given)
        return complete(self, given, *args, **kwargs)

    monkeypatch.setattr(LocalTeacher, "complete", watched)
    return keys


@pytest.mark.parametrize(
    ("recipe", "stage", "done"),
    [
        ("sft", "answers", 2),
        ("logit_kd", "answers", 2),
        ("persd", "round-1/solutions", 2),
        ("persd", "round-1/refinements", 1),
        ("persd", "round-1/refinements", 2),
        ("opd", "round-1/solutions", 2),
        ("amr_evol", "wave-1/evolved", 1),
        ("amr_evol", "wave-1/growth-calls", 1),
        ("iterkd", "round-1/judgements", 3),
        ("iterkd", "round-1/hard/inputs", 1),
    ],
    ids=lambda value: str(value),
)
def test_a_killed_run_asks_for_what_is_missing_alone(
    recipe: str,
    stage: str,
    done: int,
    uninterrupted: Callable[[str], Path],
    tmp_path: Path,
    asked: list[str],
) -> None:
    directory = tmp_path / "run"
    wanted = len((uninterrupted(recipe) / "ledger.jsonl").read_text().splitlines())
    assert_killed(die_at, recipe, directory, stage, done)
    asked.clear()
    kept = len((directory / "ledger.jsonl").read_text().splitlines())
    distil(recipe, directory)
    assert kept >= done
    assert len((directory / "ledger.jsonl").read_text().splitlines()) == wanted
    assert len(asked) == wanted - kept


@pytest.mark.parametrize("recipe", ["sft", "logit_kd"])
def test_second_run_asks_and_trains_nothing(
    recipe: str, tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "run"
    distil(recipe, directory)
    assert len(asked) == 5
    before, log = results(directory), (directory / "metrics.jsonl").read_bytes()
    monkeypatch.setattr(DistillationTrainer, "__init__", lambda *_, **__: pytest.fail("trains again"))
    student = distil(recipe, directory)
    assert len(asked) == 5
    assert results(directory) == before
    assert (directory / "metrics.jsonl").read_bytes() == log
    request = Request(task_id="a", prompt="def f(x):\n")
    assert next(iter(student.complete([request], Decoding(SamplingConfig(max_new_tokens=4))))).tokens <= 4


def test_workers_and_trackers_may_change_between_resumes(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    assert_killed(die_at, "sft", directory, "answers", 2)
    distil("sft", directory, execution={"device": "cpu", "workers": 1, "trackers": ["tensorboard"]})
    assert (directory / "results" / "student.json").exists()


@KINDS
def test_tasks_to_evaluate_are_read_first(recipe: str, tmp_path: Path, asked: list[str]) -> None:
    evaluate = {"tasks": {"source": "jsonl", "path": str(tmp_path / "missing.jsonl")}}
    with pytest.raises(TaskError, match=r"missing\.jsonl"):
        distil(recipe, tmp_path / "run", evaluate=evaluate)
    assert not asked
    assert not (tmp_path / "run" / "student").exists()


def test_teacher_of_another_vocabulary_is_refused_before_it_is_asked(
    tmp_path: Path, asked: list[str]
) -> None:
    student = {"model": str(tiny_gpt2(tmp_path / "student"))}
    with pytest.raises(VocabularyError, match="disagree"):
        distil("logit_kd", tmp_path / "run", student=student)
    assert not asked


def test_text_needs_no_shared_vocabulary(tmp_path: Path) -> None:
    student = {"model": str(tiny_gpt2(tmp_path / "student", positions=512))}
    assert distil("sft", tmp_path / "run", student=student).vocabulary_size == 320


def test_distils_a_starcoder2_into_the_shape_of_a_gpt2(tmp_path: Path) -> None:
    """As from the hub: a saved teacher, and a student of which only the shape is taken."""
    teacher = tiny_starcoder2(tmp_path / "teacher", positions=512)
    shape = tiny_gpt2(tmp_path / "shape", positions=512, seed=1)
    trained = distil(
        "logit_kd",
        tmp_path / "run",
        teacher={"model": str(teacher), "dtype": "float32"},
        student={"model": str(shape), "from_scratch": True, "tokenizer": str(teacher)},
        examples={"tasks": TASKS, "validation": None},
        train={"max_steps": 12, "batch_tokens": 2000, "learning_rate": 1e-2, "accumulation": 1},
        objective={"alpha": 1.0, "temperature": 1.0},
    )
    assert trained.model.config.model_type == "gpt2"
    divergences = [float(event.metrics["divergence"] or 0) for event in metrics(tmp_path / "run")]
    assert divergences[-1] < 0.9 * divergences[0]


def test_teachers_bad_answer_is_never_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that fails its tests is dropped, or gives way to the reference, as the config says."""
    from codestill.examples import ExamplesConfig, training_examples
    from codestill.sandbox import Program, Sandbox, SandboxConfig

    teacher = LocalTeacher.load("pocket", device="cpu")
    complete = LocalTeacher.complete

    def spoilt(self: LocalTeacher, requests: Iterable[Request], *args: Any, **kwargs: Any) -> Any:
        for answer in complete(self, requests, *args, **kwargs):
            bad = answer.task_id == first
            yield Completion(task_id=first, sample=0, text="    return 'wrong'\n") if bad else answer

    monkeypatch.setattr(LocalTeacher, "complete", spoilt)
    settings = FROM_TEACHER["examples"] | {"tasks": TASKS | {"depths": [1]}}
    tasks = {task.task_id: task for task in ExamplesConfig.model_validate(settings).tasks.load().tasks}
    first = next(iter(tasks))
    module = load_recipe("sft")
    with Sandbox(SandboxConfig()) as sandbox:
        for unsolved in ("drop", "reference"):
            config = module.Config.model_validate(
                SETTINGS["sft"] | {"examples": settings | {"unsolved": unsolved}}
            )
            with Run.open(tmp_path / unsolved, config) as run:
                made = training_examples(config.examples, teacher, teacher, sandbox, run)
            by_id = {example.example_id: example for example in made}
            assert sum(example.source == "teacher" for example in made) >= 2
            assert (first in by_id) == (unsolved == "reference")
            if unsolved == "reference":
                assert by_id.keys() == tasks.keys()
                assert by_id[first].source == "reference"
                assert by_id[first].completion == tasks[first].reference
            for result in sandbox.run(Program.of(tasks[e.example_id], e.completion) for e in made):
                assert result.passed
