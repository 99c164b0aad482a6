"""Every file of a finished run and cache: damaged anyhow, it gives the same records or an error."""

import contextlib
import gc
import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.logits import made

from codestill.cli import main
from codestill.errors import CodestillError
from codestill.evaluation import read_evaluation
from codestill.files.run_files import SESSIONS, read_accounting, read_config, read_ledger, read_stage
from codestill.files.serialize import read_jsonl, read_object, write_atomic
from codestill.files.usage import read_sessions
from codestill.logits import LogitCache, finish
from codestill.models.completer import Decoding, SamplingConfig
from codestill.recipes.amr_evol.library import Function, Library
from codestill.tasks import read_samples, read_tasks
from codestill.teachers.ledger import Ledger
from codestill.teachers.replay import Replayed
from codestill.types import Attempt, Call, Completion, Event, Request, Task

TASK = {
    "task_id": "é/0",
    "prompt": "def f(x):\n",
    "entry_point": "f",
    "reference": "    return x\n",
    "tests": ["assert f(1) == 1"],
}
DECODING = Decoding(SamplingConfig(max_new_tokens=4), seed=0)
REQUEST = Request(task_id="a", prompt="p")


class Teacher:
    name = "teacher"
    identity: dict[str, Any] = {"teacher": "t"}  # noqa: RUF012
    form = None
    probe = None

    def ask_probe(self, files: Any) -> None:
        raise AssertionError("nothing needs to be found out")

    def complete(self, requests: Any, decoding: Decoding, files: Any = None) -> Iterator[Completion]:
        for request in requests:
            answer = Completion(
                task_id=request.task_id, sample=request.sample, text="an answer\ud83d é", tokens=3
            )
            kept = files(answer)
            write_atomic(kept.path, kept.content)
            yield answer


class Silent(Teacher):
    def complete(self, requests: Any, decoding: Decoding, files: Any = None) -> Iterator[Completion]:
        raise AssertionError("an answer that is kept was asked for again")


def kept_answer(directory: Path) -> list[Completion]:
    return list(Replayed(Silent(), directory).complete([REQUEST], DECODING))


def cached(directory: Path) -> list[Any]:
    cache = LogitCache.open(directory)
    rows = [cache.targets([name], temperature) for name in sorted(cache) for temperature in (1.0, 2.0)]
    arrays = [(one.ids_NK.tolist(), np.exp(one.log_probabilities_NK).tolist()) for one in rows]
    return [cache.manifest, arrays, [cache.tokens(name) for name in sorted(cache)]]


@dataclass
class Read:
    """A file, how it is read, and whether it may lack records at its end, as one that grows may."""

    path: Path
    read: Callable[[], Any]
    grows: bool = False


def evaluated(directory: Path) -> Path:
    """A real run: two samples of two tasks, executed."""
    tasks, samples, run = directory / "tasks.jsonl", directory / "samples.jsonl", directory / "run"
    rows = [TASK, TASK | {"task_id": "b"}]
    tasks.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = [
        {"task_id": row["task_id"], "completion": text}
        for row in rows
        for text in ("    return x\n", "    1\ud800\n")
    ]
    samples.write_text("".join(json.dumps(row) + "\n" for row in answers))
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--samples", str(samples), "--tasks", str(tasks), "--run-dir", str(run)])
    assert ended.value.code == 0
    return run


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Read]:
    directory = tmp_path_factory.mktemp("damage")
    run = evaluated(directory)
    ledger = Ledger(run / "ledger.jsonl")
    for number in range(4):
        ledger.record(
            Call(
                key=f"t#{number}",
                stage="s",
                model="m",
                prompt_tokens=5,
                completion_tokens=number,
                seconds=0.5,
            )
        )
    list(Replayed(Teacher(), directory / "answers").complete([REQUEST], DECODING))
    library = Library(directory / "library")
    library.add("seed", [Function(name="f", signature="(x)", description="Does it.", code="def f(x): ...\n")])
    library.add("wave-1", [])
    made.fill(directory / "cache", made.sequences(4))
    finish(directory / "cache")
    (answer,) = (directory / "answers").rglob("*.json")
    (tasks,) = (run / "tasks").iterdir()
    stage = run / "stages" / "evaluate-student"
    events = run / "metrics.jsonl"
    reads = [
        Read(run / "config.yaml", lambda: read_config(run)),
        Read(run / "environment.json", lambda: read_object(run / "environment.json")),
        Read(run / "results" / "student.json", lambda: read_evaluation(run / "results" / "student.json")),
        Read(stage.with_suffix(".jsonl"), lambda: read_stage(run, "evaluate-student", Attempt)),
        Read(stage.with_suffix(".json"), lambda: read_stage(run, "evaluate-student", Attempt)),
        Read(tasks, lambda: list(read_jsonl(tasks, Task, whole=True))),
        Read(tasks, lambda: read_tasks(tasks)),
        Read(run / "samples" / "student.jsonl", lambda: read_samples(run / "samples" / "student.jsonl")),
        Read(events, lambda: list(read_jsonl(events, Event)), grows=True),
        Read(run / SESSIONS, lambda: read_sessions(run), grows=True),
        Read(ledger.path, lambda: list(read_ledger(ledger.path)), grows=True),
        Read(answer, lambda: kept_answer(directory / "answers")),
        *(
            Read(path, lambda: Library(directory / "library").functions)
            for path in sorted((directory / "library").glob("*.json*"))
        ),
        *(
            Read(path, lambda: cached(directory / "cache"))
            for path in sorted((directory / "cache").iterdir())
            if path.name != "capture.json"
        ),
    ]
    if (run / "accounting.json").exists():
        reads.append(Read(run / "accounting.json", lambda: read_accounting(run)))
    assert len(reads) > 12 and all(one.path.stat().st_size for one in reads)
    return reads


