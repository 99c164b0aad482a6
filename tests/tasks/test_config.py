"""Spec strings, where files come from, task sets, and what may be trained on."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from codestill.errors import TaskError
from codestill.tasks import STOP_RULES, TasksConfig, require_trainable

from .test_files import HUMANEVAL, MBPP, OWN, write


def parse(value: object) -> TasksConfig:
    return TasksConfig.model_validate(value)


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ("humaneval", {"source": "humaneval", "split": "test"}),
        ("mbpp:train", {"source": "mbpp", "split": "train", "prompt_mode": "zero-shot"}),
        ("mbpp-sanitized:test/few-shot", {"source": "mbpp-sanitized", "prompt_mode": "few-shot"}),
        ("mbpp/few-shot", {"source": "mbpp", "split": "test", "prompt_mode": "few-shot"}),
        ("pocket:test", {"source": "pocket", "split": "test"}),
        ("some/dir/mine.jsonl", {"source": "jsonl", "path": Path("some/dir/mine.jsonl"), "split": "all"}),
        ("mine.jsonl.gz:train", {"source": "jsonl", "path": Path("mine.jsonl.gz"), "split": "train"}),
        ("a:b.json", {"source": "jsonl", "path": Path("a:b.json")}),
    ],
)
def test_spec_strings(spec: str, fields: dict) -> None:
    config = parse(spec)
    assert {name: getattr(config, name) for name in fields} == fields
    assert parse(config.model_dump()) == config


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("humanevl", "did you mean 'humaneval'"),
        ("tasks.txt", "known are humaneval"),
        ("mbpp:dev", "'validation'"),
        ("mbpp:test/one-shot", "'few-shot'"),
        ("humaneval:train", "no train split"),
        ("humaneval/few-shot", "mbpp and mbpp-sanitized only"),
        ("pocket:all", "train, validation and test"),
        ("jsonl", "needs a path"),
        ({"source": "mbpp", "limt": 3}, "limt"),
        ({"source": "mbpp", "limit": 0}, "limit"),
        ({"source": "pocket", "path": "x.jsonl"}, "takes no path"),
        ({"source": "pocket", "hub_id": "a/b"}, "hub"),
        ({"source": "pocket", "depths": ()}, "depths"),
    ],
)
def test_refused_configs(value: object, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        parse(value)


def test_task_set_names_what_a_score_must_name(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", MBPP, {**MBPP, "task_id": 12})
    whole = TasksConfig(source="mbpp", path=path).load()
    part = TasksConfig(source="mbpp", path=path, limit=1, stop="mbpp").load()
    assert (whole.name, len(whole), whole.subset) == ("mbpp:test/zero-shot", 2, False)
    assert (len(part), part.subset, part.stop) == (1, True, STOP_RULES["mbpp"])
    assert not TasksConfig(source="mbpp", path=path, limit=2).load().subset
    assert whole.data_hash == TasksConfig(source="mbpp", path=path).load().data_hash
    assert len({whole.data_hash, part.data_hash}) == 2


def test_the_data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODESTILL_DATA", str(tmp_path))
    (tmp_path / "humaneval").mkdir()
    write(tmp_path / "humaneval" / "HumanEval.jsonl.gz", HUMANEVAL)
    write(tmp_path / "mbpp.jsonl", MBPP)
    assert parse("humaneval").load().tasks[0].task_id == "HumanEval/0"
    assert parse("mbpp").load().tasks[0].task_id == "Mbpp/11"


def test_offline_without_files_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODESTILL_DATA", str(tmp_path))
    with pytest.raises(TaskError) as caught:
        TasksConfig(source="humaneval", hub_id="codestill-tests/no-such-dataset").load()
    assert "codestill-tests/no-such-dataset" in caught.value.message
    assert "CODESTILL_DATA" in caught.value.next_step
    assert "humaneval/HumanEval.jsonl" in caught.value.next_step


@pytest.mark.parametrize("kept", [True, False])
def test_a_hub_that_does_not_answer_is_asked_once(tmp_path: Path, kept: bool) -> None:
    script = """
