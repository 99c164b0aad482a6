"""Canonical JSON, JSONL that survives kills, seeds."""

import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from codestill.errors import LogitsError, RunError
from codestill.files.serialize import (
    append_jsonl,
    cut_torn_line,
    fingerprint,
    read_jsonl,
    read_object,
    read_record,
    seed_for,
    sweep,
    to_json,
    write_atomic,
    write_jsonl,
    write_object,
)
from codestill.types import Completion, Event, Task, Test

FORK = multiprocessing.get_context("fork")


def completion(number: int, text: str = "é\n") -> Completion:
    return Completion(task_id=f"t/{number}", sample=0, text=text)


def test_equal_values_give_equal_bytes() -> None:
    assert to_json({"b": 1, "a": [1.5, "é", None]}) == '{"a":[1.5,"é",null],"b":1}'
    assert to_json({"a": [1.5, "é", None], "b": 1}) == to_json({"b": 1, "a": (1.5, "é", None)})
    assert fingerprint({"b": 1, "a": 2}) == fingerprint({"a": 2, "b": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 1.5}) != fingerprint({"a": "1.5"})


def test_records_nest_in_values() -> None:
    one = completion(1)
    assert to_json([one]) == f"[{to_json(one)}]"
    assert fingerprint(one) == fingerprint(one.model_dump(mode="json"))


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [-math.inf]}, {1, 2}, b"x"])
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="no canonical JSON form"):
        to_json(value)


def test_a_metric_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(TypeError, match="no canonical JSON form"):
        to_json(Event(stage="train", metrics={"loss": math.nan}))


def test_a_seed_depends_on_seed_and_key_alone() -> None:
    # Stored samples depend on these numbers: a change would break every run directory.
    assert seed_for(0, "HumanEval/0#0") == 7575430706039568071
    assert seed_for(1, "HumanEval/0#0") == 4827443882177333726
    assert len({seed_for(seed, str(key)) for seed in range(10) for key in range(100)}) == 1000
    assert seed_for(1, "1x") != seed_for(11, "x")  # the parts do not run together
    assert all(0 <= seed_for(0, str(key)) < 2**63 for key in range(100))


def test_lines_come_back_as_they_went(tmp_path: Path) -> None:
    path = tmp_path / "below" / "records.jsonl"
    records = [completion(1, "one\r\ntwo\u2028three"), completion(2, "𝄞"), completion(3, "")]
    append_jsonl(path, records[:1])
    append_jsonl(path, records[1:])
    assert list(read_jsonl(path, Completion)) == records


def test_a_line_torn_anywhere_is_left_out_and_can_be_cut(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    append_jsonl(path, [completion(1), completion(2, "é𝄞")])
    data = path.read_bytes()
    first = data.index(b"\n") + 1
    for length in range(first, len(data)):  # also within a character of several bytes
        path.write_bytes(data[:length])
        assert list(read_jsonl(path, Completion)) == [completion(1)]
        cut_torn_line(path)
        assert path.read_bytes() == data[:first]
    cut_torn_line(tmp_path / "absent")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            {"task_id": "a", "sample": -1.5, "text": ""},
            "is not a Completion: sample: Input should be a valid int",
        ),
        ({"task_id": "a", "sample": 0}, "is not a Completion: text: Field required"),
        (
            {"task_id": "a", "sample": 0, "text": "", "txt": ""},
            "is not a Completion: txt: Extra inputs are not",
        ),
    ],
)
def test_a_line_of_something_else_is_named(tmp_path: Path, line: dict[str, Any], reason: str) -> None:
    path = tmp_path / "records.jsonl"
    append_jsonl(path, [completion(1), line])
    with pytest.raises(RunError, match=f"{path}:2 {reason}") as caught:
        list(read_jsonl(path, Completion))
    assert "another run directory" in caught.value.next_step


