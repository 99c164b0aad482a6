"""What a model card says, and that hubs can read it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from tests.publish.conftest import settings
from tests.support.tiny import tiny_model

from codestill.cli import main
from codestill.errors import RunError
from codestill.files.serialize import read_record, write_object
from codestill.launch import distill
from codestill.models.licence import UNKNOWN, licence_of
from codestill.models.saved import SavedForm
from codestill.report.card import (
    is_hub_id,
    model_card,
    sources_of,
    tasks_of,
    without_places,
    write_card,
)
from codestill.types import Evaluation


def read(run: Path, **how: str) -> Any:
    return ModelCard.load(write_card(run, **how))


def test_the_scores_are_a_model_index(trained: Path) -> None:
    card = read(trained, licence="apache-2.0", name="mine")
    evaluation = read_record(trained / "results/student.json", Evaluation)
    (entry,) = [one for one in card.data.eval_results or [] if one.metric_type == "pass@1"]
    score = evaluation.pass_at[1]
    assert (card.data.license, card.data.model_name) == ("apache-2.0", "mine")
    assert entry.metric_value == round(100 * score.mean, 1) and entry.dataset_name == evaluation.tasks
    assert entry.metric_args == {
        "interval_95": [round(100 * score.low, 1), round(100 * score.high, 1)],
        "samples_per_task": 2,
        "temperature": evaluation.temperature,
    }


def test_it_says_what_it_was_made_of_and_how_to_repeat_it(trained: Path) -> None:
    text = read(trained).text
    for said in (
        "# kd",
        "Of 3 tasks of own:all",
        "holds: an empty completion passes 0/3",
        "| began as | pocket-base-0.1m | apache-2.0 |",
        "| tasks | pocket | apache-2.0 |",
        "| tasks | own.jsonl | unknown |",
        "A licence that is unknown here has to be looked up",
        "near repeats were not looked for",
        "- training steps: 1",
        "It reads at most 512 tokens",
        "codestill run sft --config config.yaml",
        "It continues code; it is not asked in a chat.",
        "It was not trained here to fill a gap",
    ):
        assert said in text, said
    config = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    assert config["train"]["max_steps"] == 1 and config["evaluate"]["tasks"]["path"] == "own.jsonl"
    assert str(trained.parent) not in text  # nothing of this machine


def test_a_student_that_fills_gaps_is_not_said_to_lack_it(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "kd")
    SavedForm(chat=False, fills_gaps=True).write(run / "student")
    assert "not trained here to fill" not in read(run).text


def test_what_was_left_out_is_shown(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "kd")
    (run / "decontamination.txt").write_text("6 training tasks: 1 removed, 5 kept\n", encoding="utf-8")
    text = model_card(run)
    assert "1 removed, 5 kept" in text and "near repeats" not in text


@pytest.mark.parametrize("change", [{"subset": True}, {"gates": {"reference": 0}}])
def test_a_score_that_cannot_be_believed_is_no_entry(
    change: dict[str, Any], trained: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(trained, tmp_path / "kd")
    found = read_record(run / "results/student.json", Evaluation)
    if "gates" in change:
        change = {"gates": found.gates.model_copy(update=change["gates"])}
    write_object(run / "results/student.json", found.model_copy(update=change))
    card = read(run)
    assert not card.data.eval_results and "No headline" in card.text


def test_without_samples_the_greedy_score_is_the_entry(tmp_path: Path) -> None:
    distill("sft", tmp_path / "kd", **settings(tmp_path, samples_per_task=0, greedy=True))
    (entry,) = read(tmp_path / "kd").data.eval_results or []
    assert (entry.metric_type, (entry.metric_args or {})["temperature"]) == ("pass@1", 0.0)


def test_licences_are_read_where_they_stand(tmp_path: Path) -> None:
    bare, carded, filed = (tiny_model(tmp_path / name, "gpt2") for name in ("bare", "carded", "filed"))
    (carded / "README.md").write_text("---\nlicense: mit\n---\n# A model\n", encoding="utf-8")
    (filed / "LICENSE").write_text("\n\n  Some Licence 2.0\nwith a text\n", encoding="utf-8")
    assert [licence_of(str(place)) for place in (bare, carded, filed)] == [UNKNOWN, "mit", "Some Licence 2.0"]
    assert licence_of("nobody/nothing") == UNKNOWN
    from codestill.models.gguf.write import write_gguf

    write_gguf(bare, tmp_path / "m.gguf", "f16", licence="bsd-3-clause")
    assert licence_of(str(tmp_path / "m.gguf")) == "bsd-3-clause"


def test_models_and_tasks_are_those_of_the_config() -> None:
    config = {
        "student": {"model": "pocket"},
        "teacher": {"type": "api", "model": "big", "base_url": "https://x"},
        "examples": {"tasks": {"source": "mbpp"}},
        "evaluate": {"tasks": {"source": "jsonl", "path": "/home/me/mine.jsonl"}},
    }
    assert tasks_of(config) == ["mbpp", "/home/me/mine.jsonl"]
    assert [tuple(source) for source in sources_of(config)] == [
        ("began as", "pocket", "apache-2.0"),
        ("teacher", "big", UNKNOWN),
        ("tasks", "mbpp", "cc-by-4.0"),
        ("tasks", "mine.jsonl", UNKNOWN),
    ]
    assert without_places({"a": ["/x/y", "b/c"], "n": 1}) == {"a": ["y", "b/c"], "n": 1}
    assert is_hub_id("Qwen/Qwen2.5") and not any(map(is_hub_id, ("pocket", "/a/b", "./a/b", "a/b/c")))


def test_a_run_without_a_student_has_no_card(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "kd")
    shutil.rmtree(run / "student")
    with pytest.raises(RunError, match="has no trained student"):
        write_card(run)


def test_the_command_says_where_it_is(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["card", str(trained), "--licence", "mit"])
    assert not ended.value.code and str(trained / "student/README.md") in capsys.readouterr().out
    card: Any = ModelCard.load(trained / "student/README.md")
    assert card.data.license == "mit"
