"""On-policy distillation end to end: every row, kills, what it equals, and what it refuses."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.recipes import COMMON, FROM_TEACHER, TASKS
from tests.support.tiny import CPU, tiny_gpt2, tiny_tokenizer
from tests.support.worlds import DieAt, assert_killed, examples, metrics, open_run, student, weights

from codestill.errors import TaskError, VocabularyError
from codestill.files.run_files import read_accounting
from codestill.files.serialize import read_jsonl
from codestill.losses import Distillation
from codestill.models import StudentConfig
from codestill.models.tokenizers import load_tokenizer
from codestill.recipes import load_recipe
from codestill.recipes.opd import recipe as opd
from codestill.recipes.opd.gap import NIL, Gap, measure_gap
from codestill.recipes.opd.rows import ROWS
from codestill.run import Observer, Run
from codestill.teachers import LocalTeacherConfig
from codestill.types import Event

TEMPLATE = (
    "{% for m in messages %}### {{ m.role }}\n{{ m.content }}<|endoftext|>\n{% endfor %}"
    "{% if add_generation_prompt %}### assistant\n{% endif %}"
)
EVALUATE = COMMON["evaluate"] | {
    "tasks": {"source": "pocket", "split": "test", "count": 1, "depths": [2]},
    "samples_per_task": 1,
    "greedy": False,
}
SMALL: dict[str, Any] = COMMON | {
    "teacher": FROM_TEACHER["teacher"],
    "warm_up": None,
    "tasks": TASKS | {"count": 4, "skip": 5},
    "student": "pocket-base",
    "attempts": {"max_new_tokens": 24},
    "refine": {"sampling": {"max_new_tokens": 64}},
    "evaluate": EVALUATE,
}


def distilled(directory: Path, *observers: Observer, recipe: str = "opd", **settings: Any) -> None:
    torch.set_num_threads(1)
    module = load_recipe(recipe)
    config = module.Config.model_validate(settings)
    with Run.open(directory, config, observers) as run:
        module.distill(config, run)


def die_at(directory: Path, stage: str, done: int, row: str) -> None:
    distilled(directory, DieAt(stage, done), **of_row(row))


def of_row(row: str) -> dict[str, Any]:
    """Settings of a row; one that needs no teacher must not look for it."""
    absent = {"teacher": {"model": "/nowhere"}} if ROWS[row].teacher == "itself" else {}  # pyright: ignore
    return SMALL | absent | {"row": row}


def made(directory: Path) -> dict[str, bytes]:
    """What a run is for; its log and ledger also tell of interruptions."""
    kinds = ("stages", "student", "results", "answers", "accounting.json")
    paths = (path for path in directory.rglob("*") if path.is_file())
    found = {path.relative_to(directory): path.read_bytes() for path in paths}
    return {str(name): content for name, content in found.items() if name.parts[0] in kinds}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A run of a row that nothing interrupted; tests only read it."""

    @cache
    def ended(row: str) -> Path:
        directory = tmp_path_factory.mktemp("whole") / "run"
        distilled(directory, **of_row(row))
        return directory

    return ended


ROW_CASES = [
    ("gkd", "round-1/attempts"),
    ("sdft", "round-1/gap"),
    ("sdpo", "train"),
    ("feedback", "train"),
    ("refined", "round-1/refinements"),
]


