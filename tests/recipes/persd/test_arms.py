"""The arms' rows: every arm by the table, from one attempt that passed, two repaired and one given up."""

from typing import get_args

import pytest
from tests.support.forms import CONTINUES

from codestill.examples import subset
from codestill.prompts import CONTINUED
from codestill.recipes.persd.arms import ARMS, ArmName, arm_examples
from codestill.recipes.persd.keep import Keep, is_kept
from codestill.refine import Refinement
from codestill.tasks import STOP_RULES, TaskSet
from codestill.types import Attempt, Completion, Example, ExecutionResult, Task

PASSED, WRONG = ExecutionResult(verdict="pass"), ExecutionResult(verdict="wrong")
NAMES = ("kept", "mended", "mended-too", "lost", "unsolved")
TASKS = tuple(
    Task(
        task_id=name,
        prompt=f'def f(x):\n    """{name}"""\n',
        entry_point="f",
        reference="",
        tests=("assert f(1)",),  # pyright: ignore[reportArgumentType]
        split="train",
    )
    for name in NAMES
)
TASK_SET = TaskSet("t:train", TASKS, "train", "zero-shot", STOP_RULES["definitions"])
SOLUTIONS = {name: f"    return '{name}, solved'\n" for name in NAMES if name != "unsolved"}


def failed(name: str) -> Attempt:
    return Attempt(completion=Completion(task_id=name, sample=0, text="    tried\n"), result=WRONG)


def refinement(name: str, result: ExecutionResult) -> Refinement:
    text = f"    return '{name}, mended'\n"
    repair = Completion(task_id=name, sample=0, text=text)
    return Refinement(attempt=failed(name), feedback="Wrong", completion=repair, result=result)


FAILED = [(failed(name), "Wrong") for name in ("mended", "mended-too", "lost")]
REFINEMENTS = [refinement("mended", PASSED), refinement("mended-too", PASSED), refinement("lost", WRONG)]


def examples(arm: ArmName, keep: Keep) -> list[Example]:
    """The arm's rows, from no more than it says that it needs."""
    row = ARMS[arm]
    kept = [one for one in REFINEMENTS if is_kept(one, SOLUTIONS[one.task_id], keep)]
    attempts, repairs = FAILED if row.needs_attempts else [], kept if row.needs_refinements else []
    return arm_examples(row, CONTINUES, TASK_SET, SOLUTIONS, attempts, repairs)


def made(arm: ArmName, keep: Keep = "passed") -> list[tuple[str, str, str]]:
    """(task, whether it asks for a repair, whose code) of every row."""
    found = []
    for row in examples(arm, keep):
        task = next(task for task in TASKS if row.prompt.startswith(task.prompt))
        repair = row.prompt != task.prompt
        if repair:
            assert row.prompt == CONTINUED.to_refine(task, "    tried\n", "Wrong")
            assert row.prompt.count("def f(x):") == 2  # the header stands before the answer, too
        found.append(
            (task.task_id, "repair" if repair else "generate", row.completion.split(", ")[1].strip("'\n"))
        )
    return found


def pairs(kind: str, code: str, *names: str) -> list[tuple[str, str, str]]:
    return [(name, kind, code) for name in names]


SOLVED = ("kept", "mended", "mended-too", "lost")
MENDED = ("mended", "mended-too")


@pytest.mark.parametrize(
    ("arm", "wanted"),
    [
        ("stand", pairs("generate", "solved", *SOLVED)),
        ("stand-refine", pairs("repair", "solved", *MENDED, "lost")),
        (
            "stand-combined",
            pairs("generate", "solved", *SOLVED) + pairs("repair", "solved", *MENDED, "lost"),
        ),
        ("inpd", pairs("generate", "solved", *MENDED)),
        ("inpd-refine", pairs("repair", "solved", *MENDED)),
        ("inpd-combined", pairs("generate", "solved", *MENDED) + pairs("repair", "solved", *MENDED)),
        ("persd", pairs("generate", "mended", *MENDED)),
        ("persd-refine", pairs("repair", "mended", *MENDED)),
        ("persd-combined", pairs("generate", "solved", *MENDED) + pairs("repair", "mended", *MENDED)),
        ("ilf", pairs("generate", "mended", *MENDED)),
        ("self-edit", pairs("repair", "solved", *MENDED, "lost")),
    ],
)
def test_every_arm_has_its_rows(arm: ArmName, wanted: list[tuple[str, str, str]]):
    assert sorted(made(arm)) == sorted(wanted)
    names = [row.example_id for row in examples(arm, "passed")]
    assert len(set(names)) == len(names)


def test_the_unfiltered_arm_keeps_repairs_that_fail():
    assert ("lost", "generate", "mended") in made("persd", "all")
    assert ("lost", "generate", "mended") not in made("persd")


@pytest.mark.parametrize(
    ("text", "kept_as"),
    [
        ("    return x + 2 * y\n", {"passed", "not-copied", "personal"}),  # the attempt with one change
        ("    return y + x\n", {"passed"}),  # the solution once more
        ("    z = y\n    return z + x\n", {"passed", "not-copied"}),  # no nearer to the attempt
    ],
)
def test_refinements_count_by_how_personal_they_are(text: str, kept_as: set[str]):
    attempt = Attempt(
        completion=Completion(task_id="kept", sample=0, text="    return x + 3 * y\n"), result=WRONG
    )
    repair = Completion(task_id="kept", sample=0, text=text)
    for result, wanted in ((PASSED, kept_as | {"all"}), (WRONG, {"all"})):
        one = Refinement(attempt=attempt, feedback="Wrong", completion=repair, result=result)
        assert {keep for keep in get_args(Keep) if is_kept(one, "    return y + x\n", keep)} == wanted


def test_what_approximates_another_method_says_so():
    assert {name for name, arm in ARMS.items() if arm.approximates} == {"ilf", "self-edit"}


def test_subsets_are_nested_and_keep_the_order():
    all_rows = [Example(example_id=str(n), prompt="p", completion="c") for n in range(50)]
    small, large = subset(all_rows, 10, seed=3), subset(all_rows, 20, seed=3)
    assert len(small) == 10
    assert {one.key for one in small} < {one.key for one in large}
    assert [int(one.key) for one in large] == sorted(int(one.key) for one in large)
    assert subset(all_rows, 10, seed=4) != small
    assert subset(all_rows, None, seed=3) == subset(all_rows, 99, seed=3) == all_rows
    sized = subset(all_rows, 10, seed=3, size=lambda one: 1 + int(one.key) % 3)
    assert {one.key for one in sized} < {one.key for one in small}
    assert 8 <= sum(1 + int(one.key) % 3 for one in sized) <= 10


@pytest.mark.parametrize("keep", get_args(Keep))
def test_a_repair_that_the_token_limit_cut_is_never_kept(keep: Keep) -> None:
    whole = refinement("mended", PASSED)
    cut = whole.model_copy(update={"completion": whole.completion.model_copy(update={"finish": "length"})})
    assert not is_kept(cut, SOLUTIONS["mended"], keep)
