"""EvalPlus rows as tasks, executed in the sandbox, and the rules by which values compare."""

import math
from collections.abc import Iterable, Iterator, Sequence

import pytest

from codestill.errors import TaskError
from codestill.sandbox import Program, Sandbox, SandboxConfig
from codestill.tasks import TasksConfig, TaskSet, check_tasks, evalplus, pass_body
from codestill.tasks.evalplus import _judge_source
from codestill.tasks.plus_judge import ORACLES, SHAPES
from codestill.types import ExecutionResult, Task

from .test_files import HUMANEVAL, write

PLUS = {
    "task_id": "HumanEval/0",
    "prompt": "def tail(xs):\n",
    "entry_point": "tail",
    "canonical_solution": "    del xs[0]\n    return xs\n",
    "test": "def check(candidate): pass",
    "contract": "",
    "base_input": [[[1, 2]]],
    "plus_input": [[[1.5, 2.5]], [[1, 2, 3]]],
    "atol": 0,
}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(cache=tmp_path_factory.mktemp("expected"))) as sandbox:
        yield sandbox


def load(tmp_path, source: str, **change) -> TaskSet:
    return TasksConfig(source=source, path=write(tmp_path / "p.jsonl", {**PLUS, **change})).load()  # pyright: ignore[reportArgumentType]


def verdicts(sandbox, task: Task, completion: str) -> list[str]:
    return [test.verdict for test in sandbox.execute(Program.of(task, completion)).tests]


def test_base_and_plus_are_judged_apart(sandbox, tmp_path) -> None:
    (task,) = load(tmp_path, "humaneval-plus").tasks
    assert [test.group for test in task.tests] == ["base", "plus"]
    assert verdicts(sandbox, task, task.reference) == ["pass", "pass"]
    assert verdicts(sandbox, task, "    return xs[1:]\n") == ["pass", "pass"]
    assert verdicts(sandbox, task, "    return xs[1:] if len(xs) < 3 else xs\n") == ["pass", "wrong"]
    assert verdicts(sandbox, task, "    return [x + 1e-9 for x in xs[1:]]\n") == ["wrong", "pass"]
    assert verdicts(sandbox, task, "    return xs.missing\n") == ["exception", "exception"]


def test_the_message_shows_call_value_and_expectation(sandbox, tmp_path) -> None:
    (task,) = load(tmp_path, "humaneval-plus").tasks
    result = sandbox.execute(Program.of(task, "    xs.clear()\n    return xs\n"))
    assert result.tests[0].message == "tail([1, 2]) returned [], expected [2]"
    assert (result.tests[0].call, result.tests[0].actual, result.tests[0].expected) == (
        "tail([1, 2])",
        "[]",
        "[2]",
    )


def test_a_slow_input_fails_as_in_evalplus(sandbox, tmp_path, monkeypatch) -> None:
    source = _judge_source().replace("MINIMUM_SECONDS = 4.0", "MINIMUM_SECONDS = 0.1")
    monkeypatch.setattr(evalplus, "_judge_source", lambda: source)
    (task,) = load(tmp_path, "humaneval-plus").tasks
    slow = "    if len(xs) > 2:\n        sum(range(30_000_000))\n    return xs[1:]\n"
    result = sandbox.execute(Program.of(task, slow))
    assert [test.verdict for test in result.tests] == ["pass", "cpu_timeout"]
    assert "tail([1, 2, 3]) took " in result.tests[1].message


def test_names_of_the_candidate_and_of_the_judge_do_not_meet(sandbox, tmp_path) -> None:
    (task,) = load(tmp_path, "humaneval-plus").tasks
    helpers = "".join(
        f"def {name}(*_):\n    return 1\n" for name in ("make_check", "check", "show", "equal", "close")
    )
    assert verdicts(sandbox, task, f"    return check() and xs[1:]\n\n{helpers}") == ["pass", "pass"]


def test_mbpp_arguments_get_their_types_back(sandbox, tmp_path) -> None:
    solution = "def tail(xs):\n    return type(xs).__name__\n"
    change = {"prompt": '"""Tail."""\n', "canonical_solution": solution, "plus_input": {}}
    for task_id, name in {"Mbpp/116": "tuple", "Mbpp/117": "list"}.items():
        (task,) = load(tmp_path, "mbpp-plus", task_id=task_id, **change).tasks
        assert verdicts(sandbox, task, f"def tail(xs):\n    return {name!r}\n") == ["pass", "pass"]


def test_slow_references_get_more_time(tmp_path) -> None:
    quick = load(tmp_path, "humaneval-plus").tasks[0].cpu_seconds
    slow = load(tmp_path, "humaneval-plus", task_id="HumanEval/139").tasks[0].cpu_seconds
    assert quick is not None
    assert slow is not None
    assert slow > quick


@pytest.mark.parametrize(
    ("change", "field"),
    [({"base_input": []}, "base_input"), ({"plus_input": 3}, "plus_input"), ({"atol": "x"}, "atol")],
)
def test_a_bad_row_is_named(tmp_path, change, field) -> None:
    with pytest.raises(TaskError, match=rf"p\.jsonl:1: field '{field}'"):
        load(tmp_path, "humaneval-plus", **change)


