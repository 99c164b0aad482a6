"""Canonical JSON, JSONL that survives kills, seeds."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from codestill.errors import RunError
from codestill.serialize import (
    append_jsonl,
    cut_torn_line,
    fingerprint,
    read_jsonl,
    seed_for,
    to_json,
    write_atomic,
)
from codestill.types import Completion, Event


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
    ("line", "field", "reason"),
    [
        (b'{"task_id":"a","sample":-1.5,"text":""}', "sample", "integer"),
        (b'{"task_id":"a","sample":0}', "text", "required"),
        (b'{"task_id":"a","sample":0,"text":"","txt":""}', "txt", "not permitted"),
        (b'{"task_id":"a",', "the line", "JSON"),
        (b'{"task_id":"\xff","sample":0,"text":""}', "the line", "JSON"),
        (b"", "the line", "JSON"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, field: str, reason: str) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(to_json(completion(1)).encode() + b"\n" + line + b"\n")
    with pytest.raises(RunError) as caught:
        list(read_jsonl(path, Completion))
    message = str(caught.value)
    assert f"{path}:2 is not a Completion: {field}: " in message
    assert reason in message
    assert "another run directory" in caught.value.next_step


KILLED = """
import os, signal, sys
from pathlib import Path
from codestill.serialize import write_atomic
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
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "\ud800")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208