def flip(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    bit = chance.randrange(8 * len(data))
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def splice(data: bytes, chance: random.Random) -> bytes:
    """A piece is lost, repeated, put elsewhere or overwritten; often at the borders of lines."""
    borders = [0, len(data), *(at + 1 for at, byte in enumerate(data) if byte == 10)]
    start, end = sorted(
        chance.choice(borders) if chance.random() < 0.5 else chance.randrange(len(data) + 1) for _ in range(2)
    )
    piece, at = data[start:end], chance.choice(borders)
    return chance.choice(
        [
            data[:start] + data[end:],
            data[:end] + piece + data[end:],
            data[:at] + piece + data[at:],
            data[:start] + chance.randbytes(end - start) + data[end:],
            data[:start] + bytes(end - start) + data[end:],
            piece,
        ]
    )


def read_damaged(one: Read, harm: Callable[[bytes, random.Random], bytes], count: int, seed: int) -> int:
    """How often damage was noticed."""
    data, expected, chance = one.path.read_bytes(), one.read(), random.Random(f"{one.path.name} {seed}")
    noticed = 0
    try:
        for number in range(count):
            if number % 200 == 199:
                gc.collect()  # shards of a cache stay mapped until then
            damaged = harm(data, chance)
            if harm is splice and "answers" in one.path.parts and b'"checksum"' not in damaged:
                continue  # as answers of earlier versions, which were paid for, it is taken as it is
            one.path.write_bytes(damaged)
            try:
                found = one.read()
            except CodestillError as error:
                assert error.next_step and one.path.parent.name in str(error) + str(one.path.parent)
                noticed += 1
                continue
            if one.grows and harm is not flip:
                found, known = list(found), list(expected)
                assert found == known[: len(found)], (one.path, damaged)
            else:
                assert found == expected, (one.path, damaged)
    finally:
        one.path.write_bytes(data)
    return noticed


@pytest.mark.parametrize("harm", [flip, cut, splice])
def test_damage_is_noticed_or_changes_nothing(files: list[Read], harm: Any) -> None:
    for one in files:
        noticed = read_damaged(one, harm, 15, seed=0)
        if harm is flip and one.path.name not in ("student.jsonl", "tasks-all.jsonl"):
            assert noticed == 15, f"{one.path}: {noticed}"


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("harm", [flip, cut, splice])
def test_much_damage_is_noticed_or_changes_nothing(files: list[Read], harm: Any) -> None:
    for one in files:
        read_damaged(one, harm, 3000, seed=1)


GARBAGE = (b"", b"{}", b"[1", b"\xff\xfe", b"null", b"{}\n{}", b"\x00" * 500, b'{"checksum":"0123"}')


def test_garbage_is_named_with_what_to_do(files: list[Read]) -> None:
    for one in files:
        data, expected = one.path.read_bytes(), one.read()
        for garbage in GARBAGE:
            for ending in (b"", b"\n"):
                one.path.write_bytes(garbage + ending)
                with contextlib.suppress(CodestillError):
                    assert one.read() == expected or (one.grows and not one.read())
        one.path.write_bytes(data)


def test_a_damaged_run_ends_with_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = evaluated(tmp_path)
    samples, tasks = str(tmp_path / "samples.jsonl"), str(tmp_path / "tasks.jsonl")
    for name, garbage in {
        "config.yaml": b"\xff",
        "results/student.json": b"{}",
        "stages/evaluate-student.jsonl": b"",
        "stages/evaluate-student.json": b"{}",
        "tasks/tasks-all.jsonl": b"\xff\n",
    }.items():
        shutil.copytree(run, tmp_path / "copy")
        (tmp_path / "copy" / name).write_bytes(garbage)
        with pytest.raises(SystemExit) as ended:
            main(["evaluate", "--samples", samples, "--tasks", tasks, "--run-dir", str(tmp_path / "copy")])
        assert ended.value.code == 2, name
        said = capsys.readouterr().err
        assert Path(name).name in said and "\n  " in said, said
        shutil.rmtree(tmp_path / "copy")