@pytest.mark.parametrize(
    ("oracle", "actual", "expected", "arguments", "limit", "agrees"),
    [
        ("equal", 1, True, [], 0, True),
        ("equal", [1], (1,), [], 0, False),
        ("equal", 1.0 + 1e-9, 1.0, [], 0, False),
        ("equal", 1.0 + 1e-9, 1.0, [], 1e-6, True),
        ("equal", 1.1, 1.0, [], 1e-6, False),
        ("equal", math.nan, 1.0, [], 1e-6, False),
        ("equal", math.inf, math.inf, [], 1e-6, True),
        ("equal", [1.0, 2.0 + 1e-9], [1.0, 2.0], [], 1e-6, True),
        ("equal", [1.0], [1.0, 2.0], [], 1e-6, False),
        ("equal", (1.0 + 1e-9,), [1.0], [], 1e-6, False),
        ("equal", "a", "b", [], 1e-6, False),
        ("equal", 1e9 + 1, 1e9, [], 1e-6, True),  # the relative part
        ("set", [2, 1, 1], (1, 2), [], 0, True),
        ("set", [1], (1, 2), [], 0, False),
        ("match", "found", 1, [], 0, True),
        ("match", None, None, [], 0, True),
        ("match", False, None, [], 0, True),
        ("match", False, 1, [], 0, False),
        ("anything", None, 1, [], 0, True),
        ("or-zero", 0, 6, [], 0, True),
        ("or-zero", 5, 6, [], 0, False),
        ("pyramid-surface", 33, 33, [3, 4], 0, True),
        ("pyramid-surface", 35, 33, [3, 4], 0, True),
        ("pyramid-surface", 34, 33, [3, 4], 0, False),
        ("digit-distance", 9, 0, [100, 10], 0, False),
        ("digit-distance", 2, 0, [100, 10], 0, True),
        ("root", -0.5, None, [[1, 2]], 1e-4, True),
        ("root", 0.5, None, [[1, 2]], 1e-4, False),
        ("root", math.nan, None, [[1, 2]], 1e-4, False),
    ],
)
def test_oracles(oracle, actual, expected, arguments, limit, agrees) -> None:
    assert ORACLES[oracle](actual, expected, arguments, limit) is agrees


@pytest.mark.parametrize(
    ("shape", "raw", "arguments"),
    [
        ("json", [[1, [2]]], [[1, [2]]]),
        ("tuples", [[1, [2]], [3]], [(1, [2]), (3,)]),
        ("tuples-of-tuples", [[1, [2]]], [(1, (2,))]),
        ("nested-tuples", [[1, [2, [3]]]], [(1, (2, (3,)))]),
        ("lists-of-tuples", [[[1], [2]], [[3]]], [[(1,), (2,)], [(3,)]]),
        ("first-list-of-tuples", [[[1], [2]], [3]], [[(1,), (2,)], [3]]),
        ("first-tuple", [[1], [2], 3], [(1,), [2], 3]),
        ("second-tuple", [[1], [2]], [[1], (2,)]),
        ("first-dict-of-tuples", [{"a": [1]}, 2], [{"a": (1,)}, 2]),
        ("first-list-of-sets", [[[1], []]], [[{1}, {}]]),
        ("float-complex", ["1", "2j"], [1.0, 2j]),
        ("complex", [1], [1 + 0j]),
    ],
)
def test_shapes(shape, raw, arguments) -> None:
    assert SHAPES[shape](raw) == arguments


def test_check_names_the_tasks_that_do_not_hold(sandbox, tmp_path) -> None:
    def execute(pairs: Sequence[tuple[Task, str]]) -> Iterable[ExecutionResult]:
        return sandbox.run(Program.of(task, completion) for task, completion in pairs)

    check = "def check(candidate):\n    assert candidate(2) == 4\n"
    rows = [
        HUMANEVAL,
        {**HUMANEVAL, "task_id": "wrong", "canonical_solution": "    return 3 * x\n"},
        {**HUMANEVAL, "task_id": "never-called", "test": check.replace("assert", "#") + "    pass\n"},
    ]
    report = check_tasks(
        TasksConfig(source="humaneval", path=write(tmp_path / "h.jsonl", *rows)).load(), execute
    )
    assert not report.holds
    assert [(finding.task_id, finding.answer, finding.verdict) for finding in report.findings] == [
        ("wrong", "reference", "wrong"),
        ("never-called", "empty", "pass"),
        ("never-called", "pass-body", "pass"),
    ]
    assert str(report.findings[0]).startswith("wrong: reference: wrong: AssertionError")
    assert report.reference_passes == 2


@pytest.mark.parametrize(
    ("prompt", "reference", "completion"),
    [
        ("def f(x):\n", "  return x\n", "  pass\n"),
        ('def f(x):\n    """Doc."""\n', "\n    return x\n", "    pass\n"),
        ('"""Doc."""\n', "def f(x):\n    return x\n", "def f(*args, **kwargs):\n    pass\n"),
        ('"""Doc."""\n', "import os\nf = abs\n", "def f(*args, **kwargs):\n    pass\n"),
    ],
)
def test_pass_body(prompt: str, reference: str, completion: str) -> None:
    task = Task.model_validate(
        {"task_id": "a", "prompt": prompt, "entry_point": "f", "reference": reference, "tests": ["f(1)"]}
    )
    assert pass_body(task) == completion
