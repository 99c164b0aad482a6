"""The examples of docs/extending.md, taken from the page and run."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from codestill.cli import main
from codestill.evaluation import read_evaluation
from codestill.languages import LANGUAGES
from codestill.sandbox import Program, Sandbox, SandboxConfig
from codestill.tasks import TasksConfig, TaskSet, families

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
EXAMPLES = dict(re.findall(r'^```\w+ title="(\S+)"\n(.*?)^```$', PAGE.read_text(), re.MULTILINE | re.DOTALL))
needs_perl = pytest.mark.skipif(
    not shutil.which("perl") or bool(subprocess.run(["perl", "-MJSON::PP", "-e1"], check=False).returncode),
    reason="Perl with its core modules is not installed",
)
TINY = (
    *("--train.max-steps", "2", "--train.batch-tokens", "300", "--execution.device", "cpu"),
    *("--evaluate.tasks.limit", "3", "--evaluate.samples-per-task", "1", "--evaluate.max-new-tokens", "24"),
    *("--evaluate.no-profile", "--run-dir", "run"),
)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with the page's files, as its reader has them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name, text in EXAMPLES.items():
        (tmp_path / name).write_text(text)
        sys.modules.pop(Path(name).stem, None)
    families._own_family.cache_clear()
    yield tmp_path
    LANGUAGES.pop("perl", None)


def codestill(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code


def test_the_page_has_every_example() -> None:
    assert set(EXAMPLES) == {"mine.py", "my_tracker.py", "my_family.py", "perl_tasks.py", "runner.pl"}


def test_the_recipe_runs(files: Path) -> None:
    codestill(
        *("run", "./mine.py", "--samples", "2", "--sampling.max-new-tokens", "64"),
        *("--tasks.source", "pocket", "--tasks.split", "train", "--tasks.count", "4", "--tasks.depths", "1"),
        *("--evaluate.tasks.source", "pocket", *TINY),
    )
    evaluation = read_evaluation(files / "run" / "results" / "student.json")
    assert evaluation.task_count == 3
    answers = [json.loads(line) for line in (files / "run/stages/solutions.jsonl").read_text().splitlines()]
    assert len(answers) == 8 and any(answer["result"]["verdict"] == "pass" for answer in answers)


def test_tracker_and_family_serve_a_bundled_recipe(files: Path) -> None:
    codestill(
        *("run", "sft", "--student", "pocket-base-0.1m", "--execution.trackers", "my_tracker:Csv"),
        *("--examples.tasks", "my_family:Sums:train"),
        *("--evaluate.tasks.source", "my_family:Sums", *TINY),
    )
    assert read_evaluation(files / "run" / "results" / "student.json").tasks == "Sums:test"
    head, columns, *lines = (files / "run" / "metrics.csv").read_text().splitlines()
    assert (head, columns) == ("# seed 0", "stage,step,name,value")
    assert any(line.startswith("train,1,loss,") for line in lines)


def test_the_family_holds_its_gates_and_makes_new_tasks(files: Path, capsys: pytest.CaptureFixture) -> None:
    codestill("tasks", "check", "my_family:Sums:test")
    assert "Sums:test: holds. References pass 100/100, an empty completion 0/100" in capsys.readouterr().out
    config = TasksConfig.model_validate({"source": "my_family:Sums", "split": "train", "count": 2})
    assert [task.task_id for task in config.fresh(1)] == ["sums/4", "sums/6"]
    assert config.trainable(config.load()[0].prompt)
    assert not config.trainable(TasksConfig.model_validate("my_family:Sums:test").load()[0].prompt)


@pytest.fixture
def perl(files: Path) -> TaskSet:
    settings = {"source": "perl_tasks:PerlTasks", "split": "train", "stop": "none"}
    tasks = TasksConfig.model_validate(settings)
    assert tasks.model_copy(update={"stop": "perl"}).load().stop.strings[0] == "\nsub "
    return tasks.load()


@needs_perl
def test_the_language_holds_its_gates(perl: TaskSet, capsys: pytest.CaptureFixture) -> None:
    codestill("tasks", "check", "perl_tasks:PerlTasks:train")
    assert (
        "holds. References pass 1/1, an empty completion 0/1, a bare pass body 0/1" in capsys.readouterr().out
    )


@needs_perl
@pytest.mark.parametrize(
    ("body", "verdict", "error"),
    [
        ("    return $numbers;\n}\n", "wrong", ""),
        ("    return [map { 3 * $_ } @$numbers;\n}\n", "exception", "SyntaxError"),
        ("    die 'no';\n}\n", "exception", ""),
        ("    while (1) {}\n}\n", "cpu_timeout", ""),
        ("    exit 0;\n}\n", "exception", ""),
        ("    fork() // die $!;\n}\n", "exception", ""),
        ("    open(my $file, '<', '/etc/passwd') or die $!;\n    return [<$file>];\n}\n", "exception", ""),
        ("    exec('/bin/echo', '[3, 6]');\n}\n", "wrong", ""),
    ],
)
def test_its_programs_are_judged_and_confined(perl: TaskSet, body: str, verdict: str, error: str) -> None:
    with Sandbox(SandboxConfig(cpu_seconds=1, wall_factor=1), 1) as sandbox:
        result = sandbox.execute(Program.of(perl[0], body))
    assert (result.verdict, result.error.startswith(error)) == (verdict, True), result
