"""An endpoint teaches by what it lists: whole runs, killed ones, and a student with another tokenizer."""

import json
import multiprocessing
import signal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from pydantic import ValidationError
from tests.support.listing import Listing, pocket
from tests.support.recipes import FROM_TEACHER, SETTINGS
from tests.support.tiny import tiny_tokenizer
from tests.support.worlds import die, metrics
from tests.teachers.endpoint import serving

from codestill.capture import CaptureRun, capture_run
from codestill.cli import main
from codestill.logits import LogitCache
from codestill.recipes import logit_kd
from codestill.run import Observer, Run
from codestill.teachers.frozen import LocalTeacher
from codestill.types import Event

# The server's thread is of no use to a forked process, which only calls it.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
KEPT = ("stages", "student", "samples", "results", "logits", "answers", "accounting.json")
API = {"type": "api", "model": "served", "endpoint": "completions", "logprobs": 20, "tokenizer": "pocket"}


class Whole(NamedTuple):
    """A run that nothing interrupted."""

    directory: Path
    asked: list[dict[str, Any]]
    port: int
    """Of its server."""


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture(scope="module")
def teacher() -> LocalTeacher:
    return pocket()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student's: not the teacher's."""
    directory = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer(320).save_pretrained(str(directory))
    return directory


def settings(url: str, **changes: Any) -> dict[str, Any]:
    examples = {"prompts": "continued"}
    return (
        SETTINGS["logit_kd cached"]
        | {"teacher": API | {"base_url": url}, "examples": FROM_TEACHER["examples"] | examples}
        | changes
    )


def distil(directory: Path, url: str, *observers: Observer, **changes: Any) -> None:
    torch.set_num_threads(1)
    config = logit_kd.Config.model_validate(settings(url, **changes))
    with Run.open(directory, config, observers) as run:
        logit_kd.distill(config, run)


def results(directory: Path) -> dict[str, bytes]:
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    names = {path: path.relative_to(directory) for path in paths}
    return {str(name): path.read_bytes() for path, name in names.items() if name.parts[0] in KEPT}


def answered(directory: Path) -> int:
    """Kept answers, the probe's among them."""
    return len(list((directory / "answers").glob("*/*.json")))


def accounted(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "accounting.json").read_text())