import sys, time
import datasets
from codestill.tasks import TasksConfig
asked = []
datasets.load_dataset = lambda *names: asked.append(names) or {"test": []}
try:
    TasksConfig(source="humaneval", hub_id="a/b").load()
except Exception as error:
    print(type(error).__name__, error)
print(len(asked))
"""
    if kept:
        (tmp_path / "hub/datasets--a--b/snapshots/1234").mkdir(parents=True)
        (tmp_path / "hub/datasets--a--b/refs").mkdir()
    with socket.socket() as closed:  # a port at which nobody listens
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        names = {
            "HF_HUB_OFFLINE": "0",
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(tmp_path),
            "CODESTILL_DATA": "",
        }
        done = subprocess.run(
            [sys.executable, "-c", script], env=os.environ | names, capture_output=True, text=True, check=True
        )
    error, count = done.stdout.splitlines()[0], done.stdout.splitlines()[-1]
    assert count == ("1" if kept else "0")  # a copy that is kept is left to datasets
    if not kept:
        assert error.startswith("TaskError Cannot load a/b from the hub")


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes a dataset directory; ``datasets`` reads it as it reads one from the hub."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")

    def make(**splits: dict) -> str:
        for split, row in splits.items():
            directory = tmp_path / "dataset" / "data"
            directory.mkdir(parents=True, exist_ok=True)
            write(directory / f"{split}.jsonl", row)
        return str(tmp_path / "dataset")

    return make


def test_hub_rows_of_every_split_are_split_by_id(dataset) -> None:
    hub_id = dataset(test=MBPP, train={**MBPP, "task_id": 601})
    assert [task.task_id for task in TasksConfig(source="mbpp", hub_id=hub_id).load().tasks] == ["Mbpp/11"]
    assert len(TasksConfig(source="mbpp", hub_id=hub_id, split="all").load()) == 2


def test_hub_rows_of_evalplus_hold_a_test_program(dataset) -> None:
    (task,) = TasksConfig(source="humaneval-plus", hub_id=dataset(test=HUMANEVAL)).load().tasks
    assert [(test.code, test.group) for test in task.tests] == [("check(double)", "plus")]
    assert task.source == "humaneval-plus"


def test_hub_rows_of_mbpp_plus(dataset) -> None:
    row = {
        **MBPP,
        "task_id": 601,
        "prompt": MBPP["text"],
        "test": "assert sum(1, 1) == 2\n",
        "test_imports": [],
    }
    del row["text"]
    (task,) = TasksConfig(source="mbpp-plus", hub_id=dataset(test=row)).load().tasks
    assert [test.group for test in task.tests] == ["base", "base", "plus"]
    assert task.split == "test"


def test_a_bad_hub_row_is_named(dataset) -> None:
    hub_id = dataset(test={**HUMANEVAL, "entry_point": "other"})
    with pytest.raises(TaskError, match=r"dataset\[test\]: row 1: field 'entry_point'"):
        TasksConfig(source="humaneval", hub_id=hub_id).load()


def test_pocket_tasks_are_generated() -> None:
    config = TasksConfig(source="pocket", split="train", count=3, seed=1, depths=(2,))
    task_set = config.load()
    assert len(task_set) == 3
    assert {task.split for task in task_set.tasks} == {"train"}
    assert task_set.data_hash == config.load().data_hash
    assert task_set.name == "pocket:train/depth-2"


def test_test_tasks_are_not_trained_on(tmp_path: Path) -> None:
    path = write(tmp_path / "own.jsonl", OWN)
    test, train = parse(str(path)).load(), parse(f"{path}:train").load()
    with pytest.raises(TaskError, match="1 test tasks"):
        require_trainable(test)
    require_trainable(test, allow_test_split=True)
    require_trainable(train)


def test_parsing_a_config_imports_nothing_heavy() -> None:
    code = "import sys; from codestill.tasks import TasksConfig; TasksConfig.model_validate('mbpp:train');"
    code += (
        "print(json.dumps([m for m in ('torch', 'transformers', 'datasets', 'numpy') if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", "import json;" + code], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []
