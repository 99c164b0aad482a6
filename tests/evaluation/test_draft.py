"""A model evaluated as a draft: for itself, for its teacher, killed and continued, and for strangers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from tests.support.tiny import tiny_llama

from codestill.cli.tables import print_run
from codestill.errors import VocabularyError
from codestill.evaluation import EvaluateModel, ScoreSamples, evaluate_model
from codestill.evaluation.draft import DraftText, SpeculatedText
from codestill.evaluation.metrics import ratio, ratio_difference, share
from codestill.models import Decoding, SamplingConfig
from codestill.prompts import CONTINUED
from codestill.report import write_report
from codestill.run import Run
from codestill.tasks import TasksConfig
from codestill.teachers import LocalTeacherConfig
from codestill.types import Draft, DraftLength, DraftTimes, Event, Interval, Request

TASKS = {"source": "pocket", "split": "test", "count": 6}


def config(drafts: str = "pocket-base", **draft: Any) -> EvaluateModel:
    settings = {"model": "pocket", "dtype": "float32", "max_new_tokens": 48, "run_tasks": 6} | draft
    evaluate = {"tasks": TASKS, "samples_per_task": 0, "max_new_tokens": 8, "profile": False}
    return EvaluateModel.model_validate({"model": drafts, "evaluate": evaluate | {"draft_for": settings}})


def measured(directory: Path, given: EvaluateModel, observers: Any = ()) -> Draft:
    with Run.open(directory, given, observers) as run:
        found = evaluate_model(given, run).draft
    assert found is not None
    return found


@pytest.fixture(scope="module")
def drafted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Draft]:
    directory = tmp_path_factory.mktemp("draft") / "run"
    return directory, measured(directory, config())


def test_a_model_drafts_for_itself_without_a_rejection(tmp_path: Path) -> None:
    found = measured(tmp_path / "run", config("pocket", run_length=3))
    assert found.acceptance.mean == pytest.approx(1, abs=1e-4)
    assert [at.independent for at in found.lengths] == pytest.approx(
        [at.length + 1 for at in found.lengths], rel=1e-3
    )
    with Run.open(tmp_path / "run", config("pocket", run_length=3)) as run:
        texts = run.read("evaluate-student-draft-run", SpeculatedText)
    assert len(texts) == 6 and all(text.passes == -(-text.tokens // 4) for text in texts)


def test_what_is_run_is_what_is_expected(drafted: tuple[Path, Draft]) -> None:
    _, found = drafted
    assert 0.5 < found.acceptance.mean < 0.95 and found.acceptance.low < found.acceptance.high
    assert found.texts == 6 and found.acceptance_per_task.keys() == {t.task_id for t in tasks()}
    means = [at.expected.mean for at in found.lengths]
    assert means == sorted(means) and means[0] > 1
    assert found.run and found.run.length == 4 and found.run.tasks == 6 and found.run.passes > 0
    assert found.run.difference.low < found.run.difference.mean < found.run.difference.high
    assert abs(found.run.difference.mean) < 0.5  # with so few tasks; tests of the algorithm are strict
    assert found.run.expected.mean == pytest.approx(found.lengths[3].expected.mean)
    assert found.times is None and found.best is None


def tasks() -> tuple[Any, ...]:
    return TasksConfig.model_validate(TASKS).load().tasks


def test_greedy_speculative_decoding_writes_the_targets_greedy_text(tmp_path: Path) -> None:
    given = config(temperature=0, run_length=5)
    found = measured(tmp_path / "run", given)
    with Run.open(tmp_path / "run", given) as run:
        texts = run.read("evaluate-student-draft-run", SpeculatedText)
        read = run.read("evaluate-student-draft", DraftText)
    target = LocalTeacherConfig(model="pocket", dtype="float32").build()
    stopped = CONTINUED.ended(TasksConfig.model_validate(TASKS).load().stop)
    asked = [Request(task_id=task.task_id, prompt=task.prompt) for task in tasks()]
    alone = target.complete(asked, Decoding(SamplingConfig(max_new_tokens=48), stopped, ids=True))
    expected = {answer.key: (answer.text, len(answer.ids)) for answer in alone}
    assert {text.key: (text.text, text.tokens) for text in texts} == expected
    assert any(text.passes < text.tokens for text in texts)
    # Greedily nothing is left to chance: what is expected is what is run.
    assert {value for text in read for value in text.given} <= {0.0, 1.0}
    assert found.run and found.run.tokens == found.run.expected and found.run.difference.mean == 0


def test_killed_and_continued_ends_with_the_same_bytes(drafted: tuple[Path, Draft], tmp_path: Path) -> None:
    directory, _ = drafted
    again = tmp_path / "run"
    for stage, most in (("evaluate-student-draft", 2), ("evaluate-student-draft-run", 3)):

        def dies(event: Event, stage: str = stage, most: int = most) -> None:
            if event.kind == "progress" and event.stage == stage and event.done == most:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            measured(again, config(), [dies])
        kept = (again / "stages" / f"{stage}.jsonl").read_text().splitlines()
        assert len(kept) == most
    measured(again, config())
    for name in (
        "results/student.json",
        "stages/evaluate-student-draft.jsonl",
        "stages/evaluate-student-draft-run.jsonl",
    ):
        assert (again / name).read_bytes() == (directory / name).read_bytes()


def test_it_shows_in_the_report_and_on_the_terminal(
    drafted: tuple[Path, Draft], capsys: pytest.CaptureFixture[str]
) -> None:
    directory, found = drafted
    print_run(directory)
    out = capsys.readouterr().out
    shown = f"{100 * found.acceptance.mean:.1f}%"
    assert f"drafts for pocket at temperature 1: {shown}" in out and "which stands beside the" in out
    page, markdown, *_ = write_report([directory])
    for path in (page, markdown):
        text = path.read_text(encoding="utf-8")
        assert "As a draft for a larger model" in text and f"{found.lengths[3].expected.mean:.2f}" in text


def test_other_tokens_are_refused_before_anything_is_sampled(tmp_path: Path) -> None:
    stranger = str(tiny_llama(tmp_path / "stranger"))
    with pytest.raises(VocabularyError, match=r"pocket-base cannot draft for .*disagree on") as refused:
        measured(tmp_path / "run", config(model=stranger))
    assert "same family" in refused.value.next_step
    assert not (tmp_path / "run" / "stages").exists()


def test_texts_alone_are_refused() -> None:
    draft = {"draft_for": "pocket"}
    with pytest.raises(ValidationError, match=r"evaluate\.draft_for: a served model"):
        EvaluateModel.model_validate(
            {"model": "big", "served": {"base_url": "http://x/v1"}, "evaluate": draft}
        )
    with pytest.raises(ValidationError, match=r"evaluate\.draft_for: completions made elsewhere"):
        ScoreSamples.model_validate({"samples": "s.jsonl", "evaluate": draft})


def test_speed_ups_by_hand() -> None:
    def at(length: int, tokens: float) -> DraftLength:
        return DraftLength(length=length, independent=tokens, expected=Interval(mean=tokens, low=1, high=9))

    times = DraftTimes(draft=2, target=(10, 11, 16), device="cpu", threads=1)
    found = Draft(
        target="t", dtype="float32", temperature=1, texts=1, tokens=1,
        acceptance=Interval(mean=0.8, low=0.7, high=0.9), acceptance_per_task={},
        lengths=(at(1, 1.8), at(2, 2.2)), times=times,
    )  # fmt: skip
    assert times.cost == pytest.approx(0.2)
    assert found.speedup(found.lengths[1]) == pytest.approx(2.2 / 1.4)  # theorem 3.8 alone would draft two
    assert found.speedup_here(found.lengths[0]) == pytest.approx(18 / 13)
    assert found.speedup_here(found.lengths[1]) == pytest.approx(22 / 20)
    assert found.best == found.lengths[0]


def test_times_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = config(run_tasks=0)
    timed = given.evaluate.model_copy(update={"profile": True})
    monkeypatch.setattr("codestill.models.student.LanguageModel.profile", lambda self: None)  # minutes long
    found = measured(tmp_path / "run", given.model_copy(update={"evaluate": timed}))
    assert found.run is None and found.times is not None and found.best in found.lengths
    assert found.times.draft > 0 and len(found.times.target) == 9 and min(found.times.target) > 0
    assert found.times.run_speedup and found.times.run_speedup > 0


def test_ratios_over_tasks() -> None:
    rng = np.random.default_rng(0)
    inside = widths = 0.0
    for trial in range(60):
        bottoms = rng.integers(5, 30, size=60).astype(float)
        tops = bottoms * rng.uniform(1, 3, size=60)
        found = ratio(tops.tolist(), bottoms.tolist(), seed=trial)
        inside += found.low < 2 < found.high
        widths += found.high - found.low
    assert inside >= 51 and 0.1 < widths / 60 < 0.5
    pair = [3.0, 5.0, 9.0], [1.0, 2.0, 4.0]
    assert ratio(*pair).mean == pytest.approx(17 / 7)
    none = ratio_difference(pair, pair)
    assert (none.low, none.mean, none.high) == (0, 0, 0)
    assert share([4.0, 6.0], [4.0, 6.0]).low < 0.6  # two tasks show little
    assert share([2.0, 3.0], [4.0, 6.0]).mean == 0.5
