"""New questions by difficulty, and when to stop."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.scripted import Scripted, teaching_by
from tests.support.tiny import CPU

from codestill.config import RunConfig
from codestill.pocket.skills import held_out
from codestill.prompts import CONTINUED
from codestill.recipes.iterkd.bins import Bin
from codestill.recipes.iterkd.update import Ratio, UpdateConfig, next_tasks, shares
from codestill.recipes.iterkd.validation import RoundValidation, StopConfig
from codestill.run import Run
from codestill.sandbox import Sandbox, SandboxConfig
from codestill.tasks import TasksConfig, TaskSet
from codestill.teachers import LocalTeacherConfig


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(), 1) as box:
        yield box


def world(count: int = 9) -> TaskSet:
    settings = {"source": "pocket", "split": "train", "count": count, "depths": [2]}
    return TasksConfig.model_validate(settings).load()


def test_shares_follow_the_ratio_within_what_there_is_room_for() -> None:
    ratio = Ratio(easy=0.2, medium=0.4, hard=0.4)
    assert shares(ratio, {"easy": 50, "medium": 50, "hard": 50}, 10) == {"easy": 2, "medium": 4, "hard": 4}
    assert shares(ratio, {"easy": 50, "hard": 50}, 9) == {"easy": 3, "medium": 0, "hard": 6}
    assert shares(ratio, {"easy": 9, "medium": 9, "hard": 9}, 7) == {"easy": 1, "medium": 3, "hard": 3}
    assert shares(ratio, {"easy": 9, "medium": 9, "hard": 2}, 10) == {"easy": 2, "medium": 6, "hard": 2}
    assert shares(ratio, {"easy": 1, "medium": 1, "hard": 1}, 10) == {"easy": 1, "medium": 1, "hard": 1}
    assert shares(ratio, {}, 7) == {"easy": 0, "medium": 0, "hard": 0}
    assert shares(Ratio(easy=0), {"easy": 30}, 7)["easy"] == 7
    for total in range(20):
        assert sum(shares(ratio, {"easy": 8, "medium": 3, "hard": 9}, total).values()) == total


def test_new_questions_come_from_their_bins_at_their_level(tmp_path: Path, sandbox: Sandbox) -> None:
    task_set = world()
    names: list[Bin] = ["easy", "medium", "hard"]
    bins: dict[str, Bin] = {task.task_id: names[n % 3] for n, task in enumerate(task_set.tasks)}
    teacher = LocalTeacherConfig(model="pocket", dtype="float32").build(CPU)
    config = UpdateConfig.model_validate({"synthesis": {"proposals": 15, "novelty": 1.0}})
    known = {task.prompt for task in task_set.tasks}

    def made(tasks: TaskSet, where: str) -> TaskSet:
        with Run.open(tmp_path / where, RunConfig()) as run:
            part = run.part("round-1")
            teaching = teaching_by(teacher, CONTINUED, sandbox, part)
            return next_tasks(config, tasks, bins, teaching, lambda prompt: not held_out(prompt))

    found = made(task_set, "first")
    of_bin = {name: [t for t in found.tasks if t.task_id.startswith(f"round-1/{name}/")] for name in names}
    assert sum(map(len, of_bin.values())) == len(found) >= 2
    assert len(of_bin["easy"]) <= 3 and len(of_bin["hard"]) <= 6
    assert found.split == "train" and not {task.prompt for task in found.tasks} & known
    proposals = (tmp_path / "first/stages/round-1/easy/proposals.jsonl").read_text().splitlines()
    assert len(proposals) == 3
    # What was asked in an earlier round is not asked again.
    again = made(replace(task_set, tasks=(*task_set.tasks, *found.tasks)), "second")
    assert not len(again)


def test_easy_tasks_become_harder_and_hard_ones_easier(tmp_path: Path, sandbox: Sandbox) -> None:
    task_set = world()
    names: list[Bin] = ["easy", "medium", "hard"]
    bins: dict[str, Bin] = {task.task_id: names[n % 3] for n, task in enumerate(task_set.tasks)}
    teacher = Scripted(lambda _: "nothing")
    with Run.open(tmp_path / "run", RunConfig()) as run:
        config = UpdateConfig.model_validate({"synthesis": {"proposals": 15}})
        assert not len(next_tasks(config, task_set, bins, teaching_by(teacher, CONTINUED, sandbox, run)))
    asked = {
        (bins[task.task_id], prompt.removeprefix(task.prompt))
        for task in task_set.tasks
        for prompt in teacher.prompts
        if prompt.startswith(task.prompt)
    }
    assert asked == {("easy", "# harder\n"), ("medium", "# same\n"), ("hard", "# easier\n")}


def test_static_questions_are_the_same_again(tmp_path: Path, sandbox: Sandbox) -> None:
    task_set = world(3)
    with Run.open(tmp_path / "run", RunConfig()) as run:
        static = UpdateConfig(questions="static")
        found = next_tasks(static, task_set, {}, teaching_by(Scripted(str), CONTINUED, sandbox, run))
    assert found is task_set


def test_a_composition_that_is_held_out_is_known_from_its_words() -> None:
    for split, out in (("train", False), ("validation", True), ("test", True)):
        tasks = TasksConfig.model_validate({"source": "pocket", "split": split, "count": 20}).load().tasks
        assert all(held_out(task.prompt) == out for task in tasks)
    assert not held_out("def f(x):\n    pass\n")


def test_it_stops_when_no_gain_was_shown_for_so_many_rounds() -> None:
    low, high = [0.0] * 40 + [1.0] * 10, [1.0] * 40 + [0.0] * 10

    def validated(rounds: int, *rates: list[float]) -> RoundValidation:
        stop = StopConfig(rounds=rounds)
        return RoundValidation(world(1), world(1), stop, max_new_tokens=1, rates=list(rates))

    assert not validated(2, low).stalled
    assert validated(2, low, high).gain(1).low > 0
    assert not validated(1, low, high).stalled
    assert validated(1, low, high, high).stalled and not validated(2, low, high, high).stalled
    assert validated(2, low, high, low, high).stalled
    assert validated(2, high, low, low).stalled
