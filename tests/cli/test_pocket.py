"""`codestill pocket`: the bundled models made and examined."""

from pathlib import Path

import pytest
from tests.cli.conftest import Codestill, assert_refused


@pytest.mark.parametrize("command", ["train-teacher", "train-base", "exam"])
def test_help_lists_settings_with_their_meaning(codestill: Codestill, command: str) -> None:
    done = codestill("pocket", command, "--help-all")
    assert done.code == 0
    wanted = {"train-teacher": "--lessons", "train-base": "--programs", "exam": "--exam.split"}[command]
    assert wanted in done.out and "--seed" in done.out
    assert not Path("runs").exists()


def test_wrong_input_is_named(codestill: Codestill) -> None:
    assert_refused(codestill("pocket", "exam", "nowhere/model/at/all"), "nowhere/model/at/all")
    assert_refused(codestill("pocket", "train-teacher", "--lesson", "3"), "lesson")
    assert_refused(codestill("pocket", "train-base", "--student", "pocket-4m"), "pocket-4m")
    assert_refused(codestill("pocket", "exam", "pocket", "--exam.split", "train"), "split")


def test_a_base_student_from_the_command_line_to_its_bundle(codestill: Codestill) -> None:
    tiny = ("--student", "pocket-0.1m", "--programs", "8", "--train.max-steps", "2")
    few = ("--evaluate.tasks.count", "2", "--evaluate.max-new-tokens", "8", "--execution.device", "cpu")
    tasks = ("--evaluate.tasks.source", "pocket", "--evaluate.tasks.split", "validation")
    done = codestill("pocket", "train-base", *tiny, *few, *tasks, "--run-dir", "base")
    assert done.code == 0, done.err
    assert "bundle: base/bundle" in done.out and "depth 2" in done.out
    files = {path.name for path in Path("base/bundle").iterdir()}
    assert {"model.safetensors", "tokenizer.json", "config.json", "README.md"} <= files
    again = codestill("pocket", "train-base", *tiny, *few, *tasks, "--run-dir", "base")
    assert again.code == 0 and again.out in done.out
