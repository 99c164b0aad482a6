"""A teacher with another tokenizer: whole runs, killed ones, and caches that runs share."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tests.support.recipes import FROM_TEACHER, SETTINGS
from tests.support.tiny import tiny_tokenizer
from tests.support.worlds import DieAt, assert_killed, metrics, weights

from codestill.capture import CaptureRun, capture_run
from codestill.errors import VocabularyError
from codestill.recipes import logit_kd
from codestill.run import Observer, Run
from codestill.teachers.frozen import LocalTeacher
from codestill.types import Event

KEPT = ("stages", "student", "samples", "results", "logits", "answers", "accounting.json")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The student's: not the teacher's."""
    directory = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer(320).save_pretrained(str(directory))
    return directory


def distil(directory: Path, tokenizer: Path | None, *observers: Observer, **cache: Any) -> None:
    torch.set_num_threads(1)
    student = {"preset": "pocket-0.1m"} | ({} if tokenizer is None else {"tokenizer": str(tokenizer)})
    changes = {"student": student, "cache": {"vocabularies": "aligned"} | cache}
    config = logit_kd.Config.model_validate(SETTINGS["logit_kd cached"] | changes)
    with Run.open(directory, config, observers) as run:
        logit_kd.distill(config, run)


def die_at(directory: Path, tokenizer: Path, stage: str, done: int) -> None:
    distil(directory, tokenizer, DieAt(stage, done))


def results(directory: Path) -> dict[str, bytes]:
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    names = {path: path.relative_to(directory) for path in paths}
    return {str(name): path.read_bytes() for path, name in names.items() if name.parts[0] in KEPT}


@pytest.fixture(scope="module")
def uninterrupted(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("whole") / "run"
    distil(directory, tokenizer)
    return directory


def test_a_teacher_with_another_tokenizer_teaches(uninterrupted: Path) -> None:
    logged = metrics(uninterrupted)
    assert len(logged) == 3 and all(float(event.metrics["divergence"] or 0) > 0 for event in logged)
    accounted = json.loads((uninterrupted / "accounting.json").read_text())
    assert 0.2 < accounted["aligned_one_to_one"] < accounted["aligned_boundaries"] < 1
    assert 0 < accounted["aligned_lost_T2"] < 1 and len(accounted["aligned_vocabulary"]) == 16
    said = (uninterrupted / "metrics.jsonl").read_text()
    assert "aligned: of " in said and "get its distribution" in said


@pytest.mark.parametrize(("stage", "done"), [("logits", 3), pytest.param("train", 2, marks=pytest.mark.slow)])
def test_a_killed_run_ends_with_the_same_bytes(
    stage: str, done: int, uninterrupted: Path, tokenizer: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    assert_killed(die_at, directory, tokenizer, stage, done)
    assert results(directory) != results(uninterrupted)
    distil(directory, tokenizer)
    assert results(directory) == results(uninterrupted)


def test_the_same_tokenizer_trains_as_without_alignment(tmp_path: Path) -> None:
    distil(tmp_path / "aligned", None)
    distil(tmp_path / "same", None, vocabularies="same")
    assert weights(tmp_path / "aligned") == weights(tmp_path / "same")
    assert [e.metrics for e in metrics(tmp_path / "aligned")] == [
        e.metrics for e in metrics(tmp_path / "same")
    ]


def test_a_cache_for_a_student_is_read_without_its_teacher(
    tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One cache for two students, the second of which has the teacher's own tokenizer."""
    examples = FROM_TEACHER["examples"] | {"answers": "reference", "unsolved": "drop"}
    config = CaptureRun.model_validate(
        {
            "teacher": FROM_TEACHER["teacher"],
            "student": {"preset": "pocket-0.1m", "tokenizer": str(tokenizer)},
            "examples": examples,
            "execution": {"device": "cpu"},
        }
    )
    said: list[Event] = []
    with Run.open(tmp_path / "cache", config, [said.append]) as run:
        capture_run(config, run)
    told = [event.message for event in said if (event.message or "").startswith("aligned: ")]
    assert len(told) == 1 and "% at T=1, " in told[0] and "% at T=2" in told[0]
    assert {"aligned_lost_T1", "aligned_lost_T2"} <= run.accounting.keys()

    monkeypatch.setattr(LocalTeacher, "load", lambda *_, **__: pytest.fail("the teacher is loaded"))
    settings = SETTINGS["logit_kd cached"] | {"examples": examples}
    for name, own in (("other", {"tokenizer": str(tokenizer)}), ("same", {})):
        trained = logit_kd.Config.model_validate(
            settings
            | {
                "student": {"preset": "pocket-0.1m"} | own,
                "cache": {
                    "directory": tmp_path / "cache" / "logits",
                    "vocabularies": "aligned" if own else "same",
                },
            }
        )
        with Run.open(tmp_path / name, trained) as run:
            logit_kd.distill(trained, run)
        assert len(metrics(tmp_path / name)) == 3


def test_nothing_is_aligned_unless_it_is_asked_for(tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match=r"disagree on [\d,]+ tokens"):
        distil(tmp_path, tokenizer, vocabularies="same")
    assert not (tmp_path / "logits").exists() and not (tmp_path / "answers").exists()


def test_a_tokenizer_without_bytes_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    from tests.support.token_families import changed
    from tokenizers import normalizers

    odd = changed("gpt2")
    odd.backend_tokenizer.normalizer = normalizers.Lowercase()
    odd.save_pretrained(str(tmp_path / "odd"))
    with pytest.raises(VocabularyError, match="odd cannot be aligned with another: its normaliser Lowercase"):
        distil(tmp_path / "run", tmp_path / "odd")
    assert not (tmp_path / "run" / "answers").exists()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"cache": {"vocabularies": "aligned"}}, "teacher_logits is live"),
        *(
            ({"cache": {"vocabularies": "aligned", "tail": rule}}, "needs the tail rule bucket")
            for rule in ("renormalise", "drop", "sampled")
        ),
    ],
)
def test_settings_without_a_meaning_are_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        logit_kd.Config.model_validate(changes)


def test_a_divergence_of_the_whole_vocabulary_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from codestill.losses import DIVERGENCES

    whole = replace(DIVERGENCES["forward_kl"], tail_rules=("drop",))
    monkeypatch.setitem(DIVERGENCES, "forward_kl", whole)
    with pytest.raises(ValidationError, match="forward_kl, which needs the whole vocabulary"):
        logit_kd.Config.model_validate({"teacher_logits": "cached", "cache": {"vocabularies": "aligned"}})
