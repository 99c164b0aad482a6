"""Endpoints that a run will ask answer before anything is done for it."""

from pathlib import Path
from typing import Any

import pytest
from tests.support.recipes import SETTINGS
from tests.teachers.endpoint import serving

from codestill.errors import ConfigError
from codestill.openai_client import require_answer
from codestill.recipes import load_recipe
from codestill.run import Run
from codestill.teachers.reach import require_endpoints

NOBODY = "http://127.0.0.1:1/v1"
DEAD = {"type": "api", "model": "m", "base_url": NOBODY}
JUDGE = {"judge": {"by": "model", "model": DEAD}}
EMBEDDER = {"embedder": {"type": "endpoint", "model": "e", "base_url": NOBODY}}


def config(recipe: str, **changes: Any) -> Any:
    return load_recipe(recipe).Config.model_validate(SETTINGS[recipe] | changes)


@pytest.mark.parametrize(
    ("recipe", "changes", "place"),
    [
        ("persd", {"teacher": DEAD}, "teacher"),
        ("sft", {"teacher": DEAD}, "teacher"),
        ("iterkd", {"feedback": JUDGE}, "feedback.judge.model"),
        ("amr_evol", {"library": SETTINGS["amr_evol"]["library"] | EMBEDDER}, "library.embedder"),
    ],
)
def test_what_does_not_answer_is_named_before_anything_is_done(
    tmp_path: Path, recipe: str, changes: dict[str, Any], place: str
) -> None:
    settings = config(recipe, **changes)
    with Run.open(tmp_path, settings) as run, pytest.raises(ConfigError, match=f"{place}: nothing answers"):
        load_recipe(recipe).distill(settings, run)
    assert not (tmp_path / "stages").exists() and not (tmp_path / "ledger.jsonl").exists()


def test_what_is_not_asked_need_not_answer(tmp_path: Path) -> None:
    own = SETTINGS["sft"]["examples"] | {"answers": "reference", "unsolved": "drop"}
    unused = [
        config("sft", teacher=DEAD, examples=own),
        config("iterkd", feedback={"judge": {"by": "teacher", "model": DEAD}}),
        config("persd", teacher=DEAD, teacher_usage={"replay": "only"}),
    ]
    for number, settings in enumerate(unused):
        with Run.open(tmp_path / str(number), settings) as run:
            require_endpoints(settings, run)
    (tmp_path / "answers").mkdir()
    kept = config("persd", teacher=DEAD, teacher_usage={"answers": tmp_path / "answers"})
    with Run.open(tmp_path / "kept", kept) as run:
        require_endpoints(kept, run)
    begun = config("persd", teacher=DEAD)
    with Run.open(tmp_path / "begun", begun) as run:
        run.ledger_path.touch()
        require_endpoints(begun, run)


def test_any_answer_will_do_but_a_refused_key() -> None:
    with serving() as server:
        for server.listing in (403, 404, 429, 500):
            require_answer(server.url, "teacher")
        server.listing = 401
        with pytest.raises(ConfigError, match=r"judge: .* refuses the key"):
            require_answer(server.url, "judge")
        assert not server.asked  # nothing was paid


def test_credentials_are_not_named() -> None:
    with pytest.raises(ConfigError) as raised:
        require_answer("http://user:hunter2@127.0.0.1:1/v1", "teacher")
    assert "hunter2" not in f"{raised.value.message} {raised.value.next_step}"
