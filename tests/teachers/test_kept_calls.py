"""A call stands in the ledger exactly when its answer is kept, wherever the process is killed."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.teachers import endpoint
from tests.teachers.endpoint import Server, serving

from codestill.errors import RunError, TeacherError
from codestill.files.serialize import append_jsonl, read_jsonl, write_atomic
from codestill.models import Decoding, SamplingConfig
from codestill.teachers import ApiTeacherConfig, ledger
from codestill.teachers.ledger import Ledger
from codestill.teachers.replay import Replayed
from codestill.types import Call, Request

# The server's thread is of no use to a forked process, which only calls it.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
DECODING = Decoding(SamplingConfig(max_new_tokens=50))
KEYS = [f"t/{n}#0" for n in range(4)]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


def kept(url: str, directory: Path, concurrency: int = 1, **settings: Any) -> Replayed:
    config = {"model": "big", "base_url": url, "concurrency": concurrency, "timeout_seconds": 5, **settings}
    teacher = ApiTeacherConfig.model_validate(config).build()
    teacher.ledger = Ledger(directory / "run" / "ledger.jsonl")
    return Replayed(teacher, directory / "answers")


def ask(one: Replayed, decoding: Decoding = DECODING) -> Iterator[Any]:
    return one.complete([Request(task_id=f"t/{n}", prompt=f"say {n}") for n in range(4)], decoding)


def entered(directory: Path) -> list[str]:
    path = directory / "run" / "ledger.jsonl"
    return sorted(call.key for call in read_jsonl(path, Call)) if path.exists() else []


def answer_files(directory: Path) -> list[Path]:
    return sorted((directory / "answers").glob("*/*.json"))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(function: Callable[..., None], number: int, suffix: str) -> Callable[..., None]:
    """Killed before the call with this number for files with this suffix."""
    calls = 0

    def killed(path: Path, *rest: Any) -> None:
        nonlocal calls
        calls += path.name.endswith(suffix)
        if calls == number:
            die()
        function(path, *rest)

    return killed


def torn(function: Callable[..., None], number: int) -> Callable[..., None]:
    """Killed in the middle of a line."""
    calls = 0

    def killed(path: Path, records: Any) -> None:
        nonlocal calls
        calls += 1
        function(path, records)
        if calls == number:
            os.truncate(path, path.stat().st_size - 20)
            die()

    return killed


def unlinks(number: int) -> None:
    calls, unlink = 0, Path.unlink

    def killed(path: Path, missing_ok: bool = False) -> None:
        nonlocal calls
        calls += path.name.endswith("entering.json")
        if calls == number:
            die()
        unlink(path, missing_ok)

    Path.unlink = killed  # type: ignore[method-assign]


def run(url: str, directory: Path, moment: str) -> None:
    """The process that is killed at the third answer."""
    if moment == "nothing is written":
        ledger.write_atomic = before(write_atomic, 3, "entering.json")
    elif moment == "the answer is not written":
        # Two files of answers are written before; that of the third is not.
        ledger.write_atomic = only_answers(before(write_atomic, 3, ""))
    elif moment == "the line is not written":
        ledger.append_jsonl = before(append_jsonl, 3, ".jsonl")
    elif moment == "half of the line is written":
        ledger.append_jsonl = torn(append_jsonl, 3)
    else:
        unlinks(3)
    list(ask(kept(url, directory)))


def only_answers(function: Callable[..., None]) -> Callable[..., None]:
    return lambda path, text: (write_atomic if path.name.endswith("entering.json") else function)(path, text)


@pytest.mark.parametrize(
    ("moment", "saved"),
    [
        ("nothing is written", 2),
        ("the answer is not written", 3),
        ("the line is not written", 3),
        ("half of the line is written", 3),
        ("everything is written", 3),
    ],
)
def test_wherever_the_process_is_killed_ledger_and_answers_agree(
    moment: str, saved: int, server: Server, tmp_path: Path
) -> None:
    process = multiprocessing.get_context("fork").Process(target=run, args=(server.url, tmp_path, moment))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    asked = len(server.asked)
    assert asked == 3
    resumed = kept(server.url, tmp_path)
    assert entered(tmp_path) == KEYS[:saved] and len(answer_files(tmp_path)) == saved
    assert not list(tmp_path.glob("run/*entering*"))
    assert sorted(done.key for done in ask(resumed)) == KEYS
    assert len(server.asked) == asked + 4 - saved  # what was received is not paid for twice
    assert entered(tmp_path) == KEYS and len(answer_files(tmp_path)) == 4
    assert Ledger(tmp_path / "run" / "ledger.jsonl").spent.calls == 4


def test_a_moved_run_is_completed_where_it_is_now(server: Server, tmp_path: Path) -> None:
    moment = "the answer is not written"
    process = multiprocessing.get_context("fork").Process(
        target=run, args=(server.url, tmp_path / "old", moment)
    )
    process.start()
    process.join(60)
    (tmp_path / "old").rename(tmp_path / "new")
    kept(server.url, tmp_path / "new")
    assert len(answer_files(tmp_path / "new")) == len(entered(tmp_path / "new")) == 3
    assert not (tmp_path / "old").exists()


def test_answers_of_calls_in_flight_are_kept_when_nobody_waits(server: Server, tmp_path: Path) -> None:
    """Whoever reads the answers stops after the first; three more calls are under way."""

    def slow(handler: endpoint.Handler, asked: dict[str, Any], before: int) -> None:
        everyone.wait(10)
        time.sleep(0.0 if endpoint.said(asked) == "say 0" else 0.3)
        endpoint.behaves(handler, asked, before)

    everyone, server.behave = threading.Barrier(4), slow
    arriving = ask(kept(server.url, tmp_path, concurrency=4))
    assert next(arriving).key == "t/0#0"
    arriving.close()  # type: ignore[attr-defined]
    assert entered(tmp_path) == KEYS and len(answer_files(tmp_path)) == 4
    assert len(list(ask(kept(server.url, tmp_path)))) == len(server.asked) == 4


def exits_after_one_answer(url: str, directory: Path) -> None:
    arriving = ask(kept(url, directory, concurrency=2))
    HELD.append(arriving)  # nobody closes it
    next(arriving)
    raise SystemExit(3)


HELD: list[Any] = []


def test_a_process_that_ends_awaits_the_calls_in_flight(server: Server, tmp_path: Path) -> None:
    def slow(handler: endpoint.Handler, asked: dict[str, Any], before: int) -> None:
        time.sleep(0.0 if endpoint.said(asked) == "say 0" else 1.0)
        endpoint.behaves(handler, asked, before)

    server.behave = slow
    process = multiprocessing.get_context("fork").Process(
        target=exits_after_one_answer, args=(server.url, tmp_path)
    )
    process.start()
    process.join(60)
    assert process.exitcode == 3
    assert entered(tmp_path) == KEYS[:3] and len(answer_files(tmp_path)) == len(server.asked) == 3


def test_a_damaged_note_of_a_call_is_named(server: Server, tmp_path: Path) -> None:
    write_atomic(tmp_path / "run" / "ledger.entering.json", "{")
    with pytest.raises(RunError, match=r"ledger\.entering\.json does not end with a checksum"):
        kept(server.url, tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "does not end with a checksum"),
        ("[]", "does not end with a checksum"),
        ('{"tokens": "x"}\n', "is not a kept answer: text: Field required"),
        ("{]}\n", "is not JSON"),
        ("\udcff", "does not end with a checksum"),
    ],
)
def test_a_damaged_answer_is_named(text: str, said: str, server: Server, tmp_path: Path) -> None:
    list(ask(kept(server.url, tmp_path)))
    path = answer_files(tmp_path)[0]
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(TeacherError, match=f"{path.name} {said}"):
        list(ask(kept(server.url, tmp_path)))
    path.unlink()
    assert len(list(ask(kept(server.url, tmp_path)))) == 4 and len(server.asked) == 5


def test_a_full_disk_loses_no_other_answer(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second answer cannot be written; of four calls in flight, the other three are kept."""

    def full(path: Path, text: str) -> None:
        if "SAY 1" in text:
            raise OSError(28, "No space left on device")
        write_atomic(path, text)

    everyone = threading.Barrier(4)

    def together(handler: endpoint.Handler, asked: dict[str, Any], before: int) -> None:
        everyone.wait(10)
        time.sleep(0.0 if endpoint.said(asked) == "say 1" else 0.3)
        endpoint.behaves(handler, asked, before)

    server.behave = together
    monkeypatch.setattr(ledger, "write_atomic", full)
    with pytest.raises(OSError, match="No space"):
        list(ask(kept(server.url, tmp_path, concurrency=4)))
    assert entered(tmp_path) == ["t/0#0", "t/2#0", "t/3#0"] and len(answer_files(tmp_path)) == 3


@pytest.mark.parametrize(("omit", "calls"), [([], 4), (["temperature"], 8)])
def test_seeds_share_what_is_not_sampled(omit: list[str], calls: int, server: Server, tmp_path: Path) -> None:
    for seed in (1, 2):
        assert len(list(ask(kept(server.url, tmp_path, omit=omit), replace(DECODING, seed=seed)))) == 4
    assert len(server.asked) == calls


def test_greedy_answers_that_were_kept_under_a_seed_are_not_paid_for_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As earlier versions kept them."""
    seeded = replace(DECODING, seed=3)
    with monkeypatch.context() as before:
        before.setattr(Replayed, "_samples", lambda *_: True)
        first = list(ask(kept(server.url, tmp_path), seeded))
    assert list(ask(kept(server.url, tmp_path), seeded)) == first
    assert len(server.asked) == 4
