"""A finished run of two rounds, whose rows are looked at."""

from pathlib import Path

import pytest
from tests.support.recipes import SETTINGS

from codestill.recipes import load_recipe
from codestill.run import Run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("browse") / "runs" / "personal"
    module = load_recipe("persd")
    config = module.Config.model_validate(SETTINGS["persd"])
    with Run.open(directory, config) as run:
        module.distill(config, run)
    return directory