@pytest.mark.parametrize(
    "line",
    [
        b'{"task_id":"a","sample":0,"text":""}',
        b'{"task_id":"a",',
        b'{"task_id":"\xff","sample":0,"text":"","checksum":"0123456789abcdef"}',
        b'{"task_id":"a","sample":0,"text":"","checksum":"0123456789abcdef"}',
        b"[1]",
        b"",
        b"\x00\xff" * 40,
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "records.jsonl"
    append_jsonl(path, [completion(1)])
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(RunError, match=rf"{path}:2 does not (fit its|end with a) checksum"):
        list(read_jsonl(path, Completion))


def test_lines_that_are_lost_repeated_or_exchanged_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    append_jsonl(path, map(completion, range(4)))
    a, b, c, d = path.read_bytes().splitlines(keepends=True)
    for lines in ([b, c, d], [a, c, d], [a, a, b, c, d], [a, b, d, c], [a, b, c, d, a], [a, b, c, d, d]):
        path.write_bytes(b"".join(lines))
        with pytest.raises(RunError, match="the line before it"):
            list(read_jsonl(path, Completion))
    path.write_bytes(a + b)  # what a kill leaves
    assert list(read_jsonl(path, Completion)) == [completion(0), completion(1)]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_whole_file_that_was_cut_is_noticed(tmp_path: Path, count: int) -> None:
    path = tmp_path / "records.jsonl"
    write_jsonl(path, map(completion, range(count)))
    assert list(read_jsonl(path, Completion, whole=True)) == list(map(completion, range(count)))
    assert list(read_jsonl(path, Completion)) == list(map(completion, range(count)))
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(RunError, match=str(path)):
            list(read_jsonl(path, Completion, whole=True))
    path.write_bytes(data)
    append_jsonl(path, [completion(9)])
    with pytest.raises(RunError, match="goes on after its end"):
        list(read_jsonl(path, Completion))


def test_a_line_whose_newline_was_lost_is_not_taken_for_torn(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    append_jsonl(path, [completion(1), completion(2)])
    damaged = path.read_bytes()[:-1] + b"\x0b"
    path.write_bytes(damaged)
    cut_torn_line(path)
    assert path.read_bytes() == damaged
    with pytest.raises(RunError, match=":2 does not end with a checksum"):
        list(read_jsonl(path, Completion))


def test_what_is_appended_later_and_by_threads_makes_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: append_jsonl(path, [completion(number)]), range(200)))
    found = [one.task_id for one in read_jsonl(path, Completion)]
    assert sorted(found) == sorted(f"t/{number}" for number in range(200))


def test_sealed_lines_are_json_for_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    write_jsonl(path, [completion(1), completion(2)])
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [{**row, "checksum": ""} for row in rows] == [
        completion(number).model_dump() | {"checksum": ""} for number in (1, 2)
    ]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("value", [{}, {"a": 1}, {"b": {"checksum": "x"}, "a": "}\n"}])
def test_an_object_comes_back_and_no_byte_of_it_may_change(
    tmp_path: Path, value: dict[str, Any], indent: int | None
) -> None:
    path = tmp_path / "object.json"
    write_object(path, value, indent)
    assert read_object(path) == value
    data = path.read_bytes()
    json.loads(data)
    for damaged in [
        *(flipped(data, bit) for bit in range(8 * len(data))),
        data[:-1],
        data + b"\n",
        data + data,
    ]:
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=str(path)):
            read_object(path)
        with pytest.raises(LogitsError, match=str(path)):
            read_object(path, error=LogitsError)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"{tmp_path} cannot be read: Is a directory"):
        read_object(tmp_path)
    with pytest.raises(RunError, match="cannot be read"):
        list(read_jsonl(tmp_path, Completion))


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


HALF = "a\ud83d b \udc80 é𝄞"


def test_half_a_surrogate_pair_is_stored_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    append_jsonl(path, [completion(1, HALF), completion(2)])
    assert list(read_jsonl(path, Completion)) == [completion(1, HALF), completion(2)]
    write_object(path, completion(1, HALF))
    assert read_record(path, Completion) == completion(1, HALF)
    assert fingerprint(HALF) != fingerprint(HALF.replace("\udc80", "\udc81"))
    assert fingerprint({"a": "é𝄞"}) == "5202285a0287f013"  # what UTF-8 can hold is as it ever was
    assert seed_for(0, HALF) != seed_for(0, HALF[:-1])
    assert to_json("\ud83d\ude00") == '"😀"'  # two halves are what they are when the JSON is read
    write_atomic(path, HALF)
    assert path.read_text() == "a\\ud83d b \\udc80 é𝄞"


def test_what_is_nested_too_deeply_has_no_json(tmp_path: Path) -> None:
    value: Any = 0
    for _ in range(5000):
        value = [value]
    with pytest.raises(TypeError, match="no canonical JSON form"):
        to_json(value)
    with pytest.raises(TypeError, match="no canonical JSON form"):
        to_json(
            Task(task_id="a", prompt="p", entry_point="f", reference="", tests=(Test(code="1"),)).model_copy(
                update={"difficulty": {"d": value}}
            )
        )


def test_what_killed_writers_left_is_swept(tmp_path: Path) -> None:
    mine, deep = tmp_path / ".notes.tmp", tmp_path / "below" / ".a.json.12-345.tmp"
    write_atomic(tmp_path / "below" / "a.json", "kept")
    for path in (mine, deep):
        path.write_text("")
    sweep(tmp_path)
    assert mine.exists() and not deep.exists()
    assert (tmp_path / "below" / "a.json").read_text() == "kept"
    sweep(tmp_path / "absent")


def test_a_writer_whose_file_is_swept_writes_it_again(tmp_path: Path) -> None:
    """Sweeps and writes by real processes, all the time."""
    going = FORK.Event()

    def write() -> None:
        for number in range(300):
            write_atomic(tmp_path / "file", str(number))

    def sweep_on() -> None:
        while not going.is_set():
            sweep(tmp_path)

    processes = [FORK.Process(target=target) for target in (sweep_on, write, write)]
    for process in processes:
        process.start()
    for process in processes[1:]:
        process.join(60)
    going.set()
    processes[0].join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "file").read_text() == "299"
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208


KILLED = """
import os, signal, sys
from pathlib import Path
from codestill.files.serialize import write_atomic
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
setattr(Path, "replace", die) if sys.argv[2] == "rename" else setattr(os, "fsync", die)
write_atomic(Path(sys.argv[1]), "new")
"""


@pytest.mark.parametrize("moment", ["rename", "fsync"])
def test_a_kill_while_writing_leaves_the_old_file(tmp_path: Path, moment: str) -> None:
    path = tmp_path / "file"
    write_atomic(path, "old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), moment], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    write_atomic(path, "new")
    assert path.read_text() == "new"


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, "old")
    with pytest.raises(TypeError):
        write_atomic(path, [])  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208
