"""What a run directory's files say."""

from pathlib import Path
from typing import Any

import pytest

from codestill.errors import ConfigMismatch
from codestill.files.run_files import require_same


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
