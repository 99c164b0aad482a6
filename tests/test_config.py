"""What a config given in part means: the recipe's defaults stay, unless another model or source is named."""

from typing import Any

import pytest

from codestill.recipes import load_recipe

DEFAULT = load_recipe("persd").Config()


def given(**values: Any) -> Any:
    return load_recipe("persd").Config.model_validate(values)


@pytest.mark.parametrize(
    "part",
    [
        {"count": 60},
        {"source": "pocket", "count": 60},
        {"source": "pocket", "split": "train", "count": 60},
    ],
)
def test_tasks_in_part_stay_clear_of_the_warm_ups(part: dict[str, Any]) -> None:
    tasks = given(tasks=part).tasks
    assert tasks == DEFAULT.tasks.model_copy(update={"count": 60})
    assert tasks.skip >= DEFAULT.warm_up.tasks.count  # those are the first so many


def test_another_source_replaces_the_tasks_as_a_whole() -> None:
    tasks = given(tasks={"source": "mbpp", "split": "train"}).tasks
    assert (tasks.source, tasks.skip, tasks.limit) == ("mbpp", 0, None)
    assert given(tasks={"path": "mine.jsonl", "source": "jsonl", "split": "train"}).tasks.skip == 0


@pytest.mark.parametrize("kept", [{"chat": False}, {"model": "pocket-base", "chat": False}])
def test_a_student_in_part_is_the_same_student(kept: dict[str, Any]) -> None:
    student = given(student=kept).student
    assert (student.model, student.chat) == ("pocket-base", False)


def test_another_student_has_none_of_the_defaults_settings() -> None:
    assert given(student={"preset": "pocket-0.1m"}).student.model is None
    assert given(student={"model": "other"}).student.preset is None


def test_a_teacher_in_part_is_the_same_teacher() -> None:
    teacher = given(teacher={"dtype": "float32"}).teacher
    assert (teacher.model, teacher.dtype) == (DEFAULT.teacher.model, "float32")
    assert given(teacher={"model": "other"}).teacher.dtype == "bfloat16"
    endpoint = given(teacher={"type": "api", "model": "pocket"}).teacher
    assert (endpoint.type, endpoint.model) == ("api", "pocket")


def test_groups_within_groups_are_filled() -> None:
    config = given(evaluate={"tasks": {"count": 5}}, warm_up={"tasks": {"count": 7}})
    assert config.evaluate.tasks == DEFAULT.evaluate.tasks.model_copy(update={"count": 5})
    assert config.evaluate.samples_per_task == DEFAULT.evaluate.samples_per_task
    assert config.warm_up.tasks == DEFAULT.warm_up.tasks.model_copy(update={"count": 7})
    assert config.warm_up.train == DEFAULT.warm_up.train
