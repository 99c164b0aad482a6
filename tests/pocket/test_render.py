"""Every rendering of a task computes the same, and its tests notice what is missing."""

import ast
import random
from itertools import islice, product
from typing import Any

import pytest

from codestill.pocket.compositions import SOURCES, HeldOut, compositions
from codestill.pocket.generate import Sketch, generate, sketch, sketches
from codestill.pocket.operations import OPERATIONS
from codestill.pocket.render import LOOP_VARIABLES, NAMINGS, STYLES, body
from codestill.types import Task

RENDERINGS = list(product(STYLES, NAMINGS, LOOP_VARIABLES))


def passes(task: Task, program: str) -> bool:
    """Our own code, so it may run here."""
    namespace: dict[str, Any] = {}
    try:
        exec(program, namespace)
        for test in task.tests:
            exec(test.code, namespace)
    except Exception:
        return False
    return True


def constants(task: Task) -> tuple[int | str | None, ...]:
    """The constants of a task, found by trying all of its operations' against the reference's tests."""
    names = task.difficulty["operations"]
    header = task.prompt.split("\n", 1)[0] + "\n"
    parameter = header.split("(")[1].split(":")[0]
    for chosen in product(*(OPERATIONS[name].constants or (None,) for name in names)):
        if passes(task, header + body(tuple(names), chosen, parameter)):
            return chosen
    raise AssertionError(f"no constants fit {task.task_id}")


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_every_rendering_passes_the_tests_of_its_task(split: HeldOut) -> None:
    styles = set()
    for task in generate(split, 60, seed=4, depths=(2, 3)):
        header = task.prompt.split("\n", 1)[0] + "\n"
        parameter = header.split("(")[1].split(":")[0]
        composition, found = tuple(task.difficulty["operations"]), constants(task)
        assert passes(task, task.prompt + task.reference)
        programs = {style: header + body(composition, found, parameter, *style) for style in RENDERINGS}
        assert [style for style, program in programs.items() if not passes(task, program)] == []
        styles.add(len(set(programs.values())))
    assert max(styles) > 8  # they do differ


def test_every_operation_renders_the_same_value_in_every_style() -> None:
    rng = random.Random(0)
    values: dict[str, list[Any]] = {
        "ints": [[], [3], [2, -1, 2, 0, 9, 9, -7, 4, 15], [-3, -3]],
        "str": ["", "a", "Noon a1 Tree 42", "  two  spaces "],
        "words": [[], ["a"], ["moon", "Tree", "moon", "it", "seven"]],
        "int": [1, 10, 33, 360],
    }
    kinds = {"ints": list, "str": str, "words": list, "int": int, "bool": bool}
    for source in SOURCES:
        for composition in compositions("train", 1, source):
            item = sketch(composition, source, rng)
            for value in values[source]:
                results = [run(item, style, value) for style in RENDERINGS]
                assert all(result == results[0] for result in results), item.description
                gives = OPERATIONS[composition[0]].gives
                assert {type(result) for result in results} == {kinds[gives]}
    used = {name for source in SOURCES for (name,) in compositions("train", 1, source)}
    assert {name for name, operation in OPERATIONS.items() if operation.takes != "int"} <= used


@pytest.mark.parametrize("name", ["increase", "multiply", "remainder"])
def test_nested_arithmetic_keeps_its_order(name: str) -> None:
    item = Sketch("ints", ("sum", name, "is_even"), (None, 3, None), "f", "xs", "")
    for value in ([], [1], [2, 3], [5, 6]):
        assert len({run(item, style, value) for style in RENDERINGS}) == 1


def run(item: Sketch, style: Any, value: Any) -> Any:
    namespace: dict[str, Any] = {}
    program = f"def f({item.parameter}):\n{body(item.composition, item.constants, item.parameter, *style)}"
    exec(program, namespace)
    kept = value.copy() if isinstance(value, list) else value
    result = namespace["f"](value)
    assert value == kept, f"{item.description} changes its argument"
    return result


def test_tests_notice_an_operation_left_out() -> None:
    left_out = 0
    for task in generate("test", 80, seed=1):
        names, chosen = task.difficulty["operations"], constants(task)
        header = task.prompt.split("\n", 1)[0] + "\n"
        parameter = header.split("(")[1].split(":")[0]
        for index, name in enumerate(names):
            if OPERATIONS[name].takes == OPERATIONS[name].gives:
                shorter = tuple(names[:index] + names[index + 1 :])
                fewer = chosen[:index] + chosen[index + 1 :]
                assert not passes(task, header + body(shorter, fewer, parameter)), task.task_id
                left_out += 1
    assert left_out > 60


def test_constant_answers_fail() -> None:
    for task in generate("test", 80, seed=2):
        for answer in ("None", "[]", "''", "0", "1", "True", "False"):
            assert not passes(task, f"{task.prompt}    return {answer}\n"), (task.prompt, answer)


def test_solutions_are_python_with_a_return_at_the_end() -> None:
    for item in islice(sketches("train", {1: 1, 2: 1, 3: 1}, random.Random(3)), 400):
        solution = item.solution(random.Random(0))
        tree = ast.parse(item.prompt + solution)
        (function,) = tree.body
        assert isinstance(function, ast.FunctionDef) and function.name == item.function
        assert isinstance(function.body[-1], ast.Return)
        assert (ast.get_docstring(function) or "").strip() == item.description
        assert solution.endswith("\n") and not solution.endswith("\n\n")
