"""A training that could not begin is told before a teacher is paid for it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.support.recipes import SETTINGS
from tests.support.worlds import open_run, student, tasks
from tests.train.test_adapters import student as student_with

from codestill.errors import ConfigError
from codestill.examples import require_room
from codestill.recipes import load_recipe
from codestill.run import Run
from codestill.train import TrainConfig

TAUGHT = ("sft", "logit_kd", "persd", "opd", "iterkd", "amr_evol")


def refused(recipe: str, directory: Path, **changes: Any) -> str:
    """What the run says at once, before any answer."""
    config = load_recipe(recipe).Config.model_validate(SETTINGS[recipe] | changes)
    with Run.open(directory, config) as run, pytest.raises(ConfigError) as raised:
        load_recipe(recipe).distill(config, run)
    assert not (directory / "ledger.jsonl").exists()
    return raised.value.message


@pytest.mark.parametrize("recipe", TAUGHT)
def test_prompts_that_leave_no_room_are_refused_before_anything_is_paid(recipe: str, tmp_path: Path) -> None:
    train = SETTINGS[recipe]["train"] | {"max_length": 12}
    said = refused(recipe, tmp_path, train=train)
    assert "no task leaves room" in said and "train.max_length allows 12" in said


@pytest.mark.parametrize("recipe", TAUGHT)
def test_a_full_disk_is_found_before_anything_is_paid(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The student has 104,688 parameters: itself, and a checkpoint of three times its size, in float32."""
    room = shutil.disk_usage(tmp_path)._replace(free=1_600_000)
    monkeypatch.setattr("codestill.train.room.shutil.disk_usage", lambda path: room)
    assert "needs 0.00168 GB of disk" in refused(recipe, tmp_path)


@pytest.mark.parametrize(("settings", "copies"), [({}, 4), ({"adapter": {"rank": 2}}, 1)])
def test_room_that_is_just_enough_is_enough(
    settings: dict[str, Any], copies: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = student("pocket-0.1m") if not settings else student_with(**settings)
    needed = copies * 4 * given.model.num_parameters()
    usage = shutil.disk_usage(tmp_path)
    with open_run(tmp_path) as run:
        for free, enough in ((needed, True), (needed - 1, False)):
            monkeypatch.setattr(
                "codestill.train.room.shutil.disk_usage", lambda path, free=free: usage._replace(free=free)
            )
            if enough:
                require_room(given, tasks(2).load(), TrainConfig(), run)
            else:
                with pytest.raises(ConfigError, match="GB of disk"):
                    require_room(given, tasks(2).load(), TrainConfig(), run)
        run.checkpoints.mkdir(parents=True)
        require_room(given, tasks(2).load(), TrainConfig(), run)  # a run that goes on has its room
