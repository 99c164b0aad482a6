"""Which tasks are trained on and which held out."""

import random
from pathlib import Path

import pytest

from codestill.errors import ConfigError, TaskError
from codestill.planning.split import Parts, hold_out, parts
from codestill.pocket import generate
from codestill.tasks import TasksConfig, read_tasks, write_tasks
from codestill.types import Task


def own(count: int, **changes: object) -> list[Task]:
    return [task.model_copy(update=changes) for task in generate("train", count)]


def written(found: Parts) -> Parts:
    for path, tasks in found.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tasks(path, tasks)
    return found


def loaded(settings: dict[str, object]) -> list[str]:
    return [task.task_id for task in TasksConfig.model_validate(settings).load()]


def test_a_fifth_is_held_out_by_content() -> None:
    tasks = own(40)
    train, test = hold_out(tasks, 0.2)
    assert (len(train), len(test)) == (32, 8)
    assert [task for task in tasks if task in train] == train and not {t.prompt for t in train} & {
        t.prompt for t in test
    }
    shuffled = random.Random(0).sample(tasks, len(tasks))
    again = hold_out(shuffled, 0.2)[1]
    assert {task.task_id for task in again} == {task.task_id for task in test}


def test_tasks_of_one_prompt_stay_together_whatever_its_layout() -> None:
    first, second, third = own(3)
    twin = first.model_copy(update={"task_id": "twin", "prompt": first.prompt.replace("\n", "\n\n")})
    for share in (0.1, 0.5, 0.9):
        train, test = hold_out([first, second, third, twin], share)
        sides = [{task.task_id for task in side} for side in (train, test)]
        assert all(sides) and any({first.task_id, "twin"} <= side for side in sides)


def test_a_single_task_cannot_be_divided() -> None:
    with pytest.raises(ConfigError, match="1 task cannot be divided"):
        hold_out(own(1) * 2, 0.5)


def test_a_file_without_test_tasks_is_divided_into_two(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    write_tasks(file, own(10))
    found = written(parts(TasksConfig.model_validate(str(file)), None, 0.3, tmp_path / "run"))
    train, test = loaded(found.trained), loaded(found.held_out)
    assert sorted(train + test) == sorted(task.task_id for task in own(10)) and len(test) == 3
    assert "3 of 10 tasks are held out" in found.said and str(tmp_path / "run/test.jsonl") in found.said
    assert {task.split for task in read_tasks(tmp_path / "run/test.jsonl")} == {"test"}
    first = TasksConfig(source="jsonl", path=file, split="train", limit=4)
    few = written(parts(first, None, 0.5, tmp_path / "few"))
    assert (len(loaded(few.trained)), len(loaded(few.held_out))) == (2, 2)


def test_a_files_own_test_tasks_are_the_ones_held_out(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    train, test = own(3), [task.model_copy(update={"split": "test"}) for task in generate("test", 2)]
    write_tasks(file, [*train, *test])
    found = parts(TasksConfig.model_validate(str(file)), None, 0.5, tmp_path / "tasks")
    assert loaded(found.trained) == [task.task_id for task in train]
    assert loaded(found.held_out) == [task.task_id for task in test]
    assert not (tmp_path / "tasks").exists()


def test_a_family_has_splits_of_its_own(tmp_path: Path) -> None:
    found = parts(TasksConfig.model_validate({"source": "pocket", "count": 3}), None, 0.5, tmp_path)
    assert (found.trained["split"], found.held_out["split"]) == ("train", "test")
    with pytest.raises(ConfigError, match="humaneval") as refused:
        parts(TasksConfig.model_validate("humaneval"), None, 0.5, tmp_path)
    assert "no training tasks" in refused.value.next_step


def test_other_tasks_may_be_held_out(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    write_tasks(file, own(3))
    other = TasksConfig.model_validate({"source": "pocket", "split": "test", "count": 2})
    found = parts(TasksConfig.model_validate(str(file)), other, 0.5, tmp_path / "tasks")
    assert len(loaded(found.trained)) == 3 and len(loaded(found.held_out)) == 2
    with pytest.raises(TaskError, match="nowhere"):
        parts(TasksConfig.model_validate(str(tmp_path / "nowhere.jsonl")), None, 0.5, tmp_path)
