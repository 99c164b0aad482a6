"""The table of families, families of the user's own, and what a task set offers."""

import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import ValidationError

from codestill import pocket
from codestill.errors import ConfigError, TaskError
from codestill.tasks import TasksConfig, TaskSet
from codestill.tasks.families import FAMILIES
from codestill.tasks.selection import TaskSplit

from .test_files import MBPP, OWN, write

OWN_FAMILY = """
from codestill.types import Task


def task(number, split="train"):
    return Task(
        task_id=f"add/{number}", prompt=f"def add_{number}(x):\\n", entry_point=f"add_{number}", split=split,
        reference=f"    return x + {number}\\n", tests=(f"assert add_{number}(1) == {number + 1}",),
    )


class Additions:
    splits = ("train", "test")
    about = "functions that add"

    def load(self, selection):
        return self.fresh(selection, 0)

    def fresh(self, selection, round):
        start = selection.skip + round * selection.count
        return [task(number, selection.split) for number in range(start, start + selection.count)]

    def trainable(self, prompt):
        return "add_7" not in prompt


class Small:
    splits = ["train"]
    default_split = "train"

    def load(self, selection):
        return (task(number) for number in range(3))


additions = Additions()


class NoSplits:
    def load(self, selection):
        return []


class NoLoad:
    splits = ("train",)


class NeedsMore:
    splits = ("train",)

    def __init__(self, path):
        pass


class Dicts(Small):
    def load(self, selection):
        return [{"task_id": "x"}]


class Twice(Small):
    def load(self, selection):
        return [task(1), task(1)]
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of the user's own in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"families_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(OWN_FAMILY)
    return name


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_says_what_it_is(name: str) -> None:
    family = FAMILIES[name]
    assert family.name == name and family.about
    assert set(family.splits) <= set(get_args(TaskSplit)) - {"all"}
    assert family.default_split in (*family.splits, "all")


@pytest.mark.parametrize("name", ["pocket", "pocket-easy", "pocket-hard"])
def test_pocket_has_new_tasks_for_every_round(name: str) -> None:
    config = TasksConfig.model_validate({"source": name, "split": "train", "count": 4, "skip": 2})
    rounds = [config.fresh(number) for number in range(3)]
    assert rounds[0] == config.load()
    prompts = [task.prompt for task_set in rounds for task in task_set]
    assert len(set(prompts)) == 12
    later = config.model_copy(update={"skip": 6}).load()
    assert rounds[1] == later


def test_other_families_have_the_same_tasks_in_every_round(tmp_path: Path) -> None:
    config = TasksConfig(source="mbpp", path=write(tmp_path / "m.jsonl", MBPP))
    assert config.fresh(3) == config.load()


def test_held_out_compositions_of_pocket_may_not_be_trained_on() -> None:
    config = TasksConfig(source="pocket")
    tests = pocket.generate("test", 20, 0, (2, 3))
    train = pocket.generate("train", 20, 0, (2, 3))
    assert not any(config.trainable(task.prompt) for task in tests)
    assert all(config.trainable(task.prompt) for task in train)
    assert all(TasksConfig(source="mbpp").trainable(task.prompt) for task in tests)


def test_a_family_of_ones_own(own: str) -> None:
    config = TasksConfig.model_validate(
        yaml.safe_load(f"{{source: '{own}:Additions', split: train, count: 2}}")
    )
    assert [task.task_id for task in config.load()] == ["add/0", "add/1"]
    assert [task.task_id for task in config.fresh(2)] == ["add/4", "add/5"]
    assert config.load().name == "Additions:train"
    assert config.trainable("def add_6(x):\n") and not config.trainable("def add_7(x):\n")
    assert TasksConfig.model_validate(config.model_dump(mode="json")) == config
    assert TasksConfig.model_validate(f"{own}:additions:train") == config.model_copy(
        update={"source": f"{own}:additions", "count": 100}
    )


def test_a_small_family_takes_the_defaults(own: str) -> None:
    config = TasksConfig.model_validate(f"{own}:Small")
    assert config.split == "train" and len(config.load()) == 3
    assert config.fresh(1) == config.load() and config.trainable("anything")
    assert len(TasksConfig.model_validate({"source": f"{own}:Small", "split": "all"}).load()) == 3


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("no_such_module_here:Additions", "no module 'no_such_module_here'"),
        ("{}:Addition", "Did you mean 'Additions'"),
        ("{}:NoSplits", "`splits` must list"),
        ("{}:NoLoad", "no method `load"),
        ("{}:NeedsMore", "cannot be built"),
    ],
)
def test_what_is_no_family_is_refused_when_the_config_is_read(own: str, source: str, reason: str) -> None:
    with pytest.raises(ConfigError, match="task family") as refused:
        TasksConfig.model_validate({"source": source.format(own)})
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"source": "mbbp"}, "Did you mean 'mbpp'"),
        ({"source": "{}:Small", "split": "test"}, "has the splits train, all"),
        ({"source": "{}:Small", "hub_id": "a/b"}, "does not come from the hub"),
        ({"source": "{}:Small", "prompt_mode": "few-shot"}, "mbpp and mbpp-sanitized only"),
    ],
)
def test_settings_that_a_family_does_not_have(own: str, value: dict[str, str], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        TasksConfig.model_validate({**value, "source": value["source"].format(own)})


@pytest.mark.parametrize(("source", "reason"), [("Dicts", "a dict, not a Task"), ("Twice", "id 'add/1'")])
def test_what_a_family_gives_is_checked(own: str, source: str, reason: str) -> None:
    with pytest.raises(TaskError, match=reason):
        TasksConfig.model_validate(f"{own}:{source}").load()


def test_the_list_of_families_shows_the_files_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from codestill.cli import main

    (tmp_path / "mbpp").mkdir()
    write(tmp_path / "mbpp" / "mbpp.jsonl", MBPP)
    monkeypatch.setenv("CODESTILL_DATA", str(tmp_path))
    with pytest.raises(SystemExit):
        main(["tasks", "ls"])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert set(FAMILIES) <= set(lines)
    assert "mbpp/mbpp.jsonl" in lines["mbpp"] and ".jsonl" not in lines["humaneval"]


def task_set(tmp_path: Path) -> TaskSet:
    rows = [{**OWN, "task_id": f"t/{number}"} for number in range(4)]
    return TasksConfig.model_validate(str(write(tmp_path / "own.jsonl", *rows))).load()


def test_a_task_set_is_looked_up_sliced_and_iterated(tmp_path: Path) -> None:
    tasks = task_set(tmp_path)
    assert list(tasks) == list(tasks.tasks) and list(tasks.by_id) == ["t/0", "t/1", "t/2", "t/3"]
    assert tasks[1] is tasks["t/1"] is tasks.by_id["t/1"] and tasks[-1].task_id == "t/3"
    assert tasks[:2] == TaskSet(**{**vars_of(tasks), "tasks": tasks.tasks[:2], "subset": True})
    assert tasks[:] == tasks and not tasks[:9].subset
    with pytest.raises(KeyError):
        tasks["t/9"]
    with pytest.raises(IndexError):
        tasks[4]


def test_a_task_set_with_other_tasks_keeps_the_rest(tmp_path: Path) -> None:
    tasks = task_set(tmp_path)
    fewer = tasks.with_tasks([tasks[3]])
    assert (fewer.tasks, fewer.name, fewer.stop, fewer.subset) == ((tasks[3],), tasks.name, tasks.stop, False)
    assert list(fewer.by_id) == ["t/3"] and fewer.data_hash != tasks.data_hash
    assert tasks.with_tasks((), "none").name == "none"


def vars_of(tasks: TaskSet) -> dict:
    return {name: getattr(tasks, name) for name in ("name", "split", "prompt_mode", "stop")}


def test_a_task_set_is_short_in_print(tmp_path: Path) -> None:
    tasks = task_set(tmp_path)
    assert repr(tasks) == "<TaskSet 'own:all': 4 tasks, split all, first 't/0'>"
    assert len(repr(tasks.with_tasks(tasks.tasks, "n" * 999)[:1])) <= 200
    assert repr(tasks.with_tasks(())) == "<TaskSet 'own:all': 0 tasks, split all>"
