"""What a run directory's files say."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codestill.config import RunConfig
from codestill.errors import ConfigMismatch
from codestill.files.run_files import FORECAST, read_accounting, require_same
from codestill.run import Run


def refused(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigMismatch) as raised:
        require_same(Path("run"), saved, now)
    return [line.strip() for line in raised.value.message.splitlines()[1:]]


def test_the_setting_of_an_arm_that_differs_is_named_by_its_path() -> None:
    arms = [{"name": "teacher"}, {"name": "after", "config": {"train": {"max_steps": 200, "epochs": 7}}}]
    now = [{"name": "teacher"}, {"name": "after", "config": {"train": {"max_steps": 10, "epochs": 7}}}]
    assert refused({"arms": arms}, {"arms": now}) == ["arms.after.config.train.max_steps: saved 200, now 10"]
    assert refused({"arms": arms}, {"arms": now[:1]}) == [
        f"arms.after: saved {arms[1]}, now None",
    ]


def test_another_recipe_is_all_that_is_said() -> None:
    saved, now = {"recipe": "evaluate", "model": "m"}, {"recipe": "sft", "train": {}}
    assert refused(saved, now) == ["recipe: saved 'evaluate', now 'sft'"]


def test_the_first_of_many_differences_are_named() -> None:
    said = refused({f"s{n:02}": 0 for n in range(20)}, {f"s{n:02}": 1 for n in range(20)})
    assert len(said) == 13 and said[0].startswith("s00") and said[-1] == "and 8 more"


def fail(directory: Path, work: Callable[[Run], object]) -> None:
    with pytest.raises(ZeroDivisionError), Run.open(directory, RunConfig()) as run:
        work(run)
        _ = 1 / 0


def test_a_run_that_fails_before_it_did_anything_leaves_no_directory(tmp_path: Path) -> None:
    fail(tmp_path / "run", lambda run: run.message("evaluate", "the model is asked as a chat"))
    assert not (tmp_path / "run").exists()


def test_what_was_there_before_stays(tmp_path: Path) -> None:
    (tmp_path / FORECAST).write_text("{}")
    fail(tmp_path, lambda run: None)
    assert [path.name for path in tmp_path.iterdir()] == [FORECAST]


def test_a_run_that_has_done_something_keeps_it(tmp_path: Path) -> None:
    fail(tmp_path, lambda run: run.account(answers=3))
    assert read_accounting(tmp_path) == {"answers": 3}
    assert (tmp_path / "config.yaml").exists()
    with Run.open(tmp_path, RunConfig()):
        pass  # and goes on
