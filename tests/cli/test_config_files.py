"""Several config files."""

from pathlib import Path

from tests.cli.conftest import Codestill, assert_refused

from codestill.cli.settings import read_settings
from codestill.recipes import load_recipe


def test_a_later_file_overrides_an_earlier_one_setting_by_setting(codestill: Codestill) -> None:
    Path("first.yaml").write_text("train: {epochs: 3, learning_rate: 0.1}\nseed: 4\nstudent: pocket-0.1m\n")
    Path("second.yaml").write_text("train: {learning_rate: 0.2}\n")
    words = ["--config", "first.yaml", "--config=second.yaml", "--train.epochs", "5"]
    settings = read_settings(load_recipe("sft").Config, "run sft", words)
    assert settings is not None
    config = settings[1]
    assert (config.train.epochs, config.train.learning_rate, config.seed) == (5, 0.2, 4)
    assert config.student.preset == "pocket-0.1m"


def test_every_file_is_checked(codestill: Codestill) -> None:
    Path("first.yaml").write_text("seed: 1\n")
    Path("second.yaml").write_text("train: {epoch: 1}\n")
    outcome = codestill("run", "sft", "--config", "first.yaml", "--config", "second.yaml")
    assert_refused(outcome, "second.yaml", "epochs")
    assert_refused(codestill("run", "sft", "--config", "first.yaml", "--config", "gone.yaml"), "gone.yaml")
