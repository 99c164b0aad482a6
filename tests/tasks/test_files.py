"""Reading task files: the families' formats, and what happens when a file is not right."""

import contextlib
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codestill.errors import TaskError
from codestill.tasks import TasksConfig, read_samples, read_tasks, write_tasks
from codestill.types import Task

HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'def double(x: int) -> int:\n    """Twice x."""\n',
    "entry_point": "double",
    "canonical_solution": "    return 2 * x\n",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n",
}
MBPP = {
    "task_id": 11,
    "text": "Write a function to sum two numbers.",
    "code": "def sum(a, b):\r\n    return a + b",
    "test_list": ["assert set([sum(1, 2)]) == set([3])", "assert sum(0, 0) == 0"],
    "test_setup_code": "",
    "challenge_test_list": [],
}
OWN = {
    "task_id": "a",
    "prompt": "def f(x):\n",
    "entry_point": "f",
    "reference": "    return x\n",
    "tests": ["assert f(1) == 1", {"code": "assert f(2) == 2", "group": "plus"}],
}


def write(path: Path, *rows: object) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def load(source: str, path: Path, **settings) -> list[Task]:
    return list(TasksConfig(source=source, path=path, **settings).load().tasks)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "reference",
    [
        "from math import gcd\n",
        "try:\n from math import gcd\nexcept ImportError:\n def gcd(a, b): return b and gcd(b, a % b)\n",
        "import math\nif True:\n    gcd = lambda a, b: math.gcd(a, b)\n",
    ],
)
def test_a_reference_may_bind_its_function_by_any_statement(reference: str, tmp_path: Path) -> None:
    row = {"task_id": "a", "prompt": '"""The greatest common divisor."""\n', "entry_point": "gcd"}
    row |= {"reference": reference, "tests": ["assert gcd(4, 6) == 2"]}
    assert load("jsonl", write(tmp_path / "own.jsonl", row))[0].reference == reference


def test_the_function_of_an_mbpp_task_is_its_own_and_none_that_is_imported(tmp_path: Path) -> None:
    code = "from math import isclose, pi\ndef area(r):\n    return pi * r * r"
    row = MBPP | {"code": code, "test_list": ["assert isclose(area(1), 3.14159, rel_tol=1e-3)"]}
    assert load("mbpp", write(tmp_path / "mbpp.jsonl", row))[0].entry_point == "area"


@pytest.mark.parametrize("name", ["he.jsonl", "he.jsonl.gz"])
def test_humaneval(tmp_path: Path, name: str) -> None:
    (task,) = load("humaneval", write(tmp_path / name, HUMANEVAL))
    assert task.prompt == HUMANEVAL["prompt"]
    assert task.reference == HUMANEVAL["canonical_solution"]
    assert task.test_setup == HUMANEVAL["test"]
    assert [test.code for test in task.tests] == ["check(double)"]
    assert (task.split, task.source) == ("test", "humaneval")


def test_mbpp_zero_shot(tmp_path: Path) -> None:
    (task,) = load("mbpp", write(tmp_path / "mbpp.jsonl", MBPP))
    first = MBPP["test_list"][0]
    assert task.prompt == f'"""\nWrite a function to sum two numbers.\n{first}\n"""\n'
    assert task.reference == "def sum(a, b):\n    return a + b\n"
    assert task.entry_point == "sum"
    assert [test.code for test in task.tests] == MBPP["test_list"]
    assert task.task_id == "Mbpp/11"


def test_mbpp_sanitized_names_its_fields_otherwise(tmp_path: Path) -> None:
    row = {**MBPP, "prompt": MBPP["text"], "test_imports": ["import math"]}
    del row["text"], row["test_setup_code"], row["challenge_test_list"]
    path = tmp_path / "sanitized.json"
    path.write_text(json.dumps([row]))
    (task,) = load("mbpp-sanitized", path)
    assert task.test_setup == "import math"
    assert task.source == "mbpp-sanitized"


def test_mbpp_splits_by_id(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.jsonl", *({**MBPP, "task_id": n} for n in (1, 10, 11, 510, 511, 600, 601, 974))
    )
    for split, ids in {
        "prompt": (1, 10),
        "test": (11, 510),
        "validation": (511, 600),
        "train": (601, 974),
    }.items():
        tasks = load("mbpp", path, split=split)
        assert [task.task_id for task in tasks] == [f"Mbpp/{n}" for n in ids]
        assert {task.split for task in tasks} == {split}
    assert len(load("mbpp", path, split="all")) == 8


