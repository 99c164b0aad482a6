"""Which recipe suits a teacher and a student, and with which settings."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.support.tiny import tiny_llama

from codestill.compare import plan
from codestill.errors import ConfigError, TaskError
from codestill.models.presets import model_table
from codestill.planning import Choice, DistilConfig, choose
from codestill.planning.memory import BYTES_PER_PARAMETER, USABLE, adapted

ENDPOINT = {"type": "api", "base_url": "http://localhost:1/v1", "model": "served"}
POCKET = {"tasks": {"source": "pocket", "count": 4}, "held_out": {"source": "pocket", "count": 2}}


def chosen(directory: Path, **settings: Any) -> Choice:
    return choose(DistilConfig.model_validate(POCKET | settings), directory)


def arm(choice: Choice, name: str) -> Any:
    return next(found for found in choice.comparison.arms if found.name == name)


def test_one_vocabulary_means_logits(tmp_path: Path) -> None:
    choice = chosen(tmp_path, teacher="pocket", student="pocket-base")
    assert choice.recipe == "logit_kd" and "one vocabulary" in choice.reasons[0]
    assert [found.name for found in choice.comparison.arms] == ["teacher", "before", "after"]
    assert choice.comparison.differences == (("after", "before"),)
    (run,) = plan(choice.comparison)["after"]
    assert (run.config.examples.answers, run.config.examples.tasks.count) == ("teacher", 4)
    assert run.config.evaluate.tasks.count == 2 and run.config.objective.alpha == 0.5


def test_other_vocabularies_mean_answers_and_repairs(tmp_path: Path) -> None:
    student = tiny_llama(tmp_path / "student")
    choice = chosen(tmp_path, teacher="pocket", student=str(student))
    assert choice.recipe == "persd" and "disagree on" in choice.reasons[0]
    (run,) = plan(choice.comparison)["after"]
    assert run.config.tasks.count == 4 and run.config.warm_up is None
    assert run.config.train.learning_rate == 1e-5  # as real students are trained


def test_credentials_in_an_address_reach_the_runs_and_no_file(tmp_path: Path) -> None:
    secret = "https://user:hunter2@example.org/v1"
    choice = chosen(tmp_path, teacher=ENDPOINT | {"base_url": secret}, student="pocket-base")
    (run,) = plan(choice.comparison)["after"]
    assert run.config.teacher.base_url.url == secret
    choice.begin(tmp_path / "run")
    written = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert written and not any("hunter2" in path.read_text(encoding="utf-8") for path in written)


@pytest.mark.parametrize(
    ("settings", "recipe", "why"),
    [
        ({"teacher": ENDPOINT, "student": "pocket-base"}, "persd", "text alone"),
        ({"teacher": ENDPOINT, "student": "pocket-0.4m"}, "sft", "fresh weights"),
        (
            {"teacher": ENDPOINT | {"logprobs": 8, "tokenizer": "pocket"}, "student": "pocket-base"},
            "logit_kd",
            "",
        ),
        ({"teacher": "pocket", "student": "pocket-0.4m"}, "logit_kd", "takes the teacher's vocabulary"),
        ({"teacher": "pocket", "student": "pocket-base", "recipe": "persd"}, "persd", "asked for"),
    ],
)
def test_the_recipe_follows_from_what_the_teacher_gives(
    tmp_path: Path, settings: dict[str, Any], recipe: str, why: str
) -> None:
    choice = chosen(tmp_path, **settings)
    assert choice.recipe == recipe and why in choice.reasons[0]
    fresh = settings["student"] == "pocket-0.4m"
    assert ("before" in [found.name for found in choice.comparison.arms]) is not fresh
    if recipe == "persd" or not fresh:
        plan(choice.comparison)  # every arm's config is valid


def test_what_is_given_counts(tmp_path: Path) -> None:
    train = {"max_steps": 3, "learning_rate": 1e-4}
    given = {"train": train, "evaluate": {"samples_per_task": 1}, "seeds": [4, 5], "score_teacher": False}
    choice = chosen(tmp_path, teacher="pocket", student="pocket-base", **given)
    runs = plan(choice.comparison)
    assert [run.config.seed for run in runs["after"]] == [4, 5] and list(runs) == ["after", "before"]
    config = runs["after"][0].config
    assert (config.train.max_steps, config.train.learning_rate, config.train.batch_tokens) == (3, 1e-4, 1536)
    assert config.evaluate.samples_per_task == 1 and config.evaluate.max_new_tokens == 128
    with pytest.raises(ValidationError, match="held_out"):
        chosen(tmp_path, teacher="pocket", student="pocket-base", evaluate={"tasks": "humaneval"})


@pytest.mark.parametrize(
    ("memory", "change"),
    [
        (16.1, {}),
        (15.9, {"adapter": {}}),
        (3.9, {"adapter": {}, "dtype": "bfloat16"}),
        (1.9, {"adapter": {}, "quantize": "nf4"}),
    ],
)
def test_a_student_that_does_not_fit_gets_an_adapter(memory: float, change: dict[str, Any]) -> None:
    """Memory in bytes per parameter."""
    student, said = adapted({"model": "m"}, 1_000_000_000, round(memory * 1e9 / USABLE))
    assert student == {"model": "m"} | change
    assert bool(said) == bool(change) and all(f"{BYTES_PER_PARAMETER}.0 GB" in sentence for sentence in said)


def test_one_that_fits_in_no_way_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"70,000M parameters.*this machine has 8.0 GB"):
        adapted({}, 70_000_000_000, 8_000_000_000)


def test_an_adapter_has_a_rate_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student = {"model": str(tiny_llama(tmp_path / "student"))}
    (size,) = model_table(student["model"])
    monkeypatch.setattr("codestill.models.room.total_bytes", lambda device: 10 * size.parameters)
    (run,) = plan(chosen(tmp_path, teacher=ENDPOINT, student=student).comparison)["after"]
    assert run.config.student.adapter is not None and run.config.train.learning_rate is None


@contextmanager
def listing(*names: str) -> Iterator[str]:
    body = json.dumps({"object": "list", "data": [{"id": n, "object": "model"} for n in names]}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


def test_an_endpoints_only_model_need_not_be_named() -> None:
    def asked(url: str, **more: str) -> str:
        teacher = {"type": "api", "base_url": url} | more
        given = DistilConfig.model_validate(POCKET | {"teacher": teacher, "student": "pocket-base"})
        return given.asked().teacher.model

    with listing("qwen-7b") as url:
        assert asked(url) == "qwen-7b" and asked(url, model="other") == "other"
    with listing("one", "two") as url, pytest.raises(ConfigError, match="lists 2 models: one, two"):
        asked(url)
    with listing() as url, pytest.raises(ConfigError, match="lists no models"):
        asked(url)
    with pytest.raises(ConfigError, match="nothing answers"):
        asked("http://127.0.0.1:9/v1")


def test_what_is_learnt_is_not_held_out(tmp_path: Path) -> None:
    same = {"source": "pocket", "split": "train", "count": 2}
    with pytest.raises(TaskError, match=r"2 of the 2 tasks of evaluate.tasks are also in examples.tasks"):
        chosen(tmp_path, teacher="pocket", student="pocket-base", tasks=same, held_out=same)