@pytest.mark.parametrize(
    ("row", "stage"),
    [
        case if case[0] in ("sdft", "refined") else pytest.param(*case, marks=pytest.mark.slow)
        for case in ROW_CASES
    ],
)
def test_a_row_that_is_killed_ends_with_the_same_bytes(
    row: str, stage: str, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    account: dict[str, Any] = read_accounting(whole(row))
    assert account["round-1/gap_tokens"] > 0
    assert account["round-1/gap_nats_per_token"] > NIL
    assert 0 < account["round-1/on_policy_examples"] == account["examples"]
    assert (account["round-1/refinement_calls"] > 0) == (row == "refined")
    (times,) = metrics(whole(row), "round-1/time")
    spent = {name for name, seconds in times.metrics.items() if seconds}
    asks = {"answers_seconds"} if row == "refined" else set()
    assert spent == {"attempts_seconds", "gap_seconds", "teacher_seconds", "student_seconds"} | asks
    assert_killed(die_at, tmp_path / "killed", stage, 1, row)
    distilled(tmp_path / "killed", **of_row(row))
    assert made(tmp_path / "killed") == made(whole(row))
    ledgers = [directory / "ledger.jsonl" for directory in (whole(row), tmp_path / "killed")]
    calls = [len(path.read_text().splitlines()) if path.exists() else 0 for path in ledgers]
    assert calls == [account["round-1/refinement_calls"]] * 2


# In full: the two recipes have defaults of their own.
OFF_POLICY: dict[str, Any] = COMMON | {
    "teacher": FROM_TEACHER["teacher"],
    "evaluate": EVALUATE,
    "train": COMMON["train"] | {"learning_rate": 1e-3, "precision": "float32"},
}
OBJECTIVE: dict[str, Any] = {"temperature": 2.0, "alpha": 0.5}


@pytest.fixture(scope="module")
def from_logits(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """The weights that logit distillation leaves, by divergence."""

    @cache
    def trained(divergence: str) -> bytes:
        directory = tmp_path_factory.mktemp("kd")
        own = {"objective": OBJECTIVE | {"divergence": divergence}}
        given = {"examples": {"tasks": TASKS, "validation": None}}
        distilled(directory, **OFF_POLICY, **own, **given, recipe="logit_kd")
        return weights(directory)

    return trained


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl"])
@pytest.mark.parametrize("named", [True, False], ids=["by name", "as an end of generalized_jsd"])
def test_off_policy_it_is_logit_distillation_bit_for_bit(
    named: bool, divergence: str, from_logits: Callable[[str], bytes], tmp_path: Path
) -> None:
    end = {"divergence": "generalized_jsd", "beta": {"forward_kl": 0.0, "reverse_kl": 1.0}[divergence]}
    objective = OBJECTIVE | ({"divergence": divergence} if named else end)
    same = {"tasks": TASKS | {"skip": 0}, "warm_up": None, "on_policy": 0}
    distilled(tmp_path / "opd", **OFF_POLICY, objective=objective, **same)
    assert weights(tmp_path / "opd") == from_logits(divergence)


@pytest.fixture
def aligned(tmp_path: Path) -> dict[str, Any]:
    """A student whose tokenizer is not the teacher's."""
    tiny_tokenizer(320).save_pretrained(str(tmp_path / "tokenizer"))
    return SMALL | {
        "student": {"preset": "pocket-0.1m", "tokenizer": str(tmp_path / "tokenizer")},
        "warm_up": {"tasks": TASKS, "train": COMMON["train"]},
        "teacher_logits": "cached",
        "cache": {"vocabularies": "aligned"},
        "execution": {"device": "cpu", "capture_batch_tokens": 8},  # a batch per text
    }


def die_aligned(directory: Path, settings: dict[str, Any]) -> None:
    distilled(directory, DieAt("round-1/logits", 1), **settings)


def test_a_teacher_with_another_tokenizer_reads_the_students_own_text(
    aligned: dict[str, Any], tmp_path: Path
) -> None:
    distilled(tmp_path / "run", **aligned)
    account: dict[str, Any] = read_accounting(tmp_path / "run")
    assert 0.1 < account["round-1/aligned_one_to_one"] < account["round-1/aligned_boundaries"] < 1
    assert account["round-1/gap_nats_per_token"] > NIL
    assert (tmp_path / "run" / "logits" / "round-1" / "manifest.json").exists()
    logged = metrics(tmp_path / "run", "train")
    assert len(logged) == 3 and all(float(event.metrics["divergence"] or 0) > 0 for event in logged)


@pytest.mark.slow
def test_a_capture_of_the_students_own_text_that_is_killed_ends_with_the_same_bytes(
    aligned: dict[str, Any], tmp_path: Path
) -> None:
    distilled(tmp_path / "whole", **aligned)
    assert_killed(die_aligned, tmp_path / "killed", aligned)
    distilled(tmp_path / "killed", **aligned)
    assert made(tmp_path / "killed") == made(tmp_path / "whole")


@pytest.mark.parametrize("row", ["feedback", "sdft"])
def test_cached_logits_are_those_of_the_teacher_behind_its_own_prompt(
    row: str, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    distilled(tmp_path / "cached", **of_row(row), teacher_logits="cached")
    live, cached = (
        float(read_accounting(directory)["round-1/gap_nats_per_token"])
        for directory in (whole(row), tmp_path / "cached")
    )
    # What is not kept is one outcome, and a divergence of fewer outcomes is never larger.
    assert 0.75 * live < cached < 1.01 * live


@pytest.mark.parametrize(
    ("row", "why"), [("sdft", "is the student itself"), ("feedback", "prompt of its own")]
)
def test_rows_that_show_something_are_not_aligned(row: str, why: str) -> None:
    settings = {"row": row, "teacher_logits": "cached", "cache": {"vocabularies": "aligned"}}
    with pytest.raises(ValueError, match=why):
        opd.Config.model_validate(settings)


@pytest.mark.parametrize("hidden", [True, False])
def test_a_teacher_that_would_say_nothing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hidden: bool
) -> None:
    learner, given = student("pocket-base"), examples(4)
    itself = opd._itself(learner)
    if not hidden:
        monkeypatch.setattr(type(itself), "linear", lambda *_: None)
    # It has never seen a second task behind a first one, and says that the text ends.
    shown = [
        one.model_copy(update={"teacher_prompt": f"{one.prompt}{one.completion}\n{one.prompt}"})
        for one in given
    ]
    said: dict[str, list[str]] = {}
    ends: dict[str, list[float]] = {}
    for name, of in (("plain", given), ("shown", shown)):
        with open_run(tmp_path / name) as run:
            measure_gap(learner, itself, of, Distillation(temperature=1.0, alpha=1.0), 512, run)
            ends[name] = [gap.ends for gap in run.read("gap", Gap) if gap.ends is not None]
        events = read_jsonl(tmp_path / name / "metrics.jsonl", Event)
        said[name] = [event.message for event in events if event.kind == "message"]
    assert len(ends["plain"]) == len(ends["shown"]) == 4
    assert max(ends["plain"]) < 0.1 and min(ends["shown"]) > 0.9
    assert not any("ends" in text for text in said["plain"])
    assert (
        "of the texts at their first token" in said["shown"][0] and "answer with nothing" in said["shown"][0]
    )


def test_a_gap_of_nothing_is_said(tmp_path: Path) -> None:
    learner, given = student("pocket-base"), examples(3)
    itself = opd._itself(learner)
    shown = [
        one.model_copy(update={"teacher_prompt": f"{one.prompt}{one.completion}\n{one.prompt}"})
        for one in given
    ]
    objective = Distillation(divergence="reverse_kl", temperature=1.0, alpha=1.0)
    said: dict[str, list[str]] = {}
    gaps: dict[str, float] = {}
    for name, of in (("plain", given), ("shown", shown)):
        for _ in range(2):  # a resumed run says nothing twice
            with open_run(tmp_path / name) as run:
                gaps[name] = measure_gap(learner, itself, of, objective, 512, run)
        events = list(read_jsonl(tmp_path / name / "metrics.jsonl", Event))
        said[name] = [event.message for event in events if event.kind == "message"]
        assert len([event for event in events if event.kind == "metrics"]) == 1
        assert read_accounting(tmp_path / name)["gap_nats_per_token"] == pytest.approx(gaps[name], abs=1e-6)
    assert gaps["plain"] == pytest.approx(0, abs=1e-6)
    assert gaps["shown"] > 0.01
    assert "nothing to learn" in said["plain"][0]
    assert len(said["shown"]) == 1 and "nothing to learn" not in said["shown"][0]


def test_the_frozen_student_does_not_learn() -> None:
    learner = student("pocket-base")
    itself = opd._itself(learner)
    before = itself.fingerprint
    with torch.no_grad():
        next(iter(learner.model.parameters())).add_(1.0)
    del itself.__dict__["fingerprint"]
    assert itself.fingerprint == before


def test_a_teacher_of_another_vocabulary_is_refused_before_any_work(tmp_path: Path) -> None:
    other = {"model": str(tiny_gpt2(tmp_path / "student", positions=512))}
    with pytest.raises(VocabularyError, match="disagree"):
        distilled(tmp_path / "run", **SMALL | {"student": other, "warm_up": {"tasks": TASKS}})
    assert not (tmp_path / "run" / "warm-up").exists()
    assert not (tmp_path / "run" / "ledger.jsonl").exists()


def test_ends_of_sequence_and_templates_are_compared(tmp_path: Path) -> None:
    teacher = LocalTeacherConfig(model="pocket", dtype="float32").build(CPU)
    tokenizer = load_tokenizer(str(student("pocket-base").save(tmp_path / "saved")))
    with open_run(tmp_path / "run") as run:
        tokenizer.chat_template = TEMPLATE.replace("<|endoftext|>", "<|pad|>")
        chatting = StudentConfig(preset="pocket-0.1m", chat=True).build(tokenizer, placement=CPU)
        with pytest.raises(VocabularyError, match=r"ends its text with <\|pad\|>"):
            opd._require_one_language(opd.Config(), teacher, run, chatting)
        tokenizer.chat_template = TEMPLATE
        chatting = StudentConfig(preset="pocket-0.1m", chat=True).build(tokenizer, placement=CPU)
        opd._require_one_language(opd.Config(), teacher, run, chatting)
    said = [event.message for event in read_jsonl(tmp_path / "run" / "metrics.jsonl", Event)]
    assert "different forms" in said[0]


def test_what_cannot_be_taught_is_refused(tmp_path: Path) -> None:
    endpoint = {"type": "api", "model": "m", "base_url": "http://127.0.0.1:9/v1"}
    with pytest.raises(ValueError, match="a text-only endpoint has none"):
        opd.Config.model_validate(SMALL | {"teacher": endpoint, "row": "feedback"})
    assert opd.Config.model_validate(SMALL | {"teacher": endpoint, "row": "sdft", "solutions": "teacher"})
    nothing = {"solutions": "teacher", "on_policy": 0, "refine": {"sampling": {"max_new_tokens": 1}}}
    with pytest.raises(TaskError, match="no training example"):
        distilled(tmp_path / "none", **SMALL | nothing)
