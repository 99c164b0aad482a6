"""Which tasks there are: splits, seeds, counts."""

import random
import sys
from itertools import islice, pairwise

import pytest

from codestill.errors import TaskError
from codestill.files.serialize import fingerprint
from codestill.pocket.compositions import SOURCES, HeldOut, compositions, pair_split, split_of
from codestill.pocket.generate import generate, sketches
from codestill.pocket.operations import OPERATIONS
from codestill.tasks import TasksConfig

SPLITS: tuple[HeldOut, ...] = ("train", "validation", "test")


def operations(split: HeldOut, count: int, seed: int = 0) -> list[tuple[str, ...]]:
    return [tuple(task.difficulty["operations"]) for task in generate(split, count, seed)]


def test_no_training_composition_holds_a_pair_that_is_held_out() -> None:
    rng = random.Random(0)
    pairs: dict[HeldOut, set[tuple[str, str]]] = {split: set() for split in SPLITS}
    for split in SPLITS:
        for item in islice(sketches(split, {2: 1, 3: 2}, rng), 4000):
            pairs[split] |= set(pairwise(item.composition))
    held_out = {pair for pair in pairs["validation"] | pairs["test"] if pair_split(*pair) != "train"}
    assert len(held_out) > 100
    assert not pairs["train"] & held_out
    assert {pair for pair in pairs["test"] if pair_split(*pair) == "validation"} == set()


def test_every_held_out_composition_holds_a_held_out_pair() -> None:
    for split in ("validation", "test"):
        for depth in (2, 3):
            for source in SOURCES:
                for composition in compositions(split, depth, source):
                    assert split in {pair_split(*pair) for pair in pairwise(composition)}


def test_splits_share_no_composition() -> None:
    for depth in (2, 3):
        for source in SOURCES:
            found = [set(compositions(split, depth, source)) for split in SPLITS]
            assert sum(map(len, found)) == len(set.union(*found))
    assert split_of(("square",)) == "train"


def test_the_split_and_the_tasks_do_not_change() -> None:
    # The bundled teacher was trained on one side of this split: another would let test tasks leak into it.
    every = [compositions(split, depth, kind) for split in SPLITS for depth in (2, 3) for kind in SOURCES]
    assert fingerprint(every) == "4ddde78f01f970bc"
    tasks = [task for split in SPLITS for task in generate(split, 50)]
    programs = [
        (task.task_id, task.prompt, task.reference, [test.code for test in task.tests]) for task in tasks
    ]
    assert fingerprint(programs) == "0f7afad7e7982f98"


@pytest.mark.parametrize("split", SPLITS)
def test_tasks_depend_on_the_seed_alone(split: HeldOut) -> None:
    assert generate(split, 12, seed=3) == generate(split, 12, seed=3)
    assert generate(split, 12, seed=3)[:6] == generate(split, 6, seed=3)
    assert {task.prompt for task in generate(split, 12, 3)} != {
        task.prompt for task in generate(split, 12, 4)
    }


def test_held_out_tasks_are_all_of_other_compositions() -> None:
    for split in ("validation", "test"):
        found = operations(split, 100)
        assert len(set(found)) == 100


def test_task_ids_are_unique_and_tell_the_split() -> None:
    tasks = [task for split in SPLITS for task in generate(split, 30)]
    assert len({task.task_id for task in tasks}) == 90
    assert all(task.task_id.startswith(f"pocket/{task.split}-0/") for task in tasks)
    assert [task.split for task in tasks[::30]] == list(SPLITS)


def test_depths_take_turns() -> None:
    depths = [task.difficulty["depth"] for task in generate("test", 30, depths=(2, 3))]
    assert depths[:4] == [2, 3, 2, 3] and abs(depths.count(2) - depths.count(3)) <= 1
    assert {task.difficulty["depth"] for task in generate("train", 5, depths=(1,))} == {1}


def test_more_tasks_than_there_are_compositions() -> None:
    with pytest.raises(
        TaskError, match=r"test has \d+ distinct compositions of depth \[2\], not 5000"
    ) as caught:
        generate("test", 5000, depths=(2,))
    assert "Ask for fewer tasks" in caught.value.next_step
    with pytest.raises(TaskError, match="0 distinct compositions"):
        generate("validation", 1, depths=(1,))
    assert len(generate("test", 200, depths=(2,), distinct=False)) == 200


def test_a_task_set_of_the_pocket_world() -> None:
    tasks = TasksConfig.model_validate({"source": "pocket", "split": "validation", "count": 7, "seed": 2})
    found = tasks.load()
    assert list(found.tasks) == generate("validation", 7, seed=2)
    assert all(len(task.tests) == 8 for task in found.tasks)


def test_no_prompt_occurs_twice_and_skipped_tasks_are_fresh() -> None:
    first, later = generate("train", 300, depths=(1, 2)), generate("train", 100, depths=(1, 2), skip=300)
    assert generate("train", 400, depths=(1, 2)) == first + later
    assert len({task.prompt for task in first + later}) == 400
    assert len({task.task_id for task in first + later}) == 400


def test_a_stream_that_repeats_itself_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[generate.__module__]
    monkeypatch.setattr(module, "FUNCTION_NAMES", ("f",))
    monkeypatch.setattr(module, "_REPEATED", 200)
    with pytest.raises(TaskError, match=r"train has \d+ tasks of depth \[1\], not 50000"):
        generate("train", 50_000, depths=(1,))


@pytest.mark.parametrize(
    ("spec", "depths"),
    [
        ("pocket:train", {2, 3}),
        ("pocket-easy:train", {1, 2}),
        ("pocket-easy:test", {2}),
        ("pocket-hard:test", {3, 4}),
        ("pocket-hard:validation", {3, 4}),
    ],
)
def test_families_by_difficulty(spec: str, depths: set[int]) -> None:
    found = TasksConfig.model_validate(spec).load()
    assert {task.difficulty["depth"] for task in found.tasks} == depths
    for task in found.tasks:
        first, last = (OPERATIONS[task.difficulty["operations"][place]] for place in (0, -1))
        assert (task.difficulty["takes"], task.difficulty["gives"]) == (first.takes, last.gives)
