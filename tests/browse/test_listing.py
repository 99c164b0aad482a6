"""The list of runs: what each is, how far it is, what it scored."""

import os
import shutil
from pathlib import Path

import pytest

from codestill.browse import list_runs
from codestill.cli import main
from codestill.errors import RunError
from codestill.evaluation import read_evaluation
from codestill.files.run_files import Marker
from codestill.files.seal import seal_text
from codestill.files.serialize import lock, read_record, write_object
from codestill.files.strict_yaml import dump_yaml


@pytest.fixture
def runs(tmp_path: Path, finished: Path) -> Path:
    shutil.copytree(finished, tmp_path / "runs" / "below" / "personal")
    return tmp_path / "runs"


def test_a_finished_run_has_its_score(runs: Path) -> None:
    (found,) = list_runs(runs)
    evaluation = read_evaluation(runs / "below" / "personal" / "results" / "student.json")
    assert (found.kind, found.state, found.doing) == ("persd", "finished", "")
    assert (found.score, found.tasks) == (evaluation.pass_at[1], evaluation.tasks)


def test_a_run_is_running_while_it_is_locked(runs: Path) -> None:
    directory = runs / "below" / "personal"
    marker = directory / "stages" / "round-1" / "attempts.json"
    write_object(marker, read_record(marker, Marker).model_copy(update={"done": False, "count": 9}))
    (found,) = list_runs(runs)
    assert (found.state, found.doing) == ("stopped", "round-1/attempts, 4 of 9")
    (directory / ".lock").touch()
    with (directory / ".lock").open("r+") as held:
        lock(held)
        (found,) = list_runs(runs)
        assert found.state == "running"
    assert list_runs(runs)[0].state == "stopped"


def test_a_training_that_was_stopped_is_named(runs: Path) -> None:
    directory = runs / "below" / "personal" / "checkpoints" / "round-1"
    (directory / "finished").unlink()
    (directory / "checkpoint-2").mkdir()
    (directory / "checkpoint-2" / "complete").touch()
    assert (list_runs(runs)[0].state, list_runs(runs)[0].doing) == ("stopped", "training, round-1")


def test_a_damaged_run_is_told_apart(runs: Path) -> None:
    path = runs / "below" / "personal" / "config.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("persd", "pursd"), encoding="utf-8")
    (found,) = list_runs(runs)
    assert found.state == "damaged" and "checksum" in found.doing


def test_the_newest_comes_first_and_looking_makes_nothing_newer(runs: Path) -> None:
    shutil.copytree(runs / "below", runs / "older")
    for place, _, names in os.walk(runs / "older"):
        for name in [".", *names]:
            os.utime(Path(place, name), (1e9, 1e9))
    for _ in range(2):
        first, second = list_runs(runs)
        assert first.path.parent.name == "below" and second.path.parent.name == "older"
        assert second.age_seconds > 1e8


def test_runs_of_a_comparison_are_listed_on_demand(runs: Path) -> None:
    comparison = runs / "compared"
    shutil.copytree(runs / "below" / "personal", comparison / "arm-0")
    (comparison / "config.yaml").write_text(seal_text(dump_yaml({"arms": [], "title": "t"})))
    (comparison / "environment.json").write_text("{}")
    kinds = {run.path.name: (run.kind, run.state, run.doing) for run in list_runs(runs)}
    assert kinds["compared"] == ("compare", "stopped", "1 runs of 1 begun are done") and len(kinds) == 2
    assert "arm-0" in {run.path.name for run in list_runs(runs, arms=True)}


def test_a_config_that_somebody_wrote_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text("student: pocket-base\n")
    assert not list_runs(tmp_path)


def test_the_command_lists_them(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["runs", str(runs)])
    out = capsys.readouterr().out
    assert ended.value.code == 0 and "personal" in out and "finished" in out and "%" in out


def test_a_place_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a directory"):
        list_runs(tmp_path / "none")