def test_mbpp_few_shot_is_one_docstring(tmp_path: Path) -> None:
    rows = [{**MBPP, "task_id": n, "text": f"Task number {n}."} for n in (2, 3, 4, 11)]
    path = write(tmp_path / "m.jsonl", *rows)
    (task,) = load("mbpp", path, prompt_mode="few-shot")
    places = [task.prompt.index(f"Task number {n}.") for n in (2, 3, 4, 11)]
    assert places == sorted(places)
    assert all(task.prompt.count(test) == 4 for test in MBPP["test_list"])
    namespace: dict = {}
    exec(task.prompt, namespace)
    assert "sum" not in namespace  # the examples cannot be called
    exec(task.prompt + task.reference, namespace)
    assert namespace["sum"](1, 2) == 3
    shown = {shot.task_id: shot.prompt for shot in load("mbpp", path, prompt_mode="few-shot", split="prompt")}
    assert shown["Mbpp/3"].count("Task number 3.") == 1  # never its own solution
    with pytest.raises(TaskError, match=r"lacks \[4\]"):
        load("mbpp", write(tmp_path / "short.jsonl", rows[0], rows[1], rows[3]), prompt_mode="few-shot")


def test_own_tasks_round_trip(tmp_path: Path) -> None:
    tasks = read_tasks(write(tmp_path / "own.jsonl", OWN, {**OWN, "task_id": "b", "split": "train"}))
    assert [test.group for test in tasks[0].tests] == ["base", "plus"]
    assert [task.split for task in tasks] == ["test", "train"]
    write_tasks(tmp_path / "again.jsonl", tasks)
    assert read_tasks(tmp_path / "again.jsonl") == tasks
    with pytest.raises(TaskError, match="JSONL"):
        write_tasks(tmp_path / "again.json.gz", tasks)


def test_rows_without_a_split_take_the_one_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "own.jsonl", OWN, {**OWN, "task_id": "b", "split": "test"})
    task_set = TasksConfig.model_validate(f"{path}:train").load()
    assert task_set.name == "own:train"
    assert [(task.task_id, task.split) for task in task_set.tasks] == [("a", "train")]
    with pytest.raises(TaskError, match="no task in split 'validation'"):
        TasksConfig(
            source="jsonl", path=write(tmp_path / "t.jsonl", {**OWN, "split": "train"}), split="validation"
        ).load()


