import io
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from codestill.compare import CompareConfig, compare
from codestill.config import ExecutionConfig, RunConfig
from codestill.errors import ConfigError
from codestill.progress import ProgressBars
from codestill.run import Run
from codestill.trackers import close_trackers, open_trackers, publish_report
from codestill.types import Event

LOSSES = {1: 2.5, 2: 1.25, 3: 0.625}


def report_losses(directory: Path, trackers: tuple[Any, ...]) -> None:
    """Open the trackers before the run, as the command line does, and log through it."""
    config = RunConfig(execution=ExecutionConfig(trackers=trackers))
    watching = open_trackers(trackers, directory, config.model_dump(mode="json"))
    with Run.open(directory, config, watching) as run:
        run.message("train", "starts")
        for step, loss in LOSSES.items():
            run.log("train", {"loss": loss, "gradient_norm": None, "note": "text"}, step)
            run.progress("train", step, len(LOSSES))
    close_trackers(watching)


def test_tensorboard_holds_the_metrics(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    report_losses(tmp_path / "run", ("tensorboard",))
    found = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    found.Reload()
    assert found.Tags()["scalars"] == ["train/loss"]
    assert {event.step: event.value for event in found.Scalars("train/loss")} == LOSSES


def test_wandb_offline_run_holds_the_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    report_losses(tmp_path / "run", ("wandb",))
    (path,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    # Its records are protobuf; a metric is its name, then its value as JSON text.
    deadline = time.monotonic() + 30
    found: list[bytes] = []
    while (
        len(set(found)) < len(LOSSES) and time.monotonic() < deadline
    ):  # W&B's service writes a moment later
        found = re.findall(rb"train/loss[^\d]{1,4}(\d\.\d+)", path.read_bytes())
        time.sleep(0.05)
    assert sorted({float(value) for value in found}) == sorted(LOSSES.values())


def test_the_runs_of_a_comparison_are_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One W&B run per arm and seed, with its own config, metrics over its own steps, and the scores."""
    started: list[Any] = []

    class FakeRun:
        def __init__(self, **settings: Any) -> None:
            self.settings, self.axes, self.logged = settings, dict[str, str](), list[dict[str, Any]]()
            self.finished = False
            started.append(self)

        def define_metric(self, name: str, step_metric: str) -> None:
            self.axes[name] = step_metric

        def log(self, values: dict[str, Any]) -> None:
            self.logged.append(values)

        def finish(self) -> None:
            self.finished = True

    monkeypatch.setattr("wandb.init", FakeRun)
    arm = {"recipe": "sft", "config": {"student": "pocket-base", "train": {"max_steps": 2}}}
    examples = {"tasks": {"source": "pocket", "split": "train", "count": 8}, "validation": None}
    arm["config"] |= {"examples": examples}
    evaluate = {"tasks": {"source": "pocket", "split": "test", "count": 3}, "samples_per_task": 1}
    evaluate |= {"max_new_tokens": 4, "profile": False}
    config = CompareConfig.model_validate(
        {"title": "t", "seeds": [0, 1], "arms": [arm | {"name": "an arm"}], "evaluate": evaluate}
        | {"execution": {"trackers": ["wandb"]}}
    )
    compare(config, tmp_path / "both")
    assert [run.settings["name"] for run in started] == ["an-arm/seed-0", "an-arm/seed-1"]
    for seed, run in enumerate(started):
        assert run.settings["group"] == "both" and run.finished
        assert run.settings["config"]["seed"] == seed and run.settings["config"]["recipe"] == "sft"
        assert run.axes["train/*"] == "train/step"
        assert [values["train/step"] for values in run.logged if "train/step" in values][-1] == 2
        assert "evaluate/student/pass@1" in run.logged[-1]
    compare(config, tmp_path / "both")
    assert len(started) == 2  # nothing was done again


def test_wandb_gets_the_report_in_the_comparisons_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    group = tmp_path / "both arms"
    group.mkdir()
    page = group / "report.html"
    page.write_text("<!doctype html><title>scores</title>")
    publish_report((), page, group)
    assert not (group / "wandb").exists()
    publish_report(("tensorboard", "wandb"), page, group)
    (path,) = (group / "wandb").glob("offline-run-*/run-*.wandb")
    deadline = time.monotonic() + 30
    while b"report.html" not in path.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.05)
    kept = path.read_bytes()
    assert b"report-both-arms" in kept and b"report.html" in kept and b"both arms" in kept


def test_a_tracker_that_does_not_take_the_report_fails_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(**_: Any) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr("wandb.init", refuses)
    publish_report(("wandb",), tmp_path / "report.html", tmp_path)
    assert "wandb did not take the report: no network" in capsys.readouterr().err


def test_trackers_are_off_by_default(tmp_path: Path) -> None:
    assert ExecutionConfig().trackers == ()
    report_losses(tmp_path / "run", ())
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "about.json",
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "sessions.jsonl",
        ".lock",
    }


@pytest.mark.parametrize(
    ("tracker", "module", "extra"),
    [("tensorboard", "torch.utils.tensorboard.writer", "track"), ("wandb", "wandb", "wandb")],
)
def test_missing_package(
    tracker: Any, module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"codestill\[{extra}\]"):
        open_trackers((tracker,), tmp_path, {})
    assert not list(tmp_path.iterdir())


def test_unknown_tracker() -> None:
    with pytest.raises(ValueError, match="tensorboard"):
        ExecutionConfig.model_validate({"trackers": ["tensorbored"]})


def bars(terminal: bool) -> tuple[ProgressBars, io.StringIO]:
    out = io.StringIO()
    return ProgressBars(Console(file=out, force_terminal=terminal, width=100)), out


def tell(observer: ProgressBars) -> None:
    observer(Event(stage="train", kind="message", message="3 examples [bold] are left out"))
    for stage, total in (("answers", 4), ("train", 2)):
        for done in range(1, total + 1):
            rate: dict[str, Any] = {"tokens_per_second": 1234} if stage == "train" else {}
            observer(Event(stage=stage, kind="progress", done=done, total=total, metrics=rate))
    observer(Event(stage="evaluate", kind="progress", done=3, total=9))
    observer.close()


def test_a_line_per_finished_stage_where_there_is_no_terminal() -> None:
    observer, out = bars(terminal=False)
    tell(observer)
    assert out.getvalue().split("\n") == [
        "train: 3 examples [bold] are left out",
        "answers: 4 done",
        "train: 2 done",
        "",
    ]


def test_two_first_events_at_once_start_one_teller(monkeypatch: pytest.MonkeyPatch) -> None:
    tellers: list[threading.Thread] = []

    class Slow(threading.Thread):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            time.sleep(0.2)
            super().__init__(*arguments, **more)
            tellers.append(self)

    observer, _ = bars(terminal=False)
    event = Event(stage="answers", kind="progress", done=1, total=4)
    both = [threading.Thread(target=observer, args=(event,)) for _ in range(2)]
    monkeypatch.setattr(threading, "Thread", Slow)
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    observer.close()
    assert len(tellers) == 1


def test_bars_on_a_terminal() -> None:
    observer, out = bars(terminal=True)
    observer(Event(stage="train", kind="progress", done=1, total=2, metrics={"tokens_per_second": 1234}))
    observer.bars.refresh()
    assert "1/2" in out.getvalue()
    assert "1,234 tokens/s" in out.getvalue()
    tell(observer)


def test_what_the_teacher_was_asked_stands_beside_the_bar() -> None:
    observer, out = bars(terminal=True)
    spent = {"teacher_calls": 12, "teacher_tokens": 3456, "teacher_money": 0.0789}
    observer(Event(stage="solutions", kind="progress", done=1, total=9))
    observer(Event(stage="solutions", kind="progress", done=0, total=0, metrics=spent))
    observer(Event(stage="solutions", kind="progress", done=2, total=9))
    observer(Event(stage="elsewhere", kind="progress", done=0, total=0, metrics=spent))
    observer.bars.refresh()
    assert "2/9" in out.getvalue() and "12 calls, 3,456 tokens, 0.0789" in out.getvalue()
    observer.close()


def test_failing_tracker_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Broken:
        calls = 0

        def __call__(self, event: Event) -> None:
            self.calls += 1
            raise OSError("disk full")

        def close(self) -> None:
            raise OSError("still full")

    broken = Broken()
    with Run.open(tmp_path / "run", RunConfig(), [broken]) as run:
        run.log("train", {"loss": 1.0}, 1)
        run.log("train", {"loss": 0.5}, 2)
    close_trackers([broken])
    assert broken.calls == 1
    assert "disk full" in (error := capsys.readouterr().err)
    assert "still full" in error
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2


MINE = """
class Lines:
    def __init__(self, directory, config):
        self.path, self.seed, self.seen = directory / "lines.txt", config["seed"], []

    def __call__(self, event):
        if event.kind == "metrics":
            self.seen.append(f"{event.stage} {event.step} {event.metrics['loss']}")

    def close(self):
        self.path.write_text("\\n".join([f"seed {self.seed}", *self.seen]))


def by_function(directory, config):
    return print


class TakesNothing:
    def __call__(self, event):
        pass


class NotCalled:
    def __init__(self, directory, config):
        pass


class Fails:
    def __init__(self, directory, config):
        raise RuntimeError("no server")

    def __call__(self, event):
        pass


number = 3
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's own in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"trackers_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MINE)
    (tmp_path / f"{name}_broken.py").write_text("import a_module_that_is_nowhere\n")
    return name


def test_a_tracker_of_ones_own_gets_directory_config_and_events(mine: str) -> None:
    report_losses(Path("run"), (f"{mine}:Lines",))
    lines = Path("run/lines.txt").read_text().splitlines()
    assert lines == ["seed 0", "train 1 2.5", "train 2 1.25", "train 3 0.625"]
    assert open_trackers((f"{mine}:by_function",), Path("run"), {}) == [print]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("no_such_module_here:Lines", "no module 'no_such_module_here'"),
        ("{}_broken:Lines", "ModuleNotFoundError: No module named 'a_module_that_is_nowhere'"),
        ("{}:Line", "Did you mean 'Lines'"),
        ("{}:number", "neither a class nor a function"),
        ("{}:TakesNothing", "does not take"),
        ("{}:NotCalled", "no __call__"),
    ],
)
def test_what_is_no_tracker_is_refused_when_the_config_is_read(mine: str, spec: str, reason: str) -> None:
    with pytest.raises(ConfigError, match="tracker") as refused:
        ExecutionConfig.model_validate({"trackers": [spec.format(mine)]})
    assert reason in str(refused.value)


def test_a_tracker_that_cannot_be_opened_is_named(mine: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Fails cannot be opened: RuntimeError: no server"):
        open_trackers((f"{mine}:Fails",), tmp_path, {})


def test_the_command_line_refuses_it_before_anything_runs(
    mine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from codestill.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["run", "sft", "--run-dir", "run", "--execution.trackers", f"{mine}:Nothing"])
    assert ended.value.code == 2 and "defines no 'Nothing'" in capsys.readouterr().err
    assert not Path("run").exists()
