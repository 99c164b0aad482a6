"""What the page on real models says of its settings is what the bundled configs hold."""

import re

import pytest
import yaml
from tests.docs.pages import ROOT

from codestill.configs import CONFIGS

PAGE = (ROOT / "docs" / "real-models.md").read_text(encoding="utf-8")
FILES = sorted((CONFIGS / "real").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_table_has_the_settings_of_every_recipe(path):
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    train = values["train"]
    rows = dict(re.findall(r"^\| `([\w.]+)`[^|]*\| ([^|]*) \|", PAGE, re.MULTILINE))
    assert rows["train.batch_tokens"] == f"{train['batch_tokens']:,} × {train['accumulation']}"
    assert f"over {train['batch_tokens'] * train['accumulation']:,} tokens" in PAGE
    assert rows["train.max_length"] == f"{train['max_length']:,}"
    rate = f"{train['learning_rate']:.0e}".replace("e-0", "e-")
    assert (
        rows["train.learning_rate"] == f"{rate}, {train['schedule']}, {train['warmup_fraction']:.0%} warm-up"
    )
    epochs = re.fullmatch(r"(\d+) \(`iterkd`: (\d+) per round\)", rows["train.epochs"])
    assert epochs and train["epochs"] == int(epochs[1 + (path.stem == "iterkd")])
    assert values["evaluate"]["tasks"]["source"] in rows["evaluate"]
    assert rows["teacher_usage.answers"] == f"`{values['teacher_usage']['answers']}`"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_page_has_the_command_of_every_recipe(path):
    assert f"\ncodestill run {path.stem} --config real " in PAGE