@pytest.mark.parametrize(
    ("source", "row", "change", "field", "reason"),
    [
        ("humaneval", HUMANEVAL, {"entry_point": None}, "entry_point", "valid string"),
        ("humaneval", HUMANEVAL, {"entry_point": "triple"}, "entry_point", "does not define 'triple'"),
        (
            "humaneval",
            HUMANEVAL,
            {"canonical_solution": "    return ("},
            "canonical_solution",
            "not valid Python",
        ),
        ("humaneval", HUMANEVAL, {"test": "def check(:"}, "test_setup", "not valid Python"),
        ("mbpp", MBPP, {"task_id": 975}, "task_id", "not an MBPP id"),
        ("mbpp", MBPP, {"test_list": []}, "test_list", "at least 1"),
        ("mbpp", MBPP, {"test_list": ["assert plus(1, 2) == 3"]}, "test_list", "calls nothing"),
        ("mbpp", MBPP, {"code": "def sum(a"}, "code", "not valid Python"),
        ("mbpp", MBPP, {"text": 'with """ in it'}, "code", "not valid Python"),
        ("jsonl", OWN, {"tests": []}, "tests", "at least 1"),
        ("jsonl", OWN, {"refrence": ""}, "refrence", "Extra inputs"),
        ("jsonl", OWN, {"tests": ["assert f(1) =="]}, "tests", "not valid Python"),
        ("jsonl", OWN, {"split": "dev"}, "split", "'train'"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, source, row, change, field, reason) -> None:
    path = write(tmp_path / "rows.jsonl", row, {**row, "task_id": row["task_id"], **change})
    with pytest.raises(TaskError) as caught:
        load(source, path, split="all")
    message = caught.value.message
    assert message.startswith("rows.jsonl:2: field ")
    assert field in message
    assert reason in message


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    row = {key: value for key, value in HUMANEVAL.items() if key != "test"}
    with pytest.raises(TaskError, match=r"rows\.jsonl:1: field 'test': Field required"):
        load("humaneval", write(tmp_path / "rows.jsonl", row))


def test_a_repeated_task_id_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"rows\.jsonl:3: field 'task_id'.*already given at rows\.jsonl:1"):
        read_tasks(write(tmp_path / "rows.jsonl", OWN, {**OWN, "task_id": "b"}, OWN))


def damaged(path: Path) -> Path:
    whole = gzip.compress(json.dumps(OWN).encode() * 50)
    path.write_bytes(whole[: len(whole) // 2])
    return path


def literal(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda d: damaged(d / "t.jsonl.gz"), "cut off"),
        (lambda d: literal(d / "t.jsonl.gz", b'{"task_id": 1}'), "not gzip"),
        (lambda d: literal(d / "t.jsonl", gzip.compress(b"{}")), "not UTF-8"),
        (lambda d: literal(d / "t.jsonl", b'{"task_id": "a"\n'), r"t\.jsonl:1: not JSON"),
        (lambda d: literal(d / "t.jsonl", b"[1]\n"), r"t\.jsonl:1: a row must be a JSON object, not list"),
        (lambda d: literal(d / "t.json", b'{"a": 1}'), "one JSON dict"),
        (lambda d: literal(d / "t.json", b"[1]"), r"t\.json: row 1: a row must be"),
        (lambda d: literal(d / "t.jsonl", b"\n\n"), "no rows"),
        (lambda d: literal(d / "t.csv", b"a,b"), "neither"),
        (lambda d: d / "none.jsonl", "no such file"),
        (lambda d: (d / "dir.jsonl").mkdir() or d / "dir.jsonl", "directory"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, make, reason: str) -> None:
    with pytest.raises(TaskError, match=reason) as caught:
        read_tasks(make(tmp_path))
    assert caught.value.next_step


def test_samples(tmp_path: Path) -> None:
    path = write(
        tmp_path / "s.jsonl.gz",
        {"task_id": "a", "completion": "  x\n"},
        {"task_id": "a", "completion": ""},
        {"task_id": "b", "solution": "def f(): pass\n", "extra": 1},
    )
    assert read_samples(path) == [("a", "  x\n"), ("a", ""), ("b", "def f(): pass\n")]
    with pytest.raises(TaskError, match=r"s\.jsonl:2: field 'completion'.*neither"):
        read_samples(write(tmp_path / "s.jsonl", {"task_id": "a", "completion": "x"}, {"task_id": "a"}))
    with pytest.raises(TaskError, match=r"s\.jsonl:1: field 'task_id'"):
        read_samples(write(tmp_path / "s.jsonl", {"task_id": 1, "completion": "x"}))


HALF = "\ud800"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"cpu_seconds": float("nan")}, "cpu_seconds"),
        ({"cpu_seconds": float("inf")}, "cpu_seconds"),
        ({"cpu_seconds": 0}, "cpu_seconds"),
        ({"cpu_seconds": -1}, "cpu_seconds"),
        ({"difficulty": {"d": float("nan")}}, r"difficulty\.d"),
        ({"difficulty": {"d": [1, {"e": float("-inf")}]}}, r"difficulty\.d"),
        ({"difficulty": {HALF: 1}}, "difficulty"),
        ({"difficulty": {"d": HALF}}, "difficulty"),
        ({"task_id": HALF}, "task_id"),
        ({"prompt": HALF}, "prompt"),
        ({"reference": HALF}, "reference"),
        ({"tests": [HALF]}, "tests"),
        ({"source": HALF}, "source"),
        ({"test_setup": HALF}, "test_setup"),
        ({"reference": "(" * 9000}, r"prompt \+ reference"),
        ({"reference": "    return " + "-" * 9000 + "1\n"}, r"prompt \+ reference"),
        ({"tests": ["-" * 9000 + "1"]}, "tests"),
    ],
)
def test_what_cannot_be_stored_or_parsed_is_named(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    with pytest.raises(TaskError, match=rf"own\.jsonl:2: field '{field}"):
        read_tasks(write(tmp_path / "own.jsonl", {**OWN, "task_id": "first"}, {**OWN, **change}))


def test_a_difficulty_that_is_nested_too_deeply_is_named(tmp_path: Path) -> None:
    row = json.dumps({**OWN, "difficulty": {"d": 0}})
    for depth in (300, 100_000):
        (tmp_path / "own.jsonl").write_text(row.replace('"d": 0', '"d": ' + "[" * depth + "]" * depth) + "\n")
        with pytest.raises(TaskError, match=r"own\.jsonl:1: "):
            read_tasks(tmp_path / "own.jsonl")


def test_samples_keep_what_utf8_cannot_hold(tmp_path: Path) -> None:
    rows = [{"task_id": "a", "completion": f"x{HALF}"}, {"task_id": "b", "completion": "y"}]
    assert read_samples(write(tmp_path / "s.jsonl", *rows)) == [("a", f"x{HALF}"), ("b", "y")]


TEXT = st.text(max_size=8) | st.sampled_from([HALF, "a"])
ROWS = st.dictionaries(
    st.sampled_from([*OWN, "cpu_seconds", "difficulty", "split", "language", "completion", "solution"]),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=8)
        | st.sampled_from([HALF, "a"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=6,
    ),
)


def read_or_refused(path: Path, changes: list[dict[str, Any]], noise: bytes) -> None:
    data = "".join(json.dumps({**OWN, **change}) + "\n" for change in changes).encode() + noise
    path.write_bytes(data)
    for read in (read_tasks, read_samples):
        try:
            read(path)
        except TaskError as error:
            assert path.name in error.message and error.next_step
    with contextlib.suppress(TaskError):
        tasks = read_tasks(path)
        write_tasks(path, tasks)
        assert read_tasks(path) == tasks


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROWS, max_size=3), st.binary(max_size=6) | st.just(b""))
def test_any_row_is_read_or_refused_by_name(
    tmp_path: Path, changes: list[dict[str, Any]], noise: bytes
) -> None:
    read_or_refused(tmp_path / "own.jsonl", changes, noise)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROWS, max_size=3), st.binary(max_size=6) | st.just(b""))
def test_any_row_is_read_or_refused_by_name_often(
    tmp_path: Path, changes: list[dict[str, Any]], noise: bytes
) -> None:
    read_or_refused(tmp_path / "own.jsonl", changes, noise)