@pytest.fixture(scope="module")
def uninterrupted(teacher: LocalTeacher, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    directory = tmp_path_factory.mktemp("whole") / "run"
    with serving(Listing(teacher)) as server:
        distil(directory, server.url)
        return Whole(directory, server.asked, server.port)


def test_an_endpoint_teaches_what_it_lists(uninterrupted: Whole) -> None:
    directory, asked, _ = uninterrupted
    assert len(asked) == 6  # five tasks, and the probe
    logged = metrics(directory)
    assert len(logged) == 3 and all(float(event.metrics["divergence"] or 0) > 0 for event in logged)
    numbers = accounted(directory)
    assert numbers["answers_taught"] > 0.8 and numbers["answers_listed"] > 0.99
    assert numbers["answers_unspelled"] == 0 and numbers["teacher_answers"] > 0
    said = (directory / "metrics.jsonl").read_text()
    assert said.count("rows are reference solutions: cross-entropy alone") == 1
    config = (directory / "config.yaml").read_text()
    assert "temperature: 1.0" in config


def die_from(stage: str, done: int) -> Observer:
    """Kills its process once a stage has come so far."""

    def observe(event: Event) -> None:
        if event.kind == "progress" and event.stage == stage and (event.done or 0) >= done:
            die()

    return observe


@pytest.mark.parametrize(("stage", "done"), [("answers", 3), ("logits", 1), ("train", 2)])
def test_a_killed_run_asks_for_nothing_that_it_has_and_ends_with_the_same_bytes(
    stage: str,
    done: int,
    uninterrupted: Whole,
    teacher: LocalTeacher,
    tmp_path: Path,
) -> None:
    directory = tmp_path / "run"
    with serving(Listing(teacher), uninterrupted.port) as server:  # the address is part of a run's identity
        process = multiprocessing.get_context("fork").Process(
            target=distil, args=(directory, server.url, die_from(stage, done))
        )
        process.start()
        process.join(240)
        assert process.exitcode == -signal.SIGKILL
        asked, had = len(server.asked), answered(directory)
        assert results(directory) != results(uninterrupted.directory)
        distil(directory, server.url)
        assert len(server.asked) - asked <= 6 - had and answered(directory) == 6
    assert had >= 3
    assert results(directory) == results(uninterrupted.directory)


def test_a_student_with_another_tokenizer_is_taught(
    teacher: LocalTeacher, tokenizer: Path, tmp_path: Path
) -> None:
    student = {"preset": "pocket-0.1m", "tokenizer": str(tokenizer)}
    with serving(Listing(teacher, "bytes")) as server:
        distil(tmp_path, server.url, student=student, cache={"vocabularies": "aligned"})
    numbers = accounted(tmp_path)
    assert 0.1 < numbers["aligned_one_to_one"] < numbers["aligned_boundaries"] < 1
    logged = metrics(tmp_path)
    assert all(float(event.metrics["divergence"] or 0) > 0 for event in logged)


def test_rows_without_an_event_count_as_not_taught(
    teacher: LocalTeacher, tokenizer: Path, tmp_path: Path
) -> None:
    """The same student and texts: what the answers do not list is not what the weights would give."""
    student = {"preset": "pocket-0.1m", "tokenizer": str(tokenizer)}
    examples = FROM_TEACHER["examples"] | {"prompts": "continued", "unsolved": "drop"}
    shared = {"student": student, "examples": examples, "execution": {"device": "cpu"}}
    with serving(Listing(teacher)) as server:
        for name, one in (("api", API | {"base_url": server.url}), ("local", FROM_TEACHER["teacher"])):
            config = CaptureRun.model_validate(shared | {"teacher": one, "temperatures": [1.0]})
            with Run.open(tmp_path / name, config) as run:
                capture_run(config, run)
    served, local = accounted(tmp_path / "api"), accounted(tmp_path / "local")
    assert served["aligned_boundaries"] == local["aligned_boundaries"]
    # Validation rows have no answers; the others are read as the weights' are.
    assert 0.4 < served["aligned_one_to_one"] / local["aligned_one_to_one"] < 0.95
    cache = LogitCache.open(tmp_path / "api" / "logits")
    assert cache.manifest.tail_rules == ("bucket",)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"teacher": API | {"logprobs": None}}, "set teacher.logprobs"),
        ({"teacher": API | {"tokenizer": None}}, "teacher.tokenizer: "),
        ({"teacher_logits": "live"}, "set it to cached"),
        ({"objective": {"temperature": 2.0}}, "objective.temperature is 2"),
        ({"cache": {"tail": "drop"}}, "cache.tail"),
        ({"examples": {"answers": "reference"}}, "examples.answers is reference"),
        ({"examples": {"answers": "teacher", "temperature": 0.7}}, "examples.temperature is 0.7"),
    ],
)
def test_settings_without_a_meaning_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        logit_kd.Config.model_validate(settings("http://127.0.0.1:1/v1", **changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"temperatures": [1.0, 2.0]}, "set temperatures to 1"),
        ({"capture": {"tail_samples": 2}}, "capture.tail_samples to 0"),
        ({"processes": 2}, "processes"),
        ({"server": {"base_url": "http://h/v1", "model": "m", "tokenizer": "t"}}, "server: "),
        ({"teacher": API | {"logprobs": None}}, "set teacher.logprobs"),
    ],
)
def test_captures_without_a_meaning_are_refused(changes: dict[str, Any], said: str) -> None:
    given = {"teacher": API, "examples": {"answers": "teacher"}}
    assert CaptureRun.model_validate(given).temperatures == (1.0,)
    with pytest.raises(ValidationError, match=said):
        CaptureRun.model_validate(given | changes)


def test_the_command_line_runs_whole(teacher: LocalTeacher, tmp_path: Path) -> None:
    options = {"teacher.type": "api", "teacher.model": "served", "teacher.endpoint": "completions"}
    options |= {"teacher.logprobs": "20", "teacher.tokenizer": "pocket", "examples.answers": "teacher"}
    options |= {"examples.prompts": "continued", "examples.max-new-tokens": "48", "execution.device": "cpu"}
    for name, split in (("examples.tasks", "train"), ("examples.validation", "validation")):
        options |= {f"{name}.source": "pocket", f"{name}.split": split, f"{name}.count": "2"}
    own = {"teacher-logits": "cached", "student.preset": "pocket-0.1m", "train.max-steps": "1"}
    own |= {"evaluate.tasks.source": "pocket", "evaluate.tasks.split": "test", "evaluate.tasks.count": "1"}
    own |= {"evaluate.samples-per-task": "1", "evaluate.max-new-tokens": "8", "evaluate.profile": "false"}
    with serving(Listing(teacher)) as server:
        options["teacher.base-url"] = server.url
        for command, more in ((["cache"], {}), (["run", "logit_kd"], own)):
            words = [word for name, value in (options | more).items() for word in (f"--{name}", value)]
            with pytest.raises(SystemExit) as ended:
                main([*command, *words, "--run-dir", str(tmp_path / command[-1])])
            assert ended.value.code == 0
    for command in ("cache", "logit_kd"):
        assert LogitCache.open(tmp_path / command / "logits").manifest.source == "answers"
